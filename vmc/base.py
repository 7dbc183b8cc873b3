"""The contracts of the solver: every protocol that a new part plugs into.

Shape legend, quoted by every docstring of the project:

====  =====================================================================
N     sites
B     walkers (or samples) on this device
T     draws per chain
K     moves in a table
k     sites changed by one move (padded)
M     hidden units
P     real or complex parameters
Ns    samples over all devices
====  =====================================================================

``sigma`` is int8 of shape (B, N).  A spin 1/2 takes the values +1 (up) and -1
(down); a general spin S takes 2m = -2S, -2S+2, ..., 2S.  Samples are (T, B, N).

Log amplitudes are complex with the imaginary part understood modulo 2 pi; a
wave function whose ``range`` is ``"positive"`` returns them as real arrays, so
that everything downstream runs in real arithmetic.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

Key: TypeAlias = Array
Params: TypeAlias = Any
Cache: TypeAlias = Any
Pending: TypeAlias = Any
Chains: TypeAlias = Any

#: Name of the one mesh axis: walkers.
WALKERS = "w"


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Move:
    """One change of configuration, the same for every walker.

    Attributes:
        sites: int32 (k,), the sites that change, padded with N.
        shift: int8 (k,), new local index = (old + shift) mod d; a spin 1/2
            flips with shift 1.  Padding entries carry 0.
        exchange: see `Moves`.
    """

    sites: Array
    shift: Array
    exchange: bool = dataclasses.field(default=False, metadata={"static": True})


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Moves:
    """A static table of K moves, shared by proposals and matrix elements.

    Attributes:
        sites: int32 (K, k), padded with N (dropped on scatter).
        shift: int8 (K, k), see `Move`.
        exchange: True if every move flips exactly two spins 1/2 that are
            antiparallel wherever the move is allowed.  A wave function may use
            it to halve its work; its ratios on aligned pairs are then
            unspecified finite numbers, which the caller masks.
    """

    sites: Array | np.ndarray
    shift: Array | np.ndarray
    exchange: bool = dataclasses.field(default=False, metadata={"static": True})

    @property
    def n_moves(self) -> int:
        """K, the number of moves in the table."""
        return self.sites.shape[0]

    def __getitem__(self, m: Any) -> Move:
        """Row ``m`` (which may be a traced integer)."""
        sites, shift = jnp.asarray(self.sites), jnp.asarray(self.shift)
        return Move(sites[m], shift[m], self.exchange)


class Space(Protocol):
    """The configurations of N sites, possibly inside a conserved sector."""

    @property
    def n_sites(self) -> int:
        """N."""
        ...

    @property
    def local_dims(self) -> tuple[int, ...]:
        """Number of local states of each site (2 for a spin 1/2)."""
        ...

    def random(self, bits: Array) -> Array:
        """Random words, uint32 (N, B), as uniform configurations, int8 (B, N)."""
        ...

    def allows(self, sigma: Array, moves: Moves) -> Array:
        """Whether each move stays inside the sector: bool (K, B)."""
        ...


class Hamiltonian(Protocol):
    """A Hermitian operator as a table of moves.  A pytree: couplings are leaves."""

    @property
    def space(self) -> Space:
        """The configurations that it acts on."""
        ...

    @property
    def moves(self) -> Moves:
        """All off-diagonal moves; terms with equal (sites, shift) are merged."""
        ...

    def diagonal(self, sigma: Array) -> Array:
        """<sigma|H|sigma>, real (B,), for sigma (B, N)."""
        ...

    def elements(self, sigma: Array) -> Array:
        """<sigma|H|sigma moved by m>, (K, B), exactly 0 where forbidden."""
        ...


#: Factors of one leaf of the score matrix: arrays (B, G, n_1), (B, G, n_2), ...
#: The rows of the leaf are their outer products,
#: O[b, (g, i, j, ...)] = f_1[b, g, i] f_2[b, g, j] ...,
#: in the memory order of the parameter leaf (of G * n_1 * n_2 * ... numbers).
#: A dense leaf has one factor (B, 1, n).
ScoreFactors: TypeAlias = tuple[Array, ...]


class Exact(NamedTuple):
    """What the structure of a wave function gives without a Markov chain.

    Each entry may be None.

    Attributes:
        sample: (params, words uint32 (N, B)) -> (sigma (B, N), log_prob (B,)),
            independent draws of |psi|^2 over the space of the problem (None where
            they would leave its sector), a pure function of one random word per site
            and walker.  A third argument ``allowed``, bool
            (N, M), conditions on local states (index 0 is the largest value): one
            state of a site clamps it.
        log_norm: params -> ln <psi|psi>; with ``allowed``, ln of its weight.
        purity: (params, region) -> Tr rho_region^2 of the normalised state.
        spectrum: (params, region) -> eigenvalues of rho_region, largest first.
        product_mean: (params, sites int (T, k), concrete and padded with N, matrices
            (T, k, M, M)) -> <psi| O_1 ... O_k |psi> / <psi|psi> of T products of
            one-site operators on different sites, (T,).  M is the largest local
            dimension; rows (bra) and columns (ket) start at the largest value.
    """

    sample: Callable[..., tuple[Array, Array]] | None = None
    log_norm: Callable[..., Array] | None = None
    purity: Callable[..., Array] | None = None
    spectrum: Callable[..., Array] | None = None
    product_mean: Callable[..., Array] | None = None


class Capacity(NamedTuple):
    """How much entanglement a wave function can carry across one cut.

    Logarithms (nats) of the Schmidt rank across the cut; ``ln_lower`` and
    ``ln_predicted`` hold for almost all parameters, ``ln_upper`` for all.

    Attributes:
        ln_upper: no parameters exceed it.
        ln_predicted: what generic parameters have, as far as is known.
        ln_lower: what generic parameters have at least, by a theorem; 0 if none is.
        method: how it was found: "tree", "max-flow", "light cone", "monomials",
            "composition" or "trivial".
        cut: names of the indices that form the minimal cut.
    """

    ln_upper: float
    ln_predicted: float
    ln_lower: float
    method: str
    cut: tuple[str, ...] = ()


class WaveFunction(NamedTuple):
    """What the engine sees of an ansatz.  Every function is batched and pure.

    The ansatz owns the memory layout of its cache.  Parameters are either all
    real, or all complex; then log psi must be holomorphic in them
    (``vmc.wavefunction`` splits other modules into real pairs).

    Attributes:
        init: key -> params.
        log_psi: (params, sigma) -> log psi, (B,).
        cache: (params, sigma) -> cache, an opaque pytree of what is worth
            keeping between moves.
        log_ratios: (params, cache, sigma, moves, wanted=None) -> log psi(moved) -
            log psi, (K, B); a real part of -inf contributes exactly 0.  Where wanted,
            bool (K, B), is False, any finite number will do: full evaluations can
            be saved there.
        try_move: (params, cache, sigma, move) -> (log |psi(moved)/psi|^2,
            real (B,), pending).
        commit: (cache, pending, accept bool (B,)) -> cache.
        scores: (params, sigma) -> d log psi / d theta, a pytree of the structure
            of params whose leaves are replaced by `ScoreFactors`.
        range: values that psi takes; drives real arithmetic and the sign guard.
        exact: what the structure gives for free, or None.
        capacity: sites of one side of a cut -> `Capacity`, or None where nothing
            better than min(|A|, |B|) ln d is known.
        walk: (params, sigma, sites (n, k), words uint32 (n, B), fixed_sz=,
            interpret=) -> (sigma, what log |psi|^2 has gained (B,), accepted moves):
            n flips of spins 1/2 in one kernel of a GPU, as `vmc.metropolis` makes
            them; or None.  Sites of N change nothing; a row that starts with one is
            refused.
    """

    init: Callable[[Key], Params]
    log_psi: Callable[[Params, Array], Array]
    cache: Callable[[Params, Array], Cache]
    log_ratios: Callable[..., Array]
    try_move: Callable[[Params, Cache, Array, Move], tuple[Array, Pending]]
    commit: Callable[[Cache, Pending, Array], Cache]
    scores: Callable[[Params, Array], Any]
    range: Literal["positive", "real", "complex"]
    exact: Exact | None = None
    capacity: Callable[[tuple[int, ...]], Capacity] | None = None
    walk: Callable[..., tuple[Array, Array, Array]] | None = None


class Problem(NamedTuple):
    """What an ansatz factory may know of the problem; plain host data.

    A registered factory has the signature ``factory(problem, **keys)`` and returns
    a `WaveFunction`; its keyword arguments are the keys of ``[ansatz]``.

    Attributes:
        space: the configurations.
        dtype: "real" (psi may be taken positive: the gauged Hamiltonian is
            stoquastic) or "complex".
        precision: "float32" or "float64", of amplitudes and parameters.
        spin_flip: True if the global spin flip commutes with the Hamiltonian.
        symmetry: int (G, N) site permutations of a group under which psi is to be
            invariant, psi(sigma) = psi(sigma[perm]), or None.
        characters: (G,) numbers chi_g of modulus 1, a one-dimensional representation
            of ``symmetry``: psi(sigma[perm_g]) = chi_g psi(sigma). None: all 1.
        flip_character: +1 or -1, psi(-sigma) / psi(sigma) where ``spin_flip``.
        shape: extent of the grid of unit cells, or None without a lattice.
        periodic: one flag per direction of ``shape``.
    """

    space: Space
    dtype: Literal["real", "complex"] = "complex"
    precision: Literal["float32", "float64"] = "float64"
    spin_flip: bool = False
    symmetry: np.ndarray | None = None
    shape: tuple[int, ...] | None = None
    periodic: tuple[bool, ...] = ()
    characters: np.ndarray | None = None
    flip_character: int = 1


class SamplerInfo(NamedTuple):
    """Diagnostics of one call of a sampler, on this device.

    Attributes:
        acceptance: accepted / proposed moves, real scalar.
        drift: largest |Re log psi(cached) - Re log psi(recomputed)| over the
            walkers; 0 for samplers without a cache.
        log_psi: Re log psi of the last draw, real (B,).
        weights: None for samples of |psi|^2; else (T, B), of sum 1 over all devices.
        others: samples (T, B, N) and weights of other states that were drawn as well,
            see `vmc.penalties`; or None.
    """

    acceptance: Array
    drift: Array
    log_psi: Array
    weights: Array | None = None
    others: tuple[tuple[Array, Array | None], ...] | None = None


class Sampler(NamedTuple):
    """Draws configurations from |psi|^2.  Runs inside ``shard_map`` over walkers.

    Attributes:
        init: (key, params) -> chains: independent random starts and, if asked for,
            burn-in.
        sample: (key, params, chains) -> (chains, samples (T, B, N), `SamplerInfo`).
        n_chains: chains over all devices.
        n_draws: T, draws per chain of one call.
        with_draws: n -> the same sampler with T = n.
        is_full: True if a call gives every configuration with its weight, so that
            means have no error.
    """

    init: Callable[[Key, Params], Chains]
    sample: Callable[[Key, Params, Chains], tuple[Chains, Array, SamplerInfo]]
    n_chains: int
    n_draws: int
    with_draws: Callable[[int], Sampler]
    is_full: bool = False


class VMCState(NamedTuple):
    """Exactly what a checkpoint holds.

    Attributes:
        step: optimisation steps done, int32 scalar.
        params: parameters of the wave function, replicated.
        opt_state: state of the optax transformation, replicated.
        chains: state of the sampler, sharded over walkers.
        key: root key of the run; it never evolves.
        control: state of every controller and diagnostic between steps.
    """

    step: Array | np.ndarray
    params: Params
    opt_state: Any
    chains: Chains
    key: Key
    control: Any

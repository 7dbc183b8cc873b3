"""From features on positions to log psi: what deep networks have in common.

A network turns sigma into features (C, P, B).  A readout makes terms y_t of them and

    psi = sum_t w_t exp(y_t),

with w_t = 1, or what gives psi the characters of a group.  Under the global spin flip
psi is even by construction (see `ansatze.deep_inputs.Stem`) where that is possible;
otherwise it is psi(sigma) +- psi(-sigma), at twice the cost.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from ansatze.activations import ROUNDING, signed, weighted_log_sum
from ansatze.cuts import CutCapacity, trivial
from ansatze.cuts_cones import light_cone_capacity
from ansatze.deep_inputs import Cells
from ansatze.layouts import Layout, Leaf
from ansatze.scaled import LOG_ZERO, log_amplitude
from ansatze.shared_weights import dense
from vmc import elementary
from vmc.base import Moves, Params, Problem, WaveFunction
from vmc.chunking import chunk_size, default_budget, map_chunks
from vmc.errors import JobError
from vmc.wavefunction import from_functions

ReadoutName: TypeAlias = Literal["sum_exp", "product"]
READOUTS = ("sum_exp", "product")


def readout_of(
    problem: Problem,
    cells: Cells,
    kernel: Sequence[int],
    n_layers: int,
    readout: ReadoutName | None,
) -> ReadoutName:
    """The readout of convolutions, where a job names none.

    A sum of exponentials of what is seen from single positions is no state of a
    lattice much larger than that: beyond its light cone every term is constant.  (On
    a Heisenberg chain of 20 sites, with cones of 13, it ends 2e-2 too high and the
    product 5e-6.)

    Args:
        problem: gives the characters, which only a sum can carry.
        cells: the grid.
        kernel: extent of a window along each direction.
        n_layers: convolutions on top of each other.
        readout: what the job says, or None.
    """
    if readout is not None:
        return readout
    if problem.symmetry is not None and np.any(characters_of(problem) != 1):
        return "sum_exp"
    seen = [1 + n_layers * (k - 1) for k in kernel]
    whole = all(width >= n for width, n in zip(seen, cells.shape))
    return "sum_exp" if whole else "product"


def cell_weights(
    problem: Problem, cells: Cells, readout: str, family: str
) -> np.ndarray:
    """w of every cell that gives psi the characters of a group of translations.

    Features move with the spins, y_p(sigma[perm]) = y_{perm(p)}(sigma), so that
    psi(sigma[perm_g]) = chi_g psi(sigma) asks for w_{perm_g(p)} = conj(chi_g) w_p.

    Returns:
        (P,), real where all characters are.

    Raises:
        JobError: a permutation is no translation, the characters are none, or the
            readout cannot carry them.
    """
    weights = np.ones(cells.n_cells)
    if problem.symmetry is None:
        return weights
    cell_perms = [_as_translation(p, cells, family) for p in problem.symmetry]
    characters = characters_of(problem)
    if np.all(characters == 1):
        return weights
    if readout == "product":
        raise JobError(
            f"{family} with the product readout has momentum 0 only (in the sign "
            'gauge). Use readout = "sum_exp", or leave the momentum out.'
        )
    weights = np.zeros(cells.n_cells, characters.dtype)
    perms = np.array(cell_perms)
    for cell in range(cells.n_cells):
        if weights[cell] == 0:
            weights[perms[:, cell]] = characters.conj()
    for perm, character in zip(perms, characters):
        if not np.allclose(weights[perm], character.conj() * weights):
            raise no_characters()
    return weights


def characters_of(problem: Problem) -> np.ndarray:
    """The characters of ``problem.symmetry``, (G,); real where all are.

    Raises:
        JobError: their number or their modulus is wrong.
    """
    assert problem.symmetry is not None
    if problem.characters is None:
        return np.ones(len(problem.symmetry))
    found = np.asarray(problem.characters, complex)
    if found.shape != (len(problem.symmetry),) or not np.allclose(abs(found), 1):
        raise no_characters()
    # Rounding would make an amplitude complex that is real.
    return np.round(np.real(found)) if np.allclose(np.imag(found), 0) else found


def no_characters() -> JobError:
    """The error about characters that are none."""
    return JobError(
        "the characters are no one-dimensional representation of the symmetry group: "
        "chi_g chi_h must be chi_gh, one number of modulus 1 for every permutation"
    )


def _as_translation(perm: Any, cells: Cells, family: str) -> np.ndarray:
    """A permutation of sites as one of cells.

    Raises:
        JobError: it is not a translation along periodic directions.
    """
    perm = np.asarray(perm)
    image = np.unravel_index(int(perm[0]) // cells.n_basis, cells.shape)
    moves = tuple(-int(x) for x in image)
    open_moves = any(m and not closed for m, closed in zip(moves, cells.periodic))
    axes = range(len(cells.shape))
    grid = np.arange(cells.n_cells).reshape(cells.shape)
    moved = np.roll(grid, moves, axes).reshape(-1)
    sites = moved[:, None] * cells.n_basis + np.arange(cells.n_basis)[None]
    if open_moves or not np.array_equal(sites.reshape(-1), perm):
        raise JobError(
            f"{family} has the symmetry of translations along periodic directions, "
            "but the group holds a permutation that is none: "
            f"{perm.tolist()[:16]}. A gcnn takes any group; with a momentum only, or "
            f'symmetry = "none", {family} will do.'
        )
    return moved


@dataclasses.dataclass(frozen=True, eq=False)
class Readout:
    """Terms y of psi = sum_t w_t exp(y_t) from features (C, P, B).

    sum_exp: one term per position and output channel; product: their sum, so that
    psi is a product over positions.  In a complex psi three of eight output channels
    are subtracted: a ground state changes its sign by passing through zero, where a
    sum of terms of one sign would stop (with the signs of the J2 = 0 state, J1-J2 on
    4 x 4 sites at J2 = 0.5 ends 4.5e-3 too high).

    Attributes:
        problem: complex psi: every term is y = u + i phi; otherwise it is real.
        kind: "sum_exp" or "product".
        weights: w of every position, (P,).
        n_terms: output channels.
    """

    problem: Problem
    kind: str
    weights: np.ndarray
    n_terms: int = 1

    @classmethod
    def of(
        cls, problem: Problem, kind: str, weights: np.ndarray, n_terms: int
    ) -> Readout:
        """A readout of a name; a product has one output channel, others add nothing.

        Raises:
            JobError: the name is unknown.
        """
        if kind not in READOUTS:
            near = difflib.get_close_matches(str(kind), READOUTS, 1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise JobError(
                f"readout is {kind!r}; expected one of {list(READOUTS)}.{hint}"
            )
        return cls(problem, kind, weights, n_terms if kind == "sum_exp" else 1)

    @property
    def term_weights(self) -> np.ndarray:
        """w of every term, (T,)."""
        if self.kind == "product":
            return np.ones(1)
        return np.kron(self.signs, self.weights)

    @property
    def signs(self) -> np.ndarray:
        """Sign of every output channel of sum_exp, (n_terms,)."""
        signs = np.ones(self.n_terms)
        if self.problem.dtype == "complex":
            signs[self.n_terms - 3 * self.n_terms // 8 :] = -1
        return signs

    def leaf(self, n_channels: int, scale: float) -> Leaf:
        """Head (1 or 2, n_terms, C); y has the spread ``scale`` for features of one."""
        n_heads = 2 if self.problem.dtype == "complex" else 1
        n_summed = len(self.weights) if self.kind == "product" else 1
        shape = (n_heads, self.n_terms, n_channels)
        return Leaf(shape, scale / math.sqrt(n_channels * n_summed))

    def terms(self, head: Array, x: Array) -> Array:
        """Terms, real or complex (T, B)."""
        if self.kind == "product":
            x = jnp.sum(x, axis=1, keepdims=True)
        y = self._linear(head, x)
        return y.reshape(-1, x.shape[-1])

    def _linear(self, head: Array, x: Array) -> Array:
        """Terms of every position on its own, (n_terms, n, B) from x (C, n, B)."""
        y = dense(head.reshape(-1, head.shape[-1]), x)
        y = y.reshape(len(head), -1, *x.shape[1:])
        return y[0] if len(head) == 1 else lax.complex(y[0], y[1])

    def parts(self, head: Array, x: Array) -> tuple[Array, ...]:
        """What positions contribute: `joined` makes log psi of all of them.

        Args:
            head: see `leaf`.
            x: features of any n positions, (C, n, B).

        Returns:
            product: terms, (n, B). sum_exp: the mean over the terms of a position
            (without w of the position) as a number of order one, real or complex
            (n, B), and the logarithm of its scale, real (n, B).
        """
        y = self._linear(head, x)
        if self.kind == "product":
            return (y[0],)
        top = jnp.max(y.real, axis=0)
        terms = elementary.exp(y - top[None])
        if self.problem.dtype == "complex":
            terms = terms * jnp.asarray(self.signs, top.dtype)[:, None, None]
        return jnp.mean(terms, axis=0), top

    def joined(self, parts: Sequence[Array]) -> Array:
        """Log psi, (..., B), from `parts` (..., P, B) of all positions."""
        if self.kind == "product":
            total = jnp.sum(parts[0], axis=-2)
            return weighted_log_sum(total[None], self.term_weights)
        value, top = parts
        most = jnp.max(top, axis=-2, keepdims=True)
        terms, real = value * jnp.exp(top - most), top.dtype
        if np.any(self.weights != 1):
            is_complex = np.iscomplexobj(self.weights)
            kind = np.result_type(real, np.complex64) if is_complex else real
            weights = jnp.asarray(self.weights, kind)
            terms = terms * weights.reshape(*(1,) * (top.ndim - 2), -1, 1)
        mean, most = jnp.mean(terms, axis=-2), jnp.squeeze(most, -2)
        if signed(self.term_weights):
            # As in `weighted_log_sum`: of terms that cancel, rounding is left.
            rounding = ROUNDING * jnp.finfo(real).eps
            mean = jnp.where(jnp.abs(mean) > rounding, mean, jnp.zeros_like(mean))
        elif not jnp.iscomplexobj(mean):
            return elementary.log(mean) + most
        return log_amplitude(mean, most)


def cone_capacity(
    cells: Cells, readout: Readout, kernel: Sequence[int], n_layers: int
) -> CutCapacity:
    """Capacity of convolutions: that of their light cone.

    Args:
        cells: the grid.
        readout: a sum or a product over its positions.
        kernel: extent of a window along each direction.
        n_layers: convolutions on top of each other.
    """
    dims = readout.problem.space.local_dims
    if cells.n_basis > 1:
        return trivial(dims)
    return light_cone_capacity(
        cells.shape,
        cells.periodic,
        dims,
        [n_layers * (k - 1) for k in kernel],
        channels=readout.n_terms,
        pooling="product" if readout.kind == "product" else "sum",
    )


def network(
    problem: Problem,
    layout: Layout,
    terms: Callable[[dict[str, Array], Array], Array],
    weights: np.ndarray,
    score_bytes: int,
    capacity: CutCapacity,
    even: bool = False,
) -> WaveFunction:
    """psi = sum_t w_t exp(y_t); with ``problem.spin_flip`` psi(sigma) +- psi(-sigma).

    Args:
        problem: see `vmc.base.Problem`.
        layout: of the parameters.
        terms: (parameters by name, sigma (B, N)) -> y (T, B), real or complex.
        weights: w, (T,).
        score_bytes: memory that the gradient of one walker gathers.
        capacity: see `vmc.base.WaveFunction`, of the sum over t.
        even: the terms are even under the spin flip, so that no second one is needed.
    """
    doubled = problem.spin_flip and not even
    if doubled:
        weights = np.concatenate([weights, problem.flip_character * weights])
        capacity = trivial(problem.space.local_dims)

    def log_psi(params: Params, sigma: Array) -> Array:
        p = layout.unpack(params)
        if not doubled:
            return weighted_log_sum(terms(p, sigma), weights)
        both = terms(p, jnp.concatenate([sigma, -sigma]))
        here, flipped = both[:, : len(sigma)], both[:, len(sigma) :]
        return weighted_log_sum(jnp.concatenate([here, flipped]), weights)

    if problem.dtype == "complex" or np.iscomplexobj(weights):
        kind = "complex"
    else:
        kind = "real" if np.any(weights < 0) else "positive"
    plain = from_functions(layout.init, log_psi, problem=problem, range=kind)

    def scores(params: Params, sigma: Array) -> Any:
        chunk = chunk_size(sigma.shape[0], score_bytes, default_budget())
        return map_chunks(lambda s: plain.scores(params, s), sigma, chunk)

    def log_ratios(
        params: Params,
        cache: Array,
        sigma: Array,
        moves: Moves,
        wanted: Array | None = None,
    ) -> Array:
        ratios = plain.log_ratios(params, cache, sigma, moves, wanted)
        # A configuration that the characters forbid has no weight: so has no ratio.
        empty = cache.real <= 0.1 * LOG_ZERO
        return jnp.where(empty[None], jnp.full_like(ratios, LOG_ZERO), ratios)

    made = plain._replace(scores=scores, capacity=capacity)
    return made._replace(log_ratios=log_ratios) if signed(weights) else made

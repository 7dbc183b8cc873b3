"""Autoregressive wave functions: normalised by construction, drawn without a chain.

log psi(s) = sum_i [c_i(s_i | s_<i) - 1/2 ln sum_t exp(2 Re c_i(t | s_<i))], c complex
(arXiv:1902.04057), so that sum_s |psi(s)|^2 = 1 whatever the parameters are, and
|c_i|^2 are the conditional probabilities that configurations are drawn with.

*Sectors.*  The sector is read as an automaton that walks along the sites.  A state of
a site from which nothing in the sector can follow has the conditional probability 0:
psi is normalised inside the sector and vanishes outside of it.  The other states start
from their share of the completions: a network of zeros is uniform over the sector, and
the network only learns the ratio to that.

A family provides a `Network`, which computes the c_i of given configurations at once,
and site by site from cached activations.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from ansatze.arnn_average import Average, images_of
from ansatze.grids import grid_of
from ansatze.scaled import LOG_ZERO, draw_state
from vmc.base import Exact, Key, Params, Problem, WaveFunction
from vmc.errors import JobError
from vmc.space import Spins
from vmc.wavefunction import float_dtype, from_functions


class Network(Protocol):
    """The part of an autoregressive family that has parameters.

    Positions count the sites in the order in which they are drawn, in R rows of C.
    ``x`` is what the network sees of a configuration, see `Sites.encode`: (B, N, e).
    Outputs are (B, N, H, d): Re c (H = 1), or Re c and Im c (H = 2), of every local
    state; those at position i do not depend on x at i or later.
    """

    @property
    def rows(self) -> int:
        """R."""
        ...

    def scales(self) -> Any:
        """Standard deviations of all parameters at the start, float arrays."""
        ...

    def prepare(self, params: Params) -> Any:
        """Weights in the form that the other functions take."""
        ...

    def outputs(self, weights: Any, x: Array) -> Array:
        """Outputs of all positions, (B, N, H, d)."""
        ...

    def start(self, weights: Any, n_batch: int) -> Any:
        """Activations before the first position."""
        ...

    def row(self, weights: Any, cache: Any, y: Array) -> Any:
        """Activations that a row needs of the rows before it."""
        ...

    def column(self, weights: Any, cache: Any, y: Array, x: Array) -> tuple:
        """Outputs at position (y, x), (B, H, d), and the cache with its activations."""
        ...

    def feed(self, cache: Any, y: Array, x: Array, value: Array) -> Any:
        """The cache after the site at (y, x) was found to be ``value``, (B, e)."""
        ...


def positive_integers(family: str, **numbers: int) -> None:
    """Refuse sizes that are not positive.

    Raises:
        JobError: one is not.
    """
    for name, number in numbers.items():
        if number < 1:
            raise JobError(f"{family}: {name} is {number}; it is a positive integer")


def plane_of(
    problem: Problem, family: str
) -> tuple[tuple[int, int], tuple[bool, bool]]:
    """Rows and columns of the sites, and whether these are periodic.

    A chain is one row.

    Raises:
        JobError: the lattice has more than two directions, or cells of several sites.
    """
    shape, periodic = grid_of(problem, family)
    if len(shape) < 2:
        return (1, problem.space.n_sites), (False, periodic[0])
    if len(shape) > 2:
        raise JobError(
            f"{family} knows chains and plane grids; the grid {shape} has "
            f"{len(shape)} directions. Use arnn_dense, which goes with any lattice."
        )
    return (shape[0], shape[1]), (periodic[0], periodic[1])


@dataclasses.dataclass(frozen=True, eq=False)
class Sites:
    """The sites in the order in which they are drawn.

    Attributes:
        problem: the problem.
        order: int (N,), the site at every position.
        family: for messages.
    """

    problem: Problem
    order: np.ndarray
    family: str

    @property
    def n_sites(self) -> int:
        """N."""
        return len(self.order)

    @property
    def local_dim(self) -> int:
        """D, the largest local dimension."""
        return max(self.problem.space.local_dims)

    @property
    def n_inputs(self) -> int:
        """Numbers e that a network sees of a site."""
        return 1 if self.local_dim == 2 else self.local_dim

    @property
    def n_heads(self) -> int:
        """H: real and imaginary part of c, or its real part only."""
        return 2 if self.problem.dtype == "complex" else 1

    @functools.cached_property
    def dims(self) -> np.ndarray:
        """Local dimensions by position, int32 (N,)."""
        return np.asarray(self.problem.space.local_dims, np.int32)[self.order]

    def encode(self, index: Array) -> Array:
        """Local indices (...) as inputs of a network, (..., e).

        +1 and -1 for spins 1/2, one-hot otherwise; a site not drawn yet is 0.
        """
        real = float_dtype(self.problem)
        if self.local_dim == 2:
            return (1 - 2 * index[..., None]).astype(real)
        return self.one_hot(index).astype(real)

    def one_hot(self, index: Array) -> Array:
        """Bool (..., d)."""
        states = jnp.arange(self.local_dim, dtype=index.dtype)
        return index[..., None] == states.reshape((1,) * index.ndim + (-1,))

    def indices(self, sigma: Array) -> Array:
        """Local indices by position, int32 (B, N)."""
        top = jnp.asarray(self.dims - 1)[None, :]
        return (top - sigma[:, self.order].astype(jnp.int32)) // 2

    def values(self, index: Array) -> Array:
        """Configurations from local indices by position (N, B): int8 (B, N)."""
        sigma = (jnp.asarray(self.dims - 1)[:, None] - 2 * index).astype(jnp.int8)
        return sigma[np.argsort(self.order)].T

    @functools.cached_property
    def tables(self) -> tuple[np.ndarray, np.ndarray]:
        """The sector as an automaton along the positions, and the uniform state on it.

        Returns:
            Next state, int32 (N, S + 1, d), where S stands for "nothing can follow",
            and 1/2 ln of the share of each local state in the completions, (N, S + 1,
            d), 0 where there are none.
        """
        steps, ways = _reordered(self.problem.space, self.order).layers
        size, d = max(map(len, ways)), self.local_dim
        table = np.full((self.n_sites, size + 1, d), size, np.int32)
        prior = np.zeros(table.shape)
        for i, step in enumerate(steps):
            rows, dim = step.shape
            table[i, :rows, :dim] = np.where(step < 0, size, step)
            for state, local in zip(*np.nonzero(step >= 0), strict=True):
                after, here = ways[i + 1][step[state, local]], ways[i][state]
                prior[i, state, local] = (math.log(after) - math.log(here)) / 2
        return table, prior


def _reordered(space: Any, order: np.ndarray) -> Spins:
    """The same sector with its sites in another order."""
    if not isinstance(space, Spins):
        return Spins(tuple(space.local_dims[i] for i in order))
    return space.reordered(order)


def _pick(each: Array, chosen: Array) -> Array:
    """The entry of the last axis that is chosen, in its dtype."""
    kept = jnp.where(chosen, each, jnp.zeros_like(each))
    return jnp.sum(kept, axis=-1, dtype=each.dtype)


def autoregressive(sites: Sites, network: Network) -> WaveFunction:
    """The wave function of a network, symmetric where the problem is.

    Args:
        sites: the sites in the order of the network's positions.
        network: see `Network`.

    Raises:
        JobError: quantum numbers that a normalised average cannot have.
    """
    problem = sites.problem
    state = _State(sites, network, *sites.tables)
    init = functools.partial(_init, network.scales(), float_dtype(problem))
    positive = problem.dtype == "real"
    build = functools.partial(
        from_functions, problem=problem, range="positive" if positive else "complex"
    )
    plain = build(init, state.log_psi)
    images = images_of(problem, sites.family)
    if images is None:
        return plain._replace(exact=_exact(problem, state.draw))
    average = Average(plain.log_psi, state.draw, *images)
    whole = build(init, average.log_psi)
    return whole._replace(exact=_exact(problem, average.draw))


def _init(scales: Any, real: np.dtype, key: Key) -> Params:
    """Normal numbers with given standard deviations, all drawn at once."""
    leaves, tree = jax.tree.flatten(scales)
    ends = np.cumsum([leaf.size for leaf in leaves])
    numbers = jax.random.normal(key, (int(ends[-1]),), real)
    parts = [
        numbers[end - leaf.size : end].reshape(leaf.shape) * leaf.astype(real)
        for leaf, end in zip(leaves, ends.tolist())
    ]
    return jax.tree.unflatten(tree, parts)


def _exact(problem: Problem, draw: Any) -> Exact:
    """Draws and norm; every draw lies in the sector."""
    real = float_dtype(problem)

    def refuse(allowed: Any) -> None:
        if allowed is not None:
            raise JobError(
                "conditions on single sites cannot be drawn exactly from an "
                "autoregressive net: its conditionals know the earlier sites only. "
                "Leave the conditions out, or use mps, ttn or convac."
            )

    def sample(
        params: Params, words: Array, allowed: Array | None = None
    ) -> tuple[Array, Array]:
        refuse(allowed)
        return draw(params, words)

    def log_norm(params: Params, allowed: Array | None = None) -> Array:
        refuse(allowed)
        del params
        return jnp.zeros((), real)

    return Exact(sample=sample, log_norm=log_norm)


# ---- one network -------------------------------------------------------------


@dataclasses.dataclass(frozen=True, eq=False)
class _State:
    """psi of one network; ``table`` and ``prior`` as in `Sites.tables`."""

    sites: Sites
    network: Network
    table: np.ndarray
    prior: np.ndarray

    @property
    def dead(self) -> int:
        """The state of the automaton from which nothing follows."""
        return self.table.shape[1] - 1

    def automaton(self) -> tuple[Array, Array]:
        real = float_dtype(self.sites.problem)
        return jnp.asarray(self.table), jnp.asarray(self.prior, real)

    def log_p(self, real_part: Array, prior: Array, after: Array) -> Array:
        """ln of the conditional probabilities, (..., d); `LOG_ZERO` or less is zero."""
        # In finite numbers: a forbidden state has a gradient of exactly zero.
        c = jnp.where(after < self.dead, 2 * (real_part + prior), LOG_ZERO)
        return jax.nn.log_softmax(c, axis=-1)

    def followed(self, index: Array) -> tuple[Array, Array]:
        """What can follow every local state along given rows, and the prior.

        Args:
            index: int32 (B, N).

        Returns:
            (B, N, d) twice, as in `Sites.tables`.
        """
        table, prior = self.automaton()
        if self.dead == 1:
            # Nothing is fixed: one state, the same for all rows.
            shape = (index.shape[0], *table[:, 0].shape)
            after = jnp.broadcast_to(table[None, :, 0], shape)
            return after, jnp.broadcast_to(prior[None, :, 0], shape)

        def step(state: Array, x: tuple) -> tuple[Array, tuple]:
            row, log_share, one_hot = x
            after = row[state]
            return _pick(after, one_hot), (after, log_share[state])

        zero = jnp.zeros(index.shape[:1], jnp.int32)
        one_hot = self.sites.one_hot(index.T)
        _, out = lax.scan(step, zero, (table, prior, one_hot))
        return jnp.swapaxes(out[0], 0, 1), jnp.swapaxes(out[1], 0, 1)

    def log_psi(self, params: Params, sigma: Array) -> Array:
        """Log psi, (B,), real for a positive psi; `LOG_ZERO` outside the sector."""
        index = self.sites.indices(sigma)
        weights = self.network.prepare(params)
        out = self.network.outputs(weights, self.sites.encode(index))
        after, prior = self.followed(index)
        chosen = self.sites.one_hot(index)
        log_p = self.log_p(out[:, :, 0], prior, after)
        log_p = jnp.sum(_pick(log_p, chosen), axis=1)
        inside = jnp.all((after < self.dead) | ~chosen, axis=(1, 2))
        modulus = jnp.where(inside, log_p / 2, LOG_ZERO)
        if self.sites.n_heads == 1:
            return modulus
        phase = jnp.sum(_pick(out[:, :, 1], chosen), axis=1)
        return lax.complex(modulus, phase)

    def draw(self, params: Params, words: Array) -> tuple[Array, Array]:
        """Independent draws of |psi|^2 from one word per site, and ln p.

        Every position adds its own column of activations to the cache: all of them
        together cost about one evaluation of psi.
        """
        network, sites, n_batch = self.network, self.sites, words.shape[1]
        weights = network.prepare(params)
        table, prior = self.automaton()
        shape = (network.rows, sites.n_sites // network.rows)

        def site(y: Array, carry: tuple, each: tuple) -> tuple[tuple, Array]:
            (cache, state, total), (x, word, row, log_share) = carry, each
            out, cache = network.column(weights, cache, y, x)
            after = row[state]
            log_p = self.log_p(out[:, 0], log_share[state], after)
            index, _ = draw_state(jnp.exp(log_p).T, word)
            chosen = sites.one_hot(index)
            state = _pick(after, chosen)
            total = total + _pick(log_p, chosen)
            cache = network.feed(cache, y, x, sites.encode(index))
            return (cache, state, total), index

        def line(carry: tuple, each: tuple) -> tuple[tuple, Array]:
            y, *columns = each
            carry = (network.row(weights, carry[0], y), *carry[1:])
            columns = (jnp.arange(shape[1]), *columns)
            return lax.scan(functools.partial(site, y), carry, columns)

        def by_row(a: Array) -> Array:
            return a.reshape(*shape, *a.shape[1:])

        zero = jnp.zeros((n_batch,), jnp.int32)
        carry = (network.start(weights, n_batch), zero, zero.astype(prior.dtype))
        lines = (jnp.arange(shape[0]), *map(by_row, (words[sites.order], table, prior)))
        (_, _, total), index = lax.scan(line, carry, lines)
        return sites.values(index.reshape(sites.n_sites, n_batch)), total

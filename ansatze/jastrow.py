"""Two-body Jastrow wave function, plain or invariant under a group.

log psi(sigma) = 1/2 sum_ij V_ij sigma_i sigma_j + sum_i a_i sigma_i, V symmetric,
which is sum_{i<j} V_ij sigma_i sigma_j and a constant for spins 1/2 (where
sigma = +1 or -1).  For larger spins, sigma = 2m, the diagonal of V is a one-site
term m^2.  (R. Jastrow, Phys. Rev. 98, 1479 (1955); for spins on a lattice D. A. Huse
and V. Elser, Phys. Rev. Lett. 60, 2531 (1988).)

The cache keeps the field h = V sigma of every walker, walkers trailing.  A move
that changes sigma by delta on k sites has

log psi' - log psi = sum_a delta_a (h_a + a_a) + 1/2 sum_ab delta_a V_ab delta_b:

O(k^2) for the ratio, and O(k N) for the update of h when it is accepted.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from ansatze.cuts_pairs import jastrow_capacity
from vmc.base import Key, Move, Moves, Params, Problem, WaveFunction
from vmc.chunking import chunk_size, default_budget, map_chunks
from vmc.errors import JobError
from vmc.wavefunction import float_dtype


class JastrowCache(NamedTuple):
    """Walkers' part (field) and tables of the parameters.

    Attributes:
        field: h = V sigma, (N, B).
        matrix: V, symmetric (N, N).
        linear: a, (N,).
    """

    field: Array
    matrix: Array
    linear: Array


class JastrowPending(NamedTuple):
    """What a proposal leaves for `commit`.

    Attributes:
        sites: sites of the move, padding replaced by any valid site, (k,).
        delta: change of sigma on them, 0 for padding, (k, B).
    """

    sites: Array
    delta: Array


def jastrow(
    problem: Problem,
    *,
    linear: bool | None = None,
    init_scale: float = 0.01,
) -> WaveFunction:
    """Two-body Jastrow factor with one parameter per pair, or orbit of pairs.

    Parameters without a symmetry: "V" (N, N), of which only the symmetric part
    matters, and "a" (N,).  With ``problem.symmetry``: one "v" per orbit of pairs
    and one "a" per orbit of sites.  For ``dtype = "real"`` psi is positive.

    Args:
        problem: see `vmc.base.Problem`; any local dimensions.
        linear: whether there is a linear term a; by default only where the global
            spin flip is no symmetry.
        init_scale: standard deviation of the parameters at the start.

    Raises:
        JobError: init_scale is negative.
    """
    if init_scale < 0:
        raise JobError(f"init_scale is {init_scale}; it is not negative")
    shape = _Jastrow(
        local_dims=tuple(problem.space.local_dims),
        orbits=None if problem.symmetry is None else _orbits(problem),
        biased=not problem.spin_flip if linear is None else linear,
        is_complex=problem.dtype == "complex",
        real=float_dtype(problem),
        init_scale=init_scale,
    )
    return WaveFunction(
        init=shape.init,
        log_psi=shape.log_psi,
        cache=shape.cache,
        log_ratios=shape.log_ratios,
        try_move=shape.try_move,
        commit=shape.commit,
        scores=shape.scores,
        range="complex" if shape.is_complex else "positive",
        capacity=jastrow_capacity(
            shape.local_dims, None if shape.orbits is None else shape.orbits.pair
        ),
    )


class _Orbits(NamedTuple):
    """Orbits of pairs and sites under a group.

    Attributes:
        pair: orbit of (i, j), int (N, N); n_pairs, one too many, for an absent
            diagonal.
        n_pairs: orbits of pairs.
        first, second: sites of the pairs i <= j of each orbit, int (n_pairs, m),
            padded with N.
        site: orbit of each site, int (N,).
        n_sites: orbits of sites.
    """

    pair: np.ndarray
    n_pairs: int
    first: np.ndarray
    second: np.ndarray
    site: np.ndarray
    n_sites: int


@dataclasses.dataclass(frozen=True, eq=False)
class _Jastrow:
    """Everything static about one Jastrow factor, and its functions."""

    local_dims: tuple[int, ...]
    orbits: _Orbits | None
    biased: bool
    is_complex: bool
    real: np.dtype
    init_scale: float

    @property
    def n_sites(self) -> int:
        return len(self.local_dims)

    def init(self, key: Key) -> Params:
        n = self.n_sites
        if self.orbits is None:
            dims = {"V": (n, n), "a": (n,)}
        else:
            dims = {"v": (self.orbits.n_pairs,), "a": (self.orbits.n_sites,)}
        if not self.biased:
            del dims["a"]
        dtype = (
            np.result_type(self.real, np.complex64) if self.is_complex else self.real
        )
        keys = jax.random.split(key, len(dims))
        return {
            name: self.init_scale * jax.random.normal(k, dims[name], dtype)
            for name, k in zip(dims, keys)
        }

    def tables(self, params: Params) -> tuple[Array, Array]:
        """V (N, N), symmetric, and a (N,)."""
        if self.orbits is None:
            matrix = 0.5 * (params["V"] + params["V"].T)
            return matrix, params.get("a", jnp.zeros(self.n_sites, matrix.dtype))
        v = jnp.append(params["v"], 0)
        # A pair (i, i) stands twice in 1/2 sum_ij, as (i, j) and (j, i) do.
        weight = 1 + np.eye(self.n_sites, dtype=self.real)
        matrix = v[self.orbits.pair] * weight
        if not self.biased:
            return matrix, jnp.zeros(self.n_sites, matrix.dtype)
        return matrix, params["a"][self.orbits.site]

    def log_psi(self, params: Params, sigma: Array) -> Array:
        matrix, linear = self.tables(params)
        spins = sigma.astype(self.real)
        # The precision is that of the type on every device, TF32 or bfloat16 not.
        field = jnp.matmul(spins, matrix, precision="highest")
        return jnp.sum(spins * (0.5 * field + linear[None, :]), axis=1)

    def cache(self, params: Params, sigma: Array) -> JastrowCache:
        matrix, linear = self.tables(params)
        field = jnp.matmul(matrix, sigma.T.astype(self.real), precision="highest")
        return JastrowCache(field, matrix, linear)

    def change(self, sigma_t: Array, sites: Array, shift: Array) -> tuple[Array, Array]:
        """Sites of a move, padding made valid (k,), and their changes (k, B)."""
        inside = sites < self.n_sites
        sites = jnp.minimum(sites, self.n_sites - 1)
        dims = jnp.asarray(self.local_dims, jnp.int32)[sites][:, None]
        old = jnp.asarray(sigma_t)[sites].astype(jnp.int32)
        index = (dims - 1 - old) // 2 + shift.astype(jnp.int32)[:, None]
        new = dims - 1 - 2 * jnp.mod(index, dims)
        return sites, jnp.where(inside[:, None], new - old, 0).astype(self.real)

    def log_ratio(self, cache: JastrowCache, sites: Array, delta: Array) -> Array:
        """Change of log psi, (B,), by one move."""
        field = cache.field[sites] + cache.linear[sites][:, None]
        pairs = cache.matrix[sites[:, None], sites[None, :]]
        # Few sites: sums written out fuse into one pass over the walkers.
        for a in range(sites.shape[0]):
            field = field + 0.5 * pairs[:, a, None] * delta[None, a]
        return jnp.sum(delta * field, axis=0)

    def log_ratios(
        self,
        params: Params,
        cache: JastrowCache,
        sigma: Array,
        moves: Moves,
        wanted: Array | None = None,
    ) -> Array:
        sigma_t = sigma.T

        def one(table: tuple[Array, Array]) -> Array:
            return self.log_ratio(cache, *self.change(sigma_t, *table))

        k_sites, n_batch = moves.sites.shape[1], sigma.shape[0]
        per_move = 4 * k_sites * n_batch * cache.field.dtype.itemsize
        chunk = chunk_size(moves.n_moves, per_move, default_budget())
        return map_chunks(jax.vmap(one), (moves.sites, moves.shift), chunk)

    def try_move(
        self, params: Params, cache: JastrowCache, sigma: Array, move: Move
    ) -> tuple[Array, JastrowPending]:
        sites, delta = self.change(sigma.T, move.sites, move.shift)
        ratio = self.log_ratio(cache, sites, delta)
        return 2 * ratio.real, JastrowPending(sites, delta)

    def commit(
        self, cache: JastrowCache, pending: JastrowPending, accept: Array
    ) -> JastrowCache:
        delta = jnp.where(accept[None, :], pending.delta, 0)
        rows = cache.matrix[pending.sites]
        field = cache.field
        for a in range(rows.shape[0]):
            field = field + rows[a][:, None] * delta[a][None, :]
        return cache._replace(field=field)

    def scores(self, params: Params, sigma: Array) -> Any:
        spins = sigma.astype(self.real)
        if self.orbits is None:
            scores = {"V": (0.5 * spins[:, None, :], spins[:, None, :])}
            return scores | ({"a": (spins[:, None, :],)} if self.biased else {})
        scores = {"v": (_pair_sums(self.orbits, spins),)}
        if self.biased:
            sums = jax.ops.segment_sum(spins.T, self.orbits.site, self.orbits.n_sites)
            scores["a"] = (sums.T[:, None, :],)
        return scores


def _pair_sums(orbits: _Orbits, spins: Array) -> Array:
    """Sum over the pairs of each orbit of sigma_i sigma_j: (B, 1, n_pairs)."""
    padded = jnp.pad(spins.T, ((0, 1), (0, 0)))

    def one(pairs: tuple[Array, Array]) -> Array:
        return jnp.sum(padded[pairs[0]] * padded[pairs[1]], axis=0)

    sums = lax.map(one, (jnp.asarray(orbits.first), jnp.asarray(orbits.second)))
    return sums.T[:, None, :]


def _orbits(problem: Problem) -> _Orbits:
    """Orbits of sites and pairs; the diagonal only where a spin exceeds 1/2."""
    perms = np.asarray(problem.symmetry, np.int64)
    n = perms.shape[1]
    i, j = np.triu_indices(n)
    if max(problem.space.local_dims) == 2:
        i, j = i[i < j], j[i < j]
    code = np.full((n, n), n * n, np.int64)
    code[i, j] = code[j, i] = i * n + j
    for perm in perms:
        code = np.minimum(code, code[perm][:, perm])
    labels, pair = np.unique(code[i, j], return_inverse=True)
    n_pairs = len(labels)
    table = np.full((n, n), n_pairs, np.int32)
    table[i, j] = table[j, i] = pair
    counts = np.bincount(pair, minlength=n_pairs)
    order = np.argsort(pair, kind="stable")
    column = np.concatenate([np.arange(c) for c in counts]) if n_pairs else order
    first = np.full((n_pairs, max(counts, default=0)), n, np.int32)
    second = first.copy()
    first[pair[order], column] = i[order]
    second[pair[order], column] = j[order]
    _, site = np.unique(perms.min(axis=0), return_inverse=True)
    return _Orbits(table, n_pairs, first, second, site, len(np.unique(site)))

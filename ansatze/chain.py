"""Chains of matrices: sweeps, moves and scores of matrix product wave functions.

psi(sigma) = sum_qj (first A_1[sigma_1] ... A_N[sigma_N])_qj last_qj, with q = 1 rows
for an open chain and q = D (first = last = 1, the trace) for a periodic one.  Matrix
product states and recurrent arithmetic circuits of depth 1 share these functions.

A left environment is L_i = first A_1 ... A_i, (q, D), a right one R_i = A_{i+1} ...
A_N last^T, kept transposed, (q, D), and psi = sum(L_i * R_i) for every i.  All are
scaled vectors.

A cache keeps both environments of the walkers, and how far each is still right: a
move at site i leaves L_0 ... L_i and R_{i+1} ... R_N alone.  A proposal extends
them from where the last move was to where this one is, since all walkers move
together: O(q D^2 distance), a third of a sweep on average for random single flips,
one site for sequential ones.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from ansatze.mps_exact import Parts, chain_exact, site_tensors
from ansatze.scaled import log_amplitude, renormalise
from vmc.base import Key, Move, Moves, Params, Problem, WaveFunction


class Chain(NamedTuple):
    """The matrices of a chain, as the two sweeps use them.

    Attributes:
        forward: A_i[s]_jk as (N, D, d * D), rows j, columns (s, k).
        backward: the same as (N, D, d * D), rows k, columns (s, j).
        first: L_0, (q, D).
        last: R_N transposed, (q, D).
    """

    forward: Array
    backward: Array
    first: Array
    last: Array


def chain_of(tensors: Array, first: Array, last: Array) -> Chain:
    """A `Chain` from tensors (N, d, D, D) and boundary rows (q, D)."""
    n_sites, _, bond, _ = tensors.shape
    forward = tensors.transpose(0, 2, 1, 3).reshape(n_sites, bond, -1)
    backward = tensors.transpose(0, 3, 1, 2).reshape(n_sites, bond, -1)
    return Chain(forward, backward, first, last)


def chain_wavefunction(
    problem: Problem,
    parts: Parts,
    init: Callable[[Key], Params],
    scores: Callable[[Params, Array], Any],
) -> WaveFunction:
    """A chain as seen by the engine.

    Args:
        problem: see `vmc.base.Problem`.
        parts: params -> tensors (N, d, D, D) and boundary rows first, last (q, D).
        init: key -> params.
        scores: see `WaveFunction`.
    """
    sweeps = Sweeps(tuple(problem.space.local_dims))

    def chain(params: Params) -> Chain:
        return chain_of(*parts(params))

    def exact_parts(params: Params) -> tuple[Array, Array, Array]:
        tensors, first, last = parts(params)
        return site_tensors(tensors, sweeps.local_dims), first, last

    return WaveFunction(
        init=init,
        log_psi=lambda params, sigma: sweeps.log_psi(chain(params), sigma),
        cache=lambda params, sigma: sweeps.cache(chain(params), sigma),
        log_ratios=lambda params, *args: sweeps.log_ratios(*args),
        try_move=lambda params, *args: sweeps.try_move(*args),
        commit=sweeps.commit,
        scores=scores,
        range="complex" if problem.dtype == "complex" else "real",
        exact=chain_exact(exact_parts, problem.space),
    )


class ChainCache(NamedTuple):
    """Environments of every walker, and where they are right.

    Attributes:
        chain: the matrices.
        left: L_i, (N + 1, B, q, D), and its logarithmic scale (N + 1, B).
        right: R_i transposed, likewise.
        low: L_0 ... L_low are right, int32 scalar.
        high: R_high ... R_N are right.
        log_psi: complex (B,).
    """

    chain: Chain
    left: tuple[Array, Array]
    right: tuple[Array, Array]
    low: Array
    high: Array
    log_psi: Array


class ChainPending(NamedTuple):
    """What a proposal leaves for `commit`: environments, old sigma (N, B), new psi."""

    cache: ChainCache
    sigma: Array
    move: Move
    log_psi: Array


@dataclasses.dataclass(frozen=True)
class Sweeps:
    """The functions of a wave function in terms of a `Chain`; static part."""

    local_dims: tuple[int, ...]

    @property
    def n_sites(self) -> int:
        """N."""
        return len(self.local_dims)

    def indices(self, sigma: Array) -> Array:
        """Local indices (d_i - 1 - sigma_i) / 2, int32 (N, B)."""
        dims = jnp.asarray(self.local_dims, jnp.int32)[:, None]
        return (dims - 1 - sigma.T.astype(jnp.int32)) // 2

    def row(self, sigma_t: Array, site: Array) -> Array:
        """Local indices of one site, int32 (B,)."""
        dim = jnp.asarray(self.local_dims, jnp.int32)[site]
        spin = lax.dynamic_index_in_dim(sigma_t, site, 0, keepdims=False)
        return (dim - 1 - spin.astype(jnp.int32)) // 2

    def moved_row(self, sigma_t: Array, site: Array, move: Move) -> Array:
        """Local indices of one site after a move, int32 (B,)."""
        dim = jnp.asarray(self.local_dims, jnp.int32)[site]
        hit = jnp.asarray(move.sites) == site
        shift = jnp.sum(jnp.where(hit, jnp.asarray(move.shift, jnp.int32), 0))
        return jnp.mod(self.row(sigma_t, site) + shift, dim)

    def log_psi(self, chain: Chain, sigma: Array) -> Array:
        """Log psi, complex (B,), by one sweep from the left."""

        def body(state: tuple[Array, Array], x: tuple) -> tuple[tuple, None]:
            return step(x[0], *state, x[1]), None

        start = boundary(chain.first, sigma.shape[0])
        (v, scale), _ = lax.scan(body, start, (chain.forward, self.indices(sigma)))
        return overlap(v, scale, *boundary(chain.last, sigma.shape[0]))

    def cache(self, chain: Chain, sigma: Array) -> ChainCache:
        """Right environments at every bond; the left ones follow the moves."""
        n_batch = sigma.shape[0]
        index = self.indices(sigma)
        right = environments(chain.backward, chain.last, index, reverse=True)
        first = boundary(chain.first, n_batch)
        left = (
            jnp.zeros_like(right[0]).at[0].set(first[0]),
            jnp.zeros_like(right[1]),
        )
        log_psi = overlap(*first, right[0][0], right[1][0])
        zero = jnp.zeros((), jnp.int32)
        return ChainCache(chain, left, right, zero, zero, log_psi)

    def extend(
        self, cache: ChainCache, sigma_t: Array, low: Any, high: Any
    ) -> ChainCache:
        """Make L right up to bond ``low`` and R right down to bond ``high``."""

        def grow_left(i: Array, left: tuple[Array, Array]) -> tuple[Array, Array]:
            new = step(cache.chain.forward[i], *_at(left, i), self.row(sigma_t, i))
            return _put(left, new, i + 1)

        def grow_right(t: Array, right: tuple[Array, Array]) -> tuple[Array, Array]:
            i = cache.high - 1 - t
            state = _at(right, i + 1)
            new = step(cache.chain.backward[i], *state, self.row(sigma_t, i))
            return _put(right, new, i)

        low, high = jnp.int32(low), jnp.int32(high)
        return cache._replace(
            left=lax.fori_loop(cache.low, low, grow_left, cache.left),
            right=lax.fori_loop(
                jnp.int32(0), cache.high - high, grow_right, cache.right
            ),
            low=jnp.maximum(cache.low, low),
            high=jnp.minimum(cache.high, high),
        )

    def span(self, move: Move) -> tuple[Array, Array]:
        """First and last site of a move, which is padded with N."""
        sites = jnp.asarray(move.sites, jnp.int32)
        first = jnp.minimum(jnp.min(sites), self.n_sites - 1)
        last = jnp.max(jnp.where(sites < self.n_sites, sites, -1))
        return first, jnp.maximum(last, first)

    def moved(self, cache: ChainCache, sigma_t: Array, move: Move) -> Array:
        """Log psi after a move, (B,), from environments that are right outside it."""
        first, last = self.span(move)

        def body(i: Array, state: tuple[Array, Array]) -> tuple[Array, Array]:
            return step(
                cache.chain.forward[i], *state, self.moved_row(sigma_t, i, move)
            )

        v, scale = lax.fori_loop(first, last + 1, body, _at(cache.left, first))
        return overlap(v, scale, *_at(cache.right, last + 1))

    def try_move(
        self, cache: ChainCache, sigma: Array, move: Move
    ) -> tuple[Array, ChainPending]:
        """See `WaveFunction`."""
        first, last = self.span(move)
        cache = self.extend(cache, sigma.T, first, last + 1)
        new = self.moved(cache, sigma.T, move)
        return 2 * (new - cache.log_psi).real, ChainPending(cache, sigma.T, move, new)

    def commit(
        self, cache: ChainCache, pending: ChainPending, accept: Array
    ) -> ChainCache:
        """Rebuild L over the sites of the move; R is right beyond them."""
        cache, sigma_t, move, log_psi = pending
        first, last = self.span(move)

        def body(i: Array, left: tuple[Array, Array]) -> tuple[Array, Array]:
            moved = self.moved_row(sigma_t, i, move)
            index = jnp.where(accept, moved, self.row(sigma_t, i))
            new = step(cache.chain.forward[i], *_at(left, i), index)
            return _put(left, new, i + 1)

        return cache._replace(
            left=lax.fori_loop(first, last + 1, body, cache.left),
            low=last + 1,
            high=last + 1,
            log_psi=jnp.where(accept, log_psi, cache.log_psi),
        )

    def log_ratios(
        self,
        cache: ChainCache,
        sigma: Array,
        moves: Moves,
        wanted: Array | None = None,
    ) -> Array:
        """See `WaveFunction`; O(q D^2) per move and site between its first and last."""
        sigma_t = sigma.T
        sites, shift = jnp.asarray(moves.sites), jnp.asarray(moves.shift)
        if moves.n_moves == 1:
            # One move needs the environments beside it only.
            move = Move(sites[0], shift[0], moves.exchange)
            first, last = self.span(move)
            cache = self.extend(cache, sigma_t, first, last + 1)
            return (self.moved(cache, sigma_t, move) - cache.log_psi)[None, :]
        if sites.shape[1] == 1:
            cache = self.extend(cache, sigma_t, 0, 0)
            return self.flips(cache, sigma, sites[:, 0], shift[:, 0])
        cache = self.extend(cache, sigma_t, self.n_sites, 0)

        def one(table: tuple[Array, Array]) -> Array:
            move = Move(table[0], table[1], moves.exchange)
            return self.moved(cache, sigma_t, move) - cache.log_psi

        return lax.map(one, (sites, shift))

    def flips(
        self, cache: ChainCache, sigma: Array, sites: Array, shift: Array
    ) -> Array:
        """Ratios of all changes of one site, in one sweep from the left."""
        n_sites, n_batch = self.n_sites, sigma.shape[0]
        index = self.indices(sigma)

        def site(state: tuple[Array, Array], x: tuple) -> tuple[tuple, Array]:
            (v, scale), (matrix, w, w_scale, chosen) = state, x
            out = candidates(matrix, v)
            value = jnp.einsum("bqsk,bqk->sb", out, w, precision="highest")
            both = jnp.broadcast_to((scale + w_scale)[None, :], value.shape)
            logs = log_amplitude(value, both) - cache.log_psi[None, :]
            return choose(out, scale, chosen), logs

        start = boundary(cache.chain.first, n_batch)
        right = cache.right[0][1:], cache.right[1][1:]
        _, table = lax.scan(site, start, (cache.chain.forward, *right, index))
        inside = jnp.minimum(sites, n_sites - 1)
        dims = jnp.asarray(self.local_dims, jnp.int32)[inside][:, None]
        old = index[inside]
        new = jnp.mod(old + shift.astype(jnp.int32)[:, None], dims)
        out = table[inside[:, None], new, jnp.arange(n_batch)[None, :]]
        return jnp.where((sites < n_sites)[:, None], out, jnp.zeros_like(out))

    def gradients(self, chain: Chain, sigma: Array) -> tuple[Array, Array, Array]:
        """What derivatives of log psi are made of.

        Returns:
            left (B, N + 1, q, D), right (B, N + 1, q, D), onehot (B, N, d), such that
            d log psi / d A_i[s]_jk = sum_q onehot_is left_{i, qj} right_{i+1, qk},
            d log psi / d l = right_0 and d log psi / d r = left_N.
        """
        index = self.indices(sigma)
        left, _ = environments(chain.forward, chain.first, index, reverse=False)
        right, right_scale = environments(
            chain.backward, chain.last, index, reverse=True
        )
        value = jnp.einsum("nbqj,nbqj->nb", left, right, precision="highest")
        weight = jnp.where(value == 0, 0, 1 / jnp.where(value == 0, 1, value))
        weight = weight.astype(value.dtype)[:, :, None, None]
        # right_{i+1} is measured in units of right_i.
        change = jnp.exp(right_scale[1:] - right_scale[:-1])[:, :, None, None]
        first = (right[0] * weight[0])[None]
        right = jnp.concatenate([first, right[1:] * change])
        last = (left[-1] * weight[-1])[None]
        left = jnp.concatenate([left[:-1] * weight[:-1], last])
        width = chain.forward.shape[2] // chain.forward.shape[1]
        kinds = jnp.arange(width, dtype=jnp.int32)[None, None, :]
        onehot = (index.T[:, :, None] == kinds).astype(value.real.dtype)
        return left.swapaxes(0, 1), right.swapaxes(0, 1), onehot


def candidates(matrix: Array, v: Array) -> Array:
    """v A[s] for every local state s: (B, q, d, D) from (D, d * D), (B, q, D)."""
    n_batch, rows, bond = v.shape
    out = jnp.matmul(v.reshape(-1, bond), matrix, precision="highest")
    return out.reshape(n_batch, rows, -1, bond)


def choose(out: Array, scale: Array, index: Array) -> tuple[Array, Array]:
    """The candidates (B, q, d, D) of one state per walker, renormalised."""
    # A matrix product with all d matrices beats a gather of one per walker.
    chosen = out[:, :, 0]
    for s in range(1, out.shape[2]):
        chosen = jnp.where((index == s)[:, None, None], out[:, :, s], chosen)
    flat, scale = renormalise(chosen.reshape(chosen.shape[0], -1), scale)
    return flat.reshape(chosen.shape), scale


def step(matrix: Array, v: Array, scale: Array, index: Array) -> tuple[Array, Array]:
    """v A[index] of every walker, renormalised: (B, q, D) and (B,)."""
    return choose(candidates(matrix, v), scale, index)


def boundary(v: Array, n_batch: int) -> tuple[Array, Array]:
    """One boundary environment for every walker."""
    zero = jnp.zeros((n_batch,), v.real.dtype)
    return jnp.broadcast_to(v[None], (n_batch, *v.shape)), zero


def overlap(v: Array, v_scale: Array, w: Array, w_scale: Array) -> Array:
    """Log of sum(v * w), complex (B,)."""
    return log_amplitude(jnp.sum(v * w, axis=(1, 2)), v_scale + w_scale)


def environments(
    matrices: Array, start: Array, index: Array, *, reverse: bool
) -> tuple[Array, Array]:
    """Environments at bonds 0 ... N from one end: (N + 1, B, q, D), (N + 1, B)."""

    def body(state: tuple[Array, Array], x: tuple) -> tuple[tuple, tuple]:
        new = step(x[0], *state, x[1])
        return new, new

    first = boundary(start, index.shape[1])
    _, rest = lax.scan(body, first, (matrices, index), reverse=reverse)

    def join(x: Array, y: Array) -> Array:
        return jnp.concatenate([y, x[None]] if reverse else [x[None], y])

    return join(first[0], rest[0]), join(first[1], rest[1])


def _at(pair: tuple[Array, Array], i: Array) -> tuple[Array, Array]:
    v, scale = (lax.dynamic_index_in_dim(x, i, 0, keepdims=False) for x in pair)
    return v, scale


def _put(
    pair: tuple[Array, Array], new: tuple[Array, Array], i: Array
) -> tuple[Array, Array]:
    v, scale = (lax.dynamic_update_index_in_dim(x, y, i, 0) for x, y in zip(pair, new))
    return v, scale

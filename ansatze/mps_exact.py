"""What a matrix product state gives without a Markov chain.

Norm by transfer matrices, independent samples by Gram environments from the right,
the purity of any set of sites by a transfer with four replicas, and the entanglement
spectrum of contiguous blocks (arXiv:1008.3477, arXiv:1803.09780).  A chain is given
as tensors (N, d, D, D) and boundary rows first and last, (q, D) with q = 1 (open) or
D (periodic, identities): psi = sum_qj (first A_1 ... A_N)_qj last_qj.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from ansatze.mps_grams import (
    einsum,
    product_mean,
    right_grams,
    scaled,
    zero_scale,
)
from ansatze.scaled import draw_state, largest
from vmc.base import Exact, Params, Space
from vmc.errors import JobError
from vmc.space import Spins

#: params -> tensors (N, d, D, D), first (q, D), last (q, D).
Parts = Callable[[Params], tuple[Array, Array, Array]]

#: Largest number of elements of an environment with four replicas.
MAX_ENVIRONMENT = 2**22


def exact_bond_dimension(local_dims: Sequence[int]) -> int:
    """Bond dimension with which an open chain represents every state.

    The largest over all bonds of min(states to the left, states to the right); a
    larger D only adds parameters that change nothing, which is worth a warning.
    """
    total = math.prod(local_dims)
    left, best = 1, 1
    for d in local_dims[:-1]:
        left *= d
        best = max(best, min(left, total // left))
    return best


def site_tensors(tensors: Array, local_dims: Sequence[int]) -> Array:
    """Tensors with zeros for local states that a site does not have."""
    kinds = np.arange(tensors.shape[1])[None, :] < np.asarray(local_dims)[:, None]
    return tensors * kinds[:, :, None, None].astype(tensors.real.dtype)


def chain_exact(parts: Parts, space: Space) -> Exact | None:
    """The exact tools of a chain, or None inside a sector, whose states it leaves.

    ``purity`` and ``spectrum`` take a region as an iterable of sites, on the host;
    ``product_mean`` takes the sites of its terms so.
    ``sample`` and ``log_norm`` take ``allowed``, see `vmc.base.Exact`.

    Args:
        parts: parameters -> the chain, entries of absent local states zero.
        space: the configurations.
    """
    if isinstance(space, Spins) and not space.is_free:
        return None
    local_dims = tuple(space.local_dims)

    def masked(params: Params, allowed: Array | None) -> tuple[Array, Array, Array]:
        tensors, first, last = parts(params)
        if allowed is not None:
            kept = jnp.asarray(allowed, bool)[:, :, None, None]
            tensors = jnp.where(kept, tensors, jnp.zeros_like(tensors))
        return tensors, first, last

    def norm(params: Params, allowed: Array | None = None) -> Array:
        return log_norm(*masked(params, allowed))

    def draw(
        params: Params, words: Array, allowed: Array | None = None
    ) -> tuple[Array, Array]:
        return sample(*masked(params, allowed), words, local_dims)

    return Exact(
        sample=draw,
        log_norm=norm,
        purity=lambda params, region: purity(*parts(params), region),
        spectrum=lambda params, region: spectrum(*parts(params), region),
        product_mean=lambda params, sites, matrices: product_mean(
            *parts(params), sites, matrices
        ),
    )


@jax.jit
def log_norm(tensors: Array, first: Array, last: Array) -> Array:
    """ln <psi|psi>, real; differentiable.  O(N d q^2 D^3)."""

    def body(state: tuple[Array, Array], a: Array) -> tuple[tuple, None]:
        ket = einsum("pjql,sjk->spkql", state[0], a)
        new = einsum("spkql,slm->pkqm", ket, jnp.conj(a))
        return scaled(new, state[1]), None

    start = einsum("pj,ql->pjql", first, jnp.conj(first))
    (gram, scale), _ = lax.scan(body, (start, zero_scale(tensors)), tensors)
    total = einsum("pjql,pj,ql->", gram, last, jnp.conj(last)).real
    return jnp.log(total) + scale


@functools.partial(jax.jit, static_argnames="local_dims")
def sample(
    tensors: Array,
    first: Array,
    last: Array,
    words: Array,
    local_dims: tuple[int, ...],
) -> tuple[Array, Array]:
    """Independent configurations from |psi|^2, site by site.

    O(N d q^2 D^2) each, after O(N d q^2 D^3) once.

    Args:
        tensors: (N, d, D, D), zero for states that a site does not have.
        first: (q, D).
        last: (q, D).
        words: uint32 (N, B), one uniform random word per site and draw.
        local_dims: d of each site.

    Returns:
        sigma int8 (B, N), and ln of their probabilities, real (B,).
    """
    grams = right_grams(tensors, last)[1:]
    real, n = tensors.real.dtype, words.shape[1]
    # What is lost in the rounding of a quadratic form is no probability.
    floor = 8 * tensors.shape[2] * jnp.finfo(real).eps
    start = jnp.broadcast_to(first[None], (n, *first.shape))

    def body(state: tuple[Array, Array], x: tuple) -> tuple[tuple, Array]:
        (v, log_p), (a, gram, word) = state, x
        out = einsum("bqj,sjk->bsqk", v, a)
        half = einsum("bspj,jpkq->bsqk", out, gram)
        weight = jnp.sum(half * jnp.conj(out), axis=(2, 3)).real
        most = jnp.max(weight, axis=1, keepdims=True)
        weight = jnp.where(weight > floor * most, weight, 0)
        index, log_each = draw_state(weight.T, word)
        v = jnp.take_along_axis(out, index[:, None, None, None], axis=1)[:, 0]
        flat = v.reshape(n, -1)
        v = (flat / largest(flat)).reshape(v.shape)
        return (v, log_p + log_each), index

    state = (start, jnp.zeros((n,), real))
    (_, log_p), index = lax.scan(body, state, (tensors, grams, words))
    top = jnp.asarray(local_dims, jnp.int32)[:, None] - 1
    return (top - 2 * index).T.astype(jnp.int8), log_p


def purity(tensors: Array, first: Array, last: Array, region: Iterable[int]) -> Array:
    """Tr rho_A^2 of the normalised state for any set of sites A.

    Two copies of psi and two of its conjugate are swept together; on the sites of A
    the conjugates change partners.  O(N d^2 D^5) for open chains, a factor D^4 more
    for periodic ones.

    Raises:
        JobError: a site is outside the chain, or the environment is too large.
    """
    inside = _mask(region, tensors.shape[0])
    rows, bond = first.shape
    if (rows * bond) ** 4 > MAX_ENVIRONMENT:
        kind = "a periodic chain" if rows > 1 else "an open chain"
        raise JobError(
            f"the exact purity of {kind} with bond dimension {bond} needs "
            f"{(rows * bond) ** 4:.1e} numbers; at most {MAX_ENVIRONMENT:.1e} are "
            "taken. Estimate it from samples (swap), or take a smaller bond dimension."
        )

    return _purity(tensors, first, last, jnp.asarray(inside))


@jax.jit
def _purity(tensors: Array, first: Array, last: Array, inside: Array) -> Array:
    bond = tensors.shape[2]

    def pair(x: Array, y: Array) -> Array:
        return (x[:, None, :, None] * y[None, :, None, :]).reshape(-1, bond, bond)

    def body(state: tuple[Array, Array], x: tuple) -> tuple[tuple, None]:
        (env, scale), (a, swap) = state, x
        env = einsum("zacbd,sae->zsecbd", env, a)
        env = einsum("zsecbd,tcf->zstefbd", env, a)
        env = jnp.where(swap, env.swapaxes(1, 2), env)
        env = einsum("zstefbd,sbg->ztefgd", env, jnp.conj(a))
        env = einsum("ztefgd,tdh->zefgh", env, jnp.conj(a))
        return scaled(env, scale), None

    def ends(v: Array) -> Array:
        kets = pair(v, v)
        both = kets[:, None, :, :, None, None] * jnp.conj(kets)[None, :, None, None]
        return both.reshape(-1, bond, bond, bond, bond)

    start = (ends(first), zero_scale(tensors))
    (env, scale), _ = lax.scan(body, start, (tensors, inside))
    total = jnp.sum(env * ends(last)).real
    return jnp.exp(jnp.log(total) + scale - 2 * log_norm(tensors, first, last))


def spectrum(tensors: Array, first: Array, last: Array, region: Iterable[int]) -> Array:
    """Eigenvalues of rho_A, largest first, for a contiguous set of sites A.

    A or its complement is one block of the chain.  A block at the end of an open
    chain cuts one bond and gives D values in O(N d D^3); any other cuts two and
    gives D^2 values in O(N d D^5) and memory of D^4 numbers.

    Raises:
        JobError: neither A nor its complement is a block.
    """
    inside = _mask(region, tensors.shape[0])
    edges = np.flatnonzero(np.diff(inside.astype(int)))
    if len(edges) > 2:
        raise JobError(
            f"the region {np.flatnonzero(inside).tolist()} is not a contiguous block; "
            "the spectrum is known for blocks only. Ask for its purity instead."
        )
    if len(edges) == 0:
        return jnp.ones((1,), tensors.real.dtype)
    start, stop = int(edges[0]) + 1, int(edges[-1]) + 1
    return _block_spectrum(tensors, first, last, start, stop)


@functools.partial(jax.jit, static_argnames=("start", "stop"))
def _block_spectrum(
    tensors: Array, first: Array, last: Array, start: int, stop: int
) -> Array:
    """Spectrum of sites [start, stop), or of [0, start) where start = stop."""
    if len(first) == 1 and start == stop:
        left = _block_gram(tensors[:start], first)
        right = _block_gram(tensors[start:].swapaxes(2, 3)[::-1], last)
        return _overlap_spectrum(left[0], right[0])
    if start == stop:
        start = 0
    eye = jnp.eye(tensors.shape[2], dtype=tensors.dtype)
    block = _block_gram(tensors[start:stop], eye)
    if len(first) > 1:
        # From the end of the block around the ring to its start.
        outside = jnp.concatenate([tensors[stop:], tensors[:start]])
        rest = _block_gram(outside, eye).transpose(1, 0, 3, 2)
        return _overlap_spectrum(_as_matrix(block), _as_matrix(rest))
    left = _block_gram(tensors[:start], first)[0]
    right = _block_gram(tensors[stop:].swapaxes(2, 3)[::-1], last)[0]
    rest = left[:, None, :, None] * right[None, :, None, :]
    return _overlap_spectrum(_as_matrix(block), _as_matrix(rest))


def _block_gram(tensors: Array, rows: Array) -> Array:
    """G[a, j, a', j'] = sum_s M_aj conj(M_a'j'), M = rows A ... A, up to a factor.

    One row gives (1, D, D), which drops both row indices' pairing.
    """

    def body(gram: Array, a: Array) -> tuple[Array, None]:
        ket = einsum("pjql,sjk->spkql", gram, a)
        gram = einsum("spkql,slm->pkqm", ket, jnp.conj(a))
        return scaled(gram, zero_scale(tensors))[0], None

    start = einsum("pj,ql->pjql", rows, jnp.conj(rows))
    gram, _ = lax.scan(body, start, tensors)
    return gram[:, :, 0] if len(rows) == 1 else gram


def _as_matrix(gram: Array) -> Array:
    """(a, j, a', j') as rows (a, j) and columns (a', j')."""
    size = gram.shape[0] * gram.shape[1]
    return gram.reshape(size, size)


def _overlap_spectrum(inner: Array, outer: Array) -> Array:
    """Schmidt weights of sum_c |in_c>|out_c> from the two Gram matrices.

    rho_in = In^T (Out Out^H) conj(In) has the eigenvalues of
    sqrt(G_out) conj(G_in) sqrt(G_out), G = X X^H.
    """
    values, vectors = jnp.linalg.eigh(outer)
    root = vectors * jnp.sqrt(jnp.maximum(values, 0))[None, :]
    weights = jnp.linalg.eigvalsh(
        einsum("ca,cd,db->ab", root.conj(), inner.conj(), root)
    )
    weights = jnp.maximum(weights, 0)[::-1]
    return weights / jnp.sum(weights)


def _mask(region: Iterable[int], n_sites: int) -> np.ndarray:
    """Which sites are in the region, bool (N,)."""
    sites = [int(i) for i in region]
    bad = [i for i in sites if not 0 <= i < n_sites]
    if bad:
        raise JobError(f"region holds sites {bad}; the sites are 0 to {n_sites - 1}")
    inside = np.zeros(n_sites, bool)
    inside[sites] = True
    return inside

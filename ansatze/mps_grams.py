"""Environments of two copies of a chain, and averages of operators from them.

A chain is given as in `ansatze.mps_exact`: tensors (N, d, D, D) and boundary rows
first and last, (q, D).  An environment is a Gram matrix of everything on one side of a
bond, so that a product of operators costs only the sites between its first and last.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from ansatze.scaled import largest
from vmc.chunking import chunk_size, default_budget, map_chunks

#: Einsum in the precision of the type: neither TF32 nor bfloat16.
einsum = functools.partial(jnp.einsum, precision="highest")


def scaled(x: Array, scale: Array) -> tuple[Array, Array]:
    """A whole array with max |x| = 1, and its logarithmic scale."""
    size = largest(x.reshape(-1))[0]
    return x / size, scale + jnp.log(size)


def zero_scale(tensors: Array) -> Array:
    """A logarithmic scale to start from."""
    return jnp.zeros((), tensors.real.dtype)


def right_grams(tensors: Array, last: Array) -> Array:
    """sum over what is right of every bond of R R^H: (N + 1, D, q, D, q), max 1."""

    def body(gram: Array, a: Array) -> tuple[Array, Array]:
        ket = einsum("sjk,kplq->sjplq", a, gram)
        new = einsum("sjplq,sml->jpmq", ket, jnp.conj(a))
        new = scaled(new, zero_scale(tensors))[0]
        return new, new

    start = einsum("pj,ql->jplq", last, jnp.conj(last))
    start = scaled(start, zero_scale(tensors))[0]
    _, rest = lax.scan(body, start, tensors, reverse=True)
    return jnp.concatenate([rest, start[None]])


def left_grams(tensors: Array, first: Array) -> tuple[Array, Array]:
    """sum over what is left of every bond of L^T L*: (N + 1, q, D, q, D), max 1.

    Returns:
        The environments, and what the step over each site divided by, (N,).
    """

    def body(gram: Array, a: Array) -> tuple[Array, tuple[Array, Array]]:
        ket = einsum("pjql,sjk->spkql", gram, a)
        new = einsum("spkql,slm->pkqm", ket, jnp.conj(a))
        size = largest(new.reshape(-1))[0]
        return new / size, (new / size, size)

    start = einsum("pj,ql->pjql", first, jnp.conj(first))
    start = scaled(start, zero_scale(tensors))[0]
    _, (rest, sizes) = lax.scan(body, start, tensors)
    return jnp.concatenate([start[None], rest]), sizes


def product_mean(
    tensors: Array,
    first: Array,
    last: Array,
    sites: Array | np.ndarray,
    matrices: Array | np.ndarray,
) -> Array:
    """Averages of products of one-site operators in the normalised state.

    O(N d q^2 D^3) once and as much per site between the first and the last of every
    term (at most twice their number); memory of N q^2 D^2 numbers.

    Args:
        tensors: (N, d, D, D), zero for states that a site does not have.
        first: (q, D).
        last: (q, D).
        sites: int (T, k), concrete; the different sites of each term, padded with N.
        matrices: (T, k, d, d), see `vmc.base.Exact`.

    Returns:
        (T,), real if the tensors and matrices are.
    """
    sites, matrices = np.asarray(sites), jnp.asarray(matrices)
    n_sites = tensors.shape[0]
    if len(sites) == 0 or sites.shape[1] == 0:
        return jnp.ones(len(sites), jnp.result_type(tensors, matrices))
    # A term of nothing but padding is the identity on site 0.
    low = np.min(sites, axis=1) % n_sites
    high = np.max(np.where(sites < n_sites, sites, 0), axis=1)
    # Windows may be longer than what they hold: few lengths, few programs.
    length = np.minimum(2 ** np.ceil(np.log2(high - low + 1)).astype(int), n_sites)
    start = np.minimum(low, n_sites - length)
    env = jax.jit(left_grams)(tensors, first), jax.jit(right_grams)(tensors, last)
    out = jnp.zeros(len(sites), jnp.result_type(tensors, matrices))
    for n in np.unique(length).tolist():
        rows = np.flatnonzero(length == n)
        part = start[rows], sites[rows], matrices[rows]
        out = out.at[rows].set(_windows(tensors, *env, *part, n_steps=n))
    return out


@functools.partial(jax.jit, static_argnames="n_steps")
def _windows(
    tensors: Array,
    left: tuple[Array, Array],
    right: Array,
    start: Array,
    sites: Array,
    matrices: Array,
    *,
    n_steps: int,
) -> Array:
    """`product_mean` of terms inside windows of some length, from `start` on."""
    gram, sizes = left
    rows, bond, d = gram.shape[1], tensors.shape[2], tensors.shape[1]
    eye = jnp.eye(d, dtype=matrices.dtype)
    dtype = jnp.result_type(tensors, matrices)

    def some(part: tuple[Array, Array, Array]) -> Array:
        start, sites, matrices = part

        def step(i: Array, x: Array) -> Array:
            site = start + i
            hit = sites == site[:, None]
            here = einsum("tk,tkab->tab", hit.astype(matrices.dtype), matrices)
            free = ~jnp.any(hit, axis=1)[:, None, None]
            op = jnp.where(free, eye[None], here)
            a = tensors[site]
            bra = einsum("tab,talm->tblm", op, jnp.conj(a))
            ket = einsum("tpjql,tsjk->tspkql", x, a)
            x = einsum("tspkql,tslm->tpkqm", ket, bra)
            return x / sizes[site][:, None, None, None, None]

        x = lax.fori_loop(0, n_steps, step, gram[start].astype(dtype))
        stop = start + n_steps
        after = right[stop]
        above = einsum("tpjql,tjplq->t", x, after)
        return above / einsum("tpjql,tjplq->t", gram[stop], after)

    n_bytes = (rows * bond) ** 2 * (3 * d + 2) * dtype.itemsize
    chunk = chunk_size(start.shape[0], n_bytes, default_budget())
    return map_chunks(some, (start, sites, matrices), chunk)

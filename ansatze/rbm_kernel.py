"""A walk of a restricted Boltzmann machine as one GPU kernel, written in Pallas.

XLA runs a loop over proposals as several kernels each, which wait for each other and
move u through the memory of the device every time.  Here one program takes
one walker through all of its moves: u and the spins stay in registers, and a move
loads one row of the tables, of sites that are the same for all walkers.

The arithmetic is that of `ansatze.rbm`, unit for unit: products over blocks of |1 + u|
and one logarithm per block.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from ansatze.rbm_products import times


def walk(
    block_size: int,
    cache: Any,
    sigma: Array,
    sites: Array,
    words: Array,
    *,
    fixed_sz: bool,
    interpret: bool,
) -> tuple[Array, Array, Array]:
    """Walkers after a sequence of moves, see `WaveFunction.walk`.

    Args:
        block_size: hidden units per product, of real u.
        cache: an `ansatze.rbm.RBMCache` of sigma.
        sigma: int8 (B, N).
        sites: int32 (n, k), padded with N.
        words: uint32 (n, B).
        fixed_sz: whether moves must leave the total Sz as it is.
        interpret: run Pallas' interpreter instead of a kernel.
    """
    from jax.experimental import pallas as pl
    from jax.experimental.pallas import triton

    n_walkers, n_sites = sigma.shape
    planes = len(cache.u)
    # Squares reach twice as far.
    size = block_size // planes
    # Triton's arrays have powers of two; a unit of u = 0 is a factor of 1.
    lanes = _power_of_two(cache.u[0].shape[0] // size)
    spins = sigma.astype(jnp.int32)
    spins = jnp.pad(spins, ((0, 0), (0, _power_of_two(n_sites) - n_sites)))
    tables = [[_blocks(size, lanes, t) for t in x] for x in (cache.up, cache.down)]
    real = cache.log_den.dtype
    kernel = functools.partial(
        _kernel,
        shape=(planes, size, n_sites),
        n_moves=sites.shape[0],
        n_changed=sites.shape[1],
        fixed_sz=fixed_sz,
    )
    out = (
        jax.ShapeDtypeStruct(spins.shape, jnp.int32),
        jax.ShapeDtypeStruct((n_walkers,), real),
        jax.ShapeDtypeStruct((n_walkers,), jnp.int32),
    )
    warps = max(1, min(8, lanes // 128))
    spins, gain, accepted = pl.pallas_call(
        kernel,
        out_shape=out,
        grid=(n_walkers,),
        interpret=interpret,
        compiler_params=triton.CompilerParams(num_warps=warps),
        name="rbm_walk",
    )(
        jnp.stack([_blocks(size, lanes, x.T) for x in cache.u], axis=1),
        cache.log_den,
        jnp.stack([jnp.stack(x, axis=1) for x in tables]),
        cache.c.real,
        spins,
        sites.astype(jnp.int32),
        words,
    )
    total = jnp.sum(accepted, dtype=accepted.dtype)
    return spins[:, :n_sites].astype(sigma.dtype), gain, total


def _power_of_two(n: int) -> int:
    return 1 << math.ceil(math.log2(n)) if n > 1 else 1


def _blocks(size: int, lanes: int, x: Array) -> Array:
    """(rows, M) as (rows, size, lanes), blocks along the last axis, padded with 0."""
    x = x.reshape(x.shape[0], size, -1)
    return jnp.pad(x, ((0, 0), (0, 0), (0, lanes - x.shape[2])))


def _kernel(
    u_ref: Any,
    log_den_ref: Any,
    table_ref: Any,
    c_ref: Any,
    spins_ref: Any,
    sites_ref: Any,
    words_ref: Any,
    spins_out: Any,
    gain_out: Any,
    accepted_out: Any,
    *,
    shape: tuple[int, int, int],
    n_moves: int,
    n_changed: int,
    fixed_sz: bool,
) -> None:
    """One walker, the program's number.

    u (B, planes, size, lanes), tables (2, N + 1, planes, size, lanes) of spins that are
    up or not; the others as in `walk`.
    """
    from jax.experimental import pallas as pl

    planes, size, n_sites = shape
    walker = pl.program_id(0)
    spins = spins_ref[walker, :]
    place = lax.broadcasted_iota(jnp.int32, spins.shape, 0)
    u = [tuple(u_ref[walker, p, b] for p in range(planes)) for b in range(size)]

    def propose(i: Array, carry: Any) -> Any:
        u, log_den, spins, gain, accepted = carry
        sites = [sites_ref[i, c] for c in range(n_changed)]
        # The spin at a site of the padding is 0, its factors 1, its c 0.
        old = [jnp.sum(jnp.where(place == s, spins, 0)) for s in sites]
        rows = [(jnp.where(s > 0, 0, 1), site) for s, site in zip(old, sites)]
        new = [
            times(x, _factor(table_ref, rows, planes, block))
            for block, x in enumerate(u)
        ]
        logs = jnp.sum(jnp.log(_product(new)))
        after = logs if planes == 1 else logs / planes
        visible = sum(s.astype(gain.dtype) * c_ref[site] for s, site in zip(old, sites))
        ratio = 2 * (visible + after - log_den)
        uniform = words_ref[i, walker].astype(gain.dtype) * 2.0**-32
        accept = (sites[0] < n_sites) & (uniform < jnp.exp(ratio))
        if fixed_sz:
            accept = accept & (sum(old) == 0)
        touched = functools.reduce(jnp.logical_or, [place == s for s in sites])
        u = [
            tuple(jnp.where(accept, y, x) for x, y in zip(before, moved))
            for before, moved in zip(u, new)
        ]
        return (
            u,
            jnp.where(accept, after, log_den),
            jnp.where(touched & accept, -spins, spins),
            gain + jnp.where(accept, ratio, 0),
            accepted + accept.astype(jnp.int32),
        )

    log_den = log_den_ref[walker]
    carry = (u, log_den, spins, jnp.zeros_like(log_den), jnp.int32(0))
    _, _, spins, gain, accepted = lax.fori_loop(0, n_moves, propose, carry)
    spins_out[walker, :] = spins
    gain_out[walker] = gain
    accepted_out[walker] = accepted


def _factor(
    table_ref: Any, rows: list[tuple[Array, Array]], planes: int, block: int
) -> tuple[Array, ...]:
    """Product of the sites' factors of a block of u."""
    each = [
        tuple(table_ref[down, site, p, block] for p in range(planes))
        for down, site in rows
    ]
    return functools.reduce(times, each)


def _product(u: list[tuple[Array, ...]]) -> Array:
    """|1 + u|, or its square for complex u, multiplied over the blocks: (lanes,)."""
    factors = [
        1 + x[0] if len(x) == 1 else (1 + x[0]) * (1 + x[0]) + x[1] * x[1] for x in u
    ]
    return functools.reduce(jnp.multiply, factors)

"""Products over hidden units of restricted Boltzmann machines.

A walker is its numbers u = exp(2 theta), walkers trailing, complex ones as two planes.
A move multiplies u by factors of the tables; amplitudes are products of |1 + u|, whose
logarithms are taken once per block of units.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from vmc.base import Move


def as_planes(x: Array) -> tuple[Array, ...]:
    """A real array alone, a complex one as (real, imaginary) parts."""
    return (x.real, x.imag) if jnp.iscomplexobj(x) else (x,)


def times(x: tuple[Array, ...], y: tuple[Array, ...]) -> tuple[Array, ...]:
    """Product of two numbers given as planes."""
    if len(x) == 1:
        return (x[0] * y[0],)
    return (x[0] * y[0] - x[1] * y[1], x[0] * y[1] + x[1] * y[0])


def site_values(n_sites: int, sigma: Array, sites: Array, dtype: Any) -> list[Array]:
    """Spins at the k sites of a move, each (B,); 0 for padding."""
    sigma_t = sigma.T
    rows = []
    for c in range(sites.shape[0]):
        site = jnp.minimum(sites[c], n_sites - 1)
        row = lax.dynamic_index_in_dim(sigma_t, site, 0, keepdims=False)
        rows.append(jnp.where(sites[c] < n_sites, row, 0).astype(dtype))
    return rows


class Case(NamedTuple):
    """Factors of u: planes (M,) of walkers whose spin is up, of others; who is up."""

    up: tuple[Array, ...]
    down: tuple[Array, ...]
    is_up: Array


def _pick(table: tuple[Array, ...], site: Array) -> tuple[Array, ...]:
    return tuple(lax.dynamic_index_in_dim(t, site, 0, keepdims=False) for t in table)


def cases_of(
    up: tuple[Array, ...],
    down: tuple[Array, ...],
    move: Move,
    spins: list[Array],
) -> tuple[Case, ...]:
    """Factors of a move.

    Args:
        up: planes (N + 1, M), factors of a site that is up.
        down: of one that is down.
        move: the move.
        spins: what `site_values` says.
    """
    is_up = [spin > 0 for spin in spins]
    if move.exchange:
        # The spins are antiparallel: two cases instead of four.
        first, second = move.sites[0], move.sites[1]
        plus = times(_pick(up, first), _pick(down, second))
        minus = times(_pick(down, first), _pick(up, second))
        return (Case(plus, minus, is_up[0]),)
    sites = [move.sites[c] for c in range(len(spins))]
    return tuple(Case(_pick(up, i), _pick(down, i), s) for i, s in zip(sites, is_up))


def moved(u: tuple[Array, ...], cases: tuple[Case, ...]) -> tuple[Array, ...]:
    """u after a move, planes (M, B)."""
    factor: tuple[Array, ...] | None = None
    for up, down, is_up in cases:
        chosen = tuple(
            jnp.where(is_up[None], x[:, None], y[:, None]) for x, y in zip(up, down)
        )
        factor = chosen if factor is None else times(factor, chosen)
    assert factor is not None
    return times(u, factor)


def log_one_plus(size: int, u: tuple[Array, ...]) -> Array:
    """sum_j ln |1 + u_j| for planes (M, B): products over blocks of that size."""
    return _sum_of_logs(_block_products(size, u), len(u))


def _block_products(size: int, u: tuple[Array, ...]) -> Array:
    """|1 + u_j|, or its square for complex u, over blocks: (blocks, B)."""
    # Squares reach twice as far.
    size = size // len(u)
    factor = 1 + u[0] if len(u) == 1 else (1 + u[0]) ** 2 + u[1] ** 2
    return jnp.prod(factor.reshape(size, -1, factor.shape[1]), axis=0)


def _sum_of_logs(blocks: Array, power: int) -> Array:
    """Sum over blocks of the logarithm of their root."""
    # Without the barrier XLA:CPU recomputes the product for every logarithm.
    logs = jnp.sum(jnp.log(lax.optimization_barrier(blocks)), axis=0)
    return logs if power == 1 else logs / power


def log_one_plus_moved(
    size: int, u: tuple[Array, ...], cases: tuple[Case, ...]
) -> Array:
    """The same after a move."""
    if len(cases) == len(u) == 1:
        # Both products for all walkers cost less than a choice for every number.
        case, numbers = cases[0], u[0]
        both = [
            _block_products(size, (numbers * factor[0][:, None],))
            for factor in (case.up, case.down)
        ]
        return _sum_of_logs(jnp.where(case.is_up[None], *both), 1)
    return log_one_plus(size, moved(u, cases))


def real_times(x: Array, y: Array) -> Array:
    """X Y of a real Y, (R, C); of a complex X as one real product, half the work.

    Both factors are written row by row first: XLA:CPU has its fast kernels for that
    form, and would otherwise take a transposition into the product, which then takes
    twice as long.
    """
    if not jnp.iscomplexobj(x):
        return lax.optimization_barrier(x) @ lax.optimization_barrier(y)
    planes = jnp.concatenate([x.real, x.imag])
    re, im = jnp.split(real_times(planes, y), 2)
    return lax.complex(re, im)


def by_real_products(linear: Callable[[Array], Array], x: Array) -> Array:
    """A real linear map; of complex x by two real products, half the work of one."""
    if not jnp.iscomplexobj(x):
        return linear(x)
    return lax.complex(linear(x.real), linear(x.imag))

"""Cholesky decomposition of a matrix whose rows lie on several devices.

Rows are taken in another order than they come: pivot block j holds rows j of every
device, so that all of them have the same work until the end.  Left-looking: a panel is
T less the products of the panels before it, and only the lower triangle is computed.
Every device receives each panel once, n^2 / 2 numbers in all, half of what gathering
the matrix would cost; products, n^3 / 3 of the n^3 / 3 + O(n^2), are shared.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import jax.scipy.linalg as jsl
from jax import Array, lax

from vmc import distributed

#: Rows of a pivot block over all devices: at least this, ...
WIDTH = 256
#: ... and as many as leave this number of blocks, each of which has two collectives.
PANELS = 16


class Shared(NamedTuple):
    """A Hermitian matrix of p parts, each with the samples of D devices in turn.

    Attributes:
        parts: p.
        n_local: B, samples of one device.
        block: (start, stop) -> of this device's p * B rows those from start on, and
            of every device's columns those from start to stop: (R, D * (stop - start)).
    """

    parts: int
    n_local: int
    block: Callable[[int, int], Array]

    @classmethod
    def of(cls, rows: Array) -> Shared:
        """From all rows of this device, (p, B, p, D * B)."""
        parts, n_local = rows.shape[:2]
        count, m = distributed.n_devices(), parts * n_local
        mine = rows.reshape(m, parts, count, n_local).transpose(0, 2, 1, 3)
        mine = mine.reshape(m, count, m)

        def block(start: int, stop: int) -> Array:
            out = mine[start:, :, start:stop]
            return out.reshape(len(out), -1)

        return cls(parts, n_local, block)


class Panel(NamedTuple):
    """Columns of the factor L of one pivot block.

    Attributes:
        pivot: (w, w), lower triangular, of the rows of the block.
        everywhere: (D, R, w) rows of all devices below them.
        near: rows of this device in real numbers, a factor of products; `_split`.
        far: all rows in real numbers, the other factor.
    """

    pivot: Array
    everywhere: Array
    near: Array
    far: Array


def cholesky(matrix: Shared, shift: Array) -> tuple[Array, Callable[[Array], Array]]:
    """Factor (A + shift), and solve with it; inside `distributed.per_walker`.

    Args:
        matrix: A; only blocks of its lower triangle are asked for.
        shift: real scalar.

    Returns:
        The diagonal of L (n,), not finite where the matrix is not positive definite,
        and b (n, c) -> x (n, c), both ordered (part, device, sample); b and x are
        equal on all devices.
    """
    parts, n_local, count = matrix.parts, matrix.n_local, distributed.n_devices()
    m, order = parts * n_local, (parts, count, n_local)
    width = max(1, -(-max(WIDTH, m * count // PANELS) // count))
    edges = [*range(0, m, width), m]
    panels: list[Panel] = []
    for start, stop in zip(edges, edges[1:]):
        block = matrix.block(start, stop)
        panels.append(_panel(block, panels, start, stop, shift))

    def arrange(x: Array) -> Array:
        return x.reshape(*order, -1).swapaxes(0, 1).reshape(count, m, -1)

    def restore(x: Array) -> Array:
        x = x.reshape(count, parts, n_local, -1).swapaxes(0, 1)
        return x.reshape(m * count, -1)

    def solve(b: Array) -> Array:
        return restore(_substitute(panels, edges, arrange(b)))

    pivots = [jnp.diagonal(p.pivot).reshape(count, -1) for p in panels]
    diagonal = jnp.abs(jnp.concatenate(pivots, axis=1))
    return restore(diagonal[..., None])[:, 0], solve


def _panel(
    block: Array, before: list[Panel], start: int, stop: int, shift: Array
) -> Panel:
    """The panel of the rows start to stop of every device, from that block of A."""
    count, size, width = distributed.n_devices(), stop - start, block.shape[1]
    done = 0
    for panel in before:
        # Rows of that panel begin where its pivots end.
        done += panel.pivot.shape[0] // count
        far = panel.far[:, start - done : stop - done].reshape(width, -1)
        block = block - _join(panel.near[:, start - done :] @ far.T, block.dtype)
    pivot = distributed.gather(block[:size])
    eye = jnp.eye(width, dtype=pivot.dtype)
    factor = jnp.linalg.cholesky(
        pivot + shift.astype(pivot.dtype) * eye, symmetrize_input=False
    )
    # X L^H = A is conj(L) X^T = A^T.
    below = jsl.solve_triangular(jnp.conj(factor), block[size:].T, lower=True).T
    everywhere = distributed.gather(below[None])
    return Panel(factor, everywhere, *_split(below, everywhere))


def times_adjoint(x: Array, y: Array) -> Array:
    """X Y^H for X (R, k) and Y (C, k), both real or both complex."""
    near, far = _split(x, y)
    return _join(near @ far.T, x.dtype)


def _split(x: Array, y: Array) -> tuple[Array, Array]:
    """Factors (parts, R, k) and (..., k) of X Y^H in real numbers; see `_join`.

    Real and imaginary parts come from one real product, which is faster than a
    complex one on CPUs.
    """
    if not jnp.iscomplexobj(x):
        return x[None], y
    re = jnp.concatenate([x.real, x.imag], axis=-1)
    im = jnp.concatenate([x.imag, -x.real], axis=-1)
    return jnp.stack([re, im]), jnp.concatenate([y.real, y.imag], axis=-1)


def _join(product: Array, dtype: Any) -> Array:
    """The matrix from its parts, (1 or 2, R, w)."""
    if not jnp.issubdtype(dtype, jnp.complexfloating):
        return product[0]
    return lax.complex(product[0], product[1])


def _substitute(panels: list[Panel], edges: list[int], b: Array) -> Array:
    """Solve L L^H x = b for b (D, m, c) in the order of the pivots."""
    count, _, c = b.shape
    found: list[Array] = []
    for panel, start, stop in zip(panels, edges, edges[1:]):
        size = stop - start
        head = b[:, :size].reshape(count * size, c)
        found.append(jsl.solve_triangular(panel.pivot, head, lower=True))
        b = b[:, size:] - jnp.einsum("drw,wc->drc", panel.everywhere, found[-1])
    x = b
    for panel, y in zip(reversed(panels), reversed(found)):
        back = jnp.einsum("drw,drc->wc", jnp.conj(panel.everywhere), x)
        head = jsl.solve_triangular(panel.pivot, y - back, lower=True, trans="C")
        x = jnp.concatenate([head.reshape(count, -1, c), x], axis=1)
    return x

"""Cholesky decomposition of a matrix whose rows lie on several devices.

Rows are taken in another order than they come: pivot block j holds rows j of every
device, so that all of them have the same work until the end.  The lower triangle alone
is computed, by halves: the left half of the columns is factored, what lies below it is
divided by that factor, and its products leave the right half to be factored in turn.
Products are then few and large, which matters on CPUs: their sums pass through memory
once per level of halves instead of once per block.  Every device receives each number
of the factor once, n^2 / 2 in all, half of what gathering the matrix would cost; all
but O(n^2) of the n^3 / 3 operations are shared.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

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


class Parts(NamedTuple):
    """A matrix for products in real numbers, which are faster on CPUs.

    Attributes:
        re: real part.
        im: imaginary part; None: the matrix is real.
    """

    re: Array
    im: Array | None

    @classmethod
    def of(cls, x: Array) -> Parts:
        """The parts of a matrix."""
        return cls(x.real, x.imag) if jnp.iscomplexobj(x) else cls(x, None)

    def rows(self, start: int, stop: int) -> Parts:
        """Some rows."""
        im = None if self.im is None else self.im[start:stop]
        return Parts(self.re[start:stop], im)


class Leaf(NamedTuple):
    """Factor of one pivot block: (w, w), lower triangular."""

    factor: Array


class Halves(NamedTuple):
    """Factor of several pivot blocks, in the order of the pivots.

    Attributes:
        left: factor of the first blocks, of k columns.
        below: the k columns below it, (n - k, k).
        right: factor of the other blocks.
    """

    left: Leaf | Halves
    below: Parts
    right: Leaf | Halves


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
    blocks = [matrix.block(*ends) for ends in zip(edges, edges[1:])]
    tree = _factor(blocks, edges, shift)

    def arrange(x: Array) -> Array:
        x = x.reshape(*order, -1).swapaxes(0, 1).reshape(count, m, -1)
        return _in_pivot_order(x, edges)

    def restore(x: Array) -> Array:
        rows = []
        for start, stop in zip(edges, edges[1:]):
            some = x[start * count : stop * count]
            rows.append(some.reshape(count, stop - start, -1))
        x = jnp.concatenate(rows, axis=1).reshape(count, parts, n_local, -1)
        return x.swapaxes(0, 1).reshape(m * count, -1)

    def solve(b: Array) -> Array:
        return restore(_backward(tree, _forward(tree, arrange(b))))

    return restore(jnp.abs(_diagonal(tree))[:, None])[:, 0], solve


def _factor(blocks: list[Array], edges: list[int], shift: Array) -> Leaf | Halves:
    """Factor of the rows edges[0] to edges[-1] of every device.

    Args:
        blocks: columns of each pivot block, this device's rows from its own on.
        edges: bounds of the blocks in the rows of a device, one more than blocks.
        shift: real scalar.
    """
    if len(blocks) == 1:
        pivot = distributed.gather(blocks[0])
        eye = jnp.eye(len(pivot), dtype=pivot.dtype)
        pivot = pivot + shift.astype(pivot.dtype) * eye
        return Leaf(jnp.linalg.cholesky(pivot, symmetrize_input=False))
    half = len(blocks) // 2
    middle = edges[half]
    above = [b[: middle - e] for b, e in zip(blocks[:half], edges)]
    left = _factor(above, edges[: half + 1], shift)
    rest = [b[middle - e :] for b, e in zip(blocks[:half], edges)]
    mine = _divide(jnp.concatenate(rest, axis=1), left)
    edges = [e - middle for e in edges[half:]]
    near = Parts.of(mine)
    below = Parts.of(_in_pivot_order(distributed.gather(mine[None]), edges))
    others, done = [], 0
    for b, start in zip(blocks[half:], edges):
        far = below.rows(done, done + b.shape[1])
        others.append(b - _adjoint_product(near.rows(start, len(mine)), far))
        done += b.shape[1]
    return Halves(left, below, _factor(others, edges, shift))


def _divide(a: Array, tree: Leaf | Halves) -> Array:
    """X with X L^H = A, for some rows: (R, k)."""
    if isinstance(tree, Leaf):
        # conj(L) X^T = A^T.
        return jsl.solve_triangular(jnp.conj(tree.factor), a.T, lower=True).T
    k = a.shape[1] - len(tree.below.re)
    left = _divide(a[:, :k], tree.left)
    rest = a[:, k:] - _adjoint_product(Parts.of(left), tree.below)
    return jnp.concatenate([left, _divide(rest, tree.right)], axis=1)


def _forward(tree: Leaf | Halves, b: Array) -> Array:
    """L^-1 b, (n, c), rows in the order of the pivots."""
    if isinstance(tree, Leaf):
        return jsl.solve_triangular(tree.factor, b, lower=True)
    k = len(b) - len(tree.below.re)
    first = _forward(tree.left, b[:k])
    rest = b[k:] - _product(tree.below, first)
    return jnp.concatenate([first, _forward(tree.right, rest)])


def _backward(tree: Leaf | Halves, b: Array) -> Array:
    """L^-H b, (n, c), rows in the order of the pivots."""
    if isinstance(tree, Leaf):
        return jsl.solve_triangular(tree.factor, b, lower=True, trans="C")
    k = len(b) - len(tree.below.re)
    last = _backward(tree.right, b[k:])
    rest = b[:k] - _product_of_adjoint(tree.below, last)
    return jnp.concatenate([_backward(tree.left, rest), last])


def _diagonal(tree: Leaf | Halves) -> Array:
    if isinstance(tree, Leaf):
        return jnp.diagonal(tree.factor)
    return jnp.concatenate([_diagonal(tree.left), _diagonal(tree.right)])


def _in_pivot_order(x: Array, edges: list[int]) -> Array:
    """Rows of every device, (D, R, c), as (D * R, c): block by block, then by device.

    Args:
        x: rows.
        edges: bounds of the blocks in the rows of a device, from 0 to R.
    """
    if len(x) == 1:
        return x[0]
    parts = [x[:, a:b].reshape(-1, x.shape[2]) for a, b in zip(edges, edges[1:])]
    return jnp.concatenate(parts)


# ---- complex products in real numbers, which are faster on CPUs ----------------------


def _adjoint_product(x: Parts, y: Parts) -> Array:
    """X Y^H, (R, C), for X (R, k) and Y (C, k).

    By three real products instead of four: X Y^H = A + B + i (C - A + B) with A and B
    those of the real and of the imaginary parts, C = (Re X + Im X) (Re Y - Im Y)^T.
    The error of each part is that of |X| |Y|, also where the part is small.
    """
    if x.im is None or y.im is None:
        return x.re @ y.re.T
    a, b = x.re @ y.re.T, x.im @ y.im.T
    c = (x.re + x.im) @ (y.re - y.im).T
    return lax.complex(a + b, c - a + b)


def times_adjoint(x: Array, y: Array) -> Array:
    """X Y^H for X (R, k) and Y (C, k), both real or both complex."""
    return _adjoint_product(Parts.of(x), Parts.of(y))


def _product(y: Parts, x: Array) -> Array:
    """Y x, (R, c), for Y (R, k) and x (k, c)."""
    if y.im is None:
        return y.re @ x
    columns = jnp.concatenate([x.real, x.imag], axis=1)
    (rr, ri), (ir, ii) = (jnp.split(part @ columns, 2, axis=1) for part in (y.re, y.im))
    return lax.complex(rr - ii, ri + ir)


def _product_of_adjoint(y: Parts, x: Array) -> Array:
    """Y^H x, (k, c), for Y (R, k) and x (R, c)."""
    if y.im is None:
        return y.re.T @ x
    columns = jnp.concatenate([x.real, x.imag], axis=1)
    (rr, ri), (ir, ii) = (
        jnp.split(part.T @ columns, 2, axis=1) for part in (y.re, y.im)
    )
    return lax.complex(rr + ii, ri - ir)

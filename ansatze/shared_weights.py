"""Linear layers that share their weights between positions.

y[d, p] = sum_{c, k} w[d, c, k] x[c, table[k, p]]: a convolution on a lattice, where
table[k, p] is the neighbour of p at offset k; a convolution over a group, where it is
the product of two elements; the lifting layer between the two; attention that depends
on distances only.

Where every position reads a good part of all others, one product with the full matrix
(P D, Q C) is several times faster than gathering what is read, and its gradient for
all walkers together too.  The gradient for each walker on its own, which a score is,
has to gather: the full matrices of all walkers would not fit anywhere.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

#: The full matrix is used while it makes at most this many times the products.
FULL_MATRIX = 6


@dataclasses.dataclass(frozen=True, eq=False)
class Shared:
    """Which position every position reads, and the layer that goes with it.

    Attributes:
        table: int32 (K, P), where output p reads for weight k; n_in for nowhere.
            No position is read twice by the same one.
        n_in: Q, number of positions of the input.
    """

    table: np.ndarray
    n_in: int

    @property
    def n_weights(self) -> int:
        """K."""
        return self.table.shape[0]

    @property
    def n_out(self) -> int:
        """P."""
        return self.table.shape[1]

    @property
    def has_gaps(self) -> bool:
        """Whether something is read nowhere."""
        return bool(np.any(self.table == self.n_in))

    @functools.cached_property
    def links(self) -> np.ndarray:
        """The weight k that joins output p and input q, int32 (P, Q); K for none."""
        out = np.full((self.n_out, self.n_in + 1), self.n_weights, np.int32)
        for k, read in enumerate(self.table):
            out[np.arange(self.n_out), read] = k
        return out[:, :-1]

    def score_bytes(self, n_channels: int) -> int:
        """Memory for what one walker's gradient gathers, in double precision."""
        return 8 * self.table.size * n_channels

    def __call__(self, weights: Array, x: Array) -> Array:
        """The layer.

        Args:
            weights: (D, C, K).
            x: (C, Q, B).

        Returns:
            (D, P, B).
        """
        return _layer(self, weights, x)

    def depthwise(self, weights: Array, x: Array) -> Array:
        """The layer with weights (C, K) that do not mix channels: (C, P, B)."""
        return jax.vmap(self)(weights[:, None, None], x[:, None])[:, 0]

    def by_matrix(self, weights: Array, x: Array) -> Array:
        """The layer, as a product with the full matrix."""
        n_after, n_before, _ = weights.shape
        matrix = jnp.pad(weights, ((0, 0), (0, 0), (0, 1)))
        matrix = matrix.at[:, :, self.links].get(mode="clip").transpose(0, 2, 1, 3)
        matrix = matrix.reshape(n_after * self.n_out, n_before * self.n_in)
        flat = x.reshape(n_before * self.n_in, -1)
        out = jnp.matmul(matrix, flat, precision="highest")
        return out.reshape(n_after, self.n_out, -1)

    def by_gather(self, weights: Array, x: Array) -> Array:
        """The layer, as a product with a copy of what each position reads."""
        if self.has_gaps:
            x = jnp.pad(x, ((0, 0), (0, 1), (0, 0)))
        return gathered(weights, x.at[:, self.table].get(mode="clip"))

    def best(self, weights: Array, x: Array) -> Array:
        """The layer, by the faster of the two ways."""
        full = self.n_in <= FULL_MATRIX * self.n_weights
        return self.by_matrix(weights, x) if full else self.by_gather(weights, x)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _layer(shared: Shared, weights: Array, x: Array) -> Array:
    return shared.best(weights, x)


@_layer.defjvp
def _layer_jvp(shared: Shared, primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    (weights, x), (d_weights, d_x) = primals, tangents
    # A single walker: this is a score, batched from outside.
    change = shared.by_gather if x.shape[-1] == 1 else shared.best
    out = shared.best(weights, d_x) + change(d_weights, x)
    return shared.best(weights, x), out


def gathered(weights: Array, read: Array) -> Array:
    """Outputs from a copy of what each of them reads.

    Args:
        weights: (D, C, K).
        read: (C, K, n, B).

    Returns:
        (D, n, B).
    """
    n_after = weights.shape[0]
    flat = read.reshape(weights[0].size, -1)
    out = jnp.matmul(weights.reshape(n_after, -1), flat, precision="highest")
    return out.reshape(n_after, *read.shape[2:])


def windows(
    shape: Sequence[int], periodic: Sequence[bool], extent: Sequence[int]
) -> Shared:
    """A convolution on a grid: windows around every position.

    Args:
        shape: extent of the grid, row-major.
        periodic: of each direction; windows wrap around these, zeros pad the others.
        extent: of the window along each direction; at most that of the grid where it
            is periodic, at most 2 n - 1 where it is open.
    """
    spans = [(-((k - 1) // 2), k // 2) for k in extent]
    return Shared(box_table(shape, periodic, spans), math.prod(shape))


def box_table(
    shape: Sequence[int], periodic: Sequence[bool], spans: Sequence[tuple[int, int]]
) -> np.ndarray:
    """Cells in a box around every cell of a grid.

    Args:
        shape: extent of the grid, row-major, n cells in all.
        periodic: of each direction.
        spans: first and last step of the box along each direction; what goes around a
            periodic direction more than once is left out.

    Returns:
        int32 (K, n); n where there is no cell.
    """
    grid = np.stack(np.unravel_index(np.arange(math.prod(shape)), tuple(shape)), -1)
    axes = []
    for (first, last), n, closed in zip(spans, shape, periodic, strict=True):
        first, last = max(first, 1 - n), min(last, n - 1)
        axes.append(range(first, min(last, first + n - 1) + 1 if closed else last + 1))
    target = grid[None] + np.array(list(itertools.product(*axes)), int)[:, None]
    size = np.array(shape)
    outside = np.any(((target < 0) | (target >= size)) & ~np.array(periodic), axis=-1)
    index = np.ravel_multi_index(tuple(np.moveaxis(target % size, -1, 0)), tuple(shape))
    return np.asarray(np.where(outside, len(grid), index), np.int32)


def dense(weights: Array, x: Array) -> Array:
    """The same matrix (D, C) at every position of x (C, P, B)."""
    out = jnp.matmul(weights, x.reshape(x.shape[0], -1), precision="highest")
    return out.reshape(-1, *x.shape[1:])


def biased(x: Array, bias: Array) -> Array:
    """x (C, P, B) plus one number per channel, (C,)."""
    return x + bias[:, None, None]

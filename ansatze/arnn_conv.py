"""Autoregressive net of masked convolutions: dilated on a chain, PixelCNN on a grid.

Sites are drawn along the rows.  The horizontal stack reads what was drawn before in the
same row, K sites at first and then K activations at distances of K^l, so that L layers
see K^L sites (arXiv:1609.03499).  On a grid the vertical stack reads the rows above, in
windows that widen to both sides, and every one of its layers feeds the horizontal one:
together they see all earlier sites, without a blind spot (arXiv:1606.05328).
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from ansatze.autoregressive import Sites, autoregressive, plane_of, positive_integers
from vmc.base import Params, Problem, WaveFunction
from vmc.errors import JobError


def arnn_conv(
    problem: Problem,
    *,
    features: int = 16,
    depth: int | None = None,
    kernel_size: int = 3,
    init_scale: float = 0.1,
) -> WaveFunction:
    """Autoregressive net of masked convolutions, for chains and grids.

    Parameters, all real, lists with one entry per layer: "row" (K r_l, F), the taps of
    the horizontal stack, nearest first, r_0 = e and r_l = F after that; on a grid
    "above" (K w r_l, F) of the vertical one and "down" (F, F) from the vertical to the
    horizontal; taps that no site has are left out.  The w columns of a window are 2
    [K/2] + 1 where they wrap around, else 2 K - 1.  "bias" (L, 1 or 2, F); "place" (N,
    F), a bias at every site; "out" (F, H, d) and "out_bias" (N, H, d); e = 1 for spins
    1/2, else d.

    Args:
        problem: see `vmc.base.Problem`; any local dimensions and any sector; one site
            per cell of a chain or a plane grid, a chain without a lattice.
        features: F, channels.
        depth: L, layers; default: as many as it takes to see all earlier sites.
        kernel_size: K, at least 2.
        init_scale: scale of log psi at the start, per site.

    Raises:
        JobError: a number is too small, or lattice or quantum numbers do not fit.
    """
    least = default_depth(problem, kernel_size)
    depth = least if depth is None else depth
    positive_integers("arnn_conv", features=features, depth=depth)
    net = conv_network(problem, features, depth, kernel_size, init_scale)
    return autoregressive(net.sites, net)


def conv_network(
    problem: Problem,
    features: int,
    depth: int,
    kernel_size: int,
    init_scale: float = 0.1,
) -> ConvNetwork:
    """The network of `arnn_conv`, which draws the sites row by row."""
    plane, periodic = plane_of(problem, "arnn_conv")
    sites = Sites(problem, np.arange(problem.space.n_sites), "arnn_conv")
    sizes = (features, depth, kernel_size, init_scale)
    return ConvNetwork(sites, *plane, periodic[1], *sizes)


def default_depth(problem: Problem, kernel_size: int = 3) -> int:
    """Layers that it takes to see all earlier sites.

    Raises:
        JobError: windows of one site, or a lattice that does not fit.
    """
    if kernel_size < 2:
        raise JobError(
            f"arnn_conv: kernel_size is {kernel_size}; it is an integer of at least 2"
        )
    (rows, columns), (_, wraps) = plane_of(problem, "arnn_conv")
    sideways = 0 if rows == 1 else columns // 2 if wraps else columns - 1
    depth, reach = 1, kernel_size
    wide = half = _half(kernel_size, wraps)
    while depth < 2 or reach < max(rows - 1, columns - 1) or wide < sideways:
        wide += half * reach
        reach, depth = reach * kernel_size, depth + 1
    return depth


def _half(kernel_size: int, wraps: bool) -> int:
    """Columns to either side that a window in the rows above reads.

    The steps of a sum that leads to a site must not leave an open grid.  With digits 0
    to K - 1 of one sign there is always one that does not.
    """
    return kernel_size // 2 if wraps else kernel_size - 1


@dataclasses.dataclass(frozen=True, eq=False)
class ConvNetwork:
    """Everything static about one network, a `Network`; keys of `arnn_conv`."""

    sites: Sites
    rows: int
    columns: int
    wraps: bool
    features: int
    depth: int
    kernel: int
    init_scale: float

    @property
    def sizes(self) -> list[int]:
        """What every layer reads per site."""
        return [self.sites.n_inputs, *[self.features] * (self.depth - 1)]

    def back(self, layer: int, extent: int) -> list[int]:
        """Distances that a layer looks back, of those below the extent of the grid."""
        # The first layer must not see its own site.
        first = 1 if layer == 0 else 0
        steps = [self.kernel**layer * (first + t) for t in range(self.kernel)]
        return [s for s in steps if s < extent] or steps[:1]

    def aside(self, layer: int) -> list[int]:
        """Columns that a window above reads, relative to its own."""
        half = _half(self.kernel, self.wraps)
        steps = [self.kernel**layer * t for t in range(-half, half + 1)]
        if self.wraps:
            return sorted({s % self.columns for s in steps})
        return [s for s in steps if abs(s) < self.columns]

    def scales(self) -> Any:
        """Every sum starts with about unit variance."""
        f, n = self.features, self.sites.n_sites
        h, d = self.sites.n_heads, self.sites.local_dim

        def matrix(taps: int, rows: int) -> np.ndarray:
            # A one-hot vector has one entry that counts.
            fan_in = taps if rows == self.sites.n_inputs else taps * rows
            return np.full((taps * rows, f), 1 / math.sqrt(fan_in))

        scales = {
            "row": [
                matrix(len(self.back(k, self.columns)), r)
                for k, r in enumerate(self.sizes)
            ],
            "bias": np.zeros((self.depth, 1 if self.rows == 1 else 2, f)),
            "place": np.full((n, f), 0.1),
            "out": np.full((f, h, d), self.init_scale / math.sqrt(f)),
            "out_bias": np.zeros((n, h, d)),
        }
        if self.rows > 1:
            scales["above"] = [
                matrix(len(self.back(k, self.rows)) * len(self.aside(k)), r)
                for k, r in enumerate(self.sizes)
            ]
            scales["down"] = [matrix(1, f) for _ in self.sizes]
        return scales

    def prepare(self, params: Params) -> Any:
        """The parameters as they are."""
        return params

    def horizontal(
        self, weights: Any, layer: int, taps: list[Array], before: Array, added: Array
    ) -> Array:
        """One layer of the horizontal stack, (..., F).

        Args:
            weights: the parameters.
            layer: its number.
            taps: what it reads, (..., r) each.
            before: its own position in the layer below, (..., F).
            added: what comes from above and the place, to be added, (..., F).
        """
        y = _dot(jnp.concatenate(taps, axis=-1), weights["row"][layer]) + added
        y = jnp.tanh(y + _like(weights["bias"][layer, 0], y))
        return y + before if layer else y

    def vertical(self, weights: Any, layer: int, taps: list[Array]) -> Array:
        """One layer of the vertical stack on rows (..., C, r): (..., C, F)."""
        windows = [
            _aside(tap, s, self.wraps) for tap in taps for s in self.aside(layer)
        ]
        y = _dot(jnp.concatenate(windows, axis=-1), weights["above"][layer])
        y = jnp.tanh(y + _like(weights["bias"][layer, 1], y))
        # Past the first layer the first tap is the row itself.
        return y + taps[0] if layer else y

    def outputs(self, weights: Any, x: Array) -> Array:
        """Outputs of all positions, (B, N, H, d)."""
        x = x.reshape(x.shape[0], self.rows, self.columns, -1)
        place = weights["place"].reshape(self.rows, self.columns, -1)
        above, v = [], x
        for k in range(self.depth if self.rows > 1 else 0):
            taps = [_back(v, s, 1) for s in self.back(k, self.rows)]
            v = self.vertical(weights, k, taps)
            above.append(_dot(v, weights["down"][k]))
        for k in range(self.depth):
            taps = [_back(x, s, 2) for s in self.back(k, self.columns)]
            added = above[k] if above else jnp.zeros((1, 1, 1, 1), x.dtype)
            added = added + place[None] if k == 0 else added
            x = self.horizontal(weights, k, taps, x, added)
        out = jnp.einsum("byxf,fhd->byxhd", x, weights["out"], precision="highest")
        out = out.reshape(out.shape[0], -1, *out.shape[3:])
        return out + weights["out_bias"][None]

    def start(self, weights: Any, n_batch: int) -> Any:
        """What every layer reads: of this row and, on a grid, of all rows; zeros."""
        dtype = weights["out"].dtype
        row = [
            jnp.zeros(
                (n_batch, max(self.back(k, self.columns)) + self.columns, r), dtype
            )
            for k, r in enumerate(self.sizes)
        ]
        if self.rows == 1:
            return row, [], []
        above = [
            jnp.zeros(
                (n_batch, max(self.back(k, self.rows)) + self.rows, self.columns, r),
                dtype,
            )
            for k, r in enumerate(self.sizes)
        ]
        shape = (n_batch, self.columns, self.features)
        return row, above, [jnp.zeros(shape, dtype)] * self.depth

    def row(self, weights: Any, cache: Any, y: Array) -> Any:
        """The vertical stack of one row, which nothing in the row changes."""
        if self.rows == 1:
            return cache
        row, above, down = cache
        above, down = list(above), list(down)
        for k in range(self.depth):
            steps = self.back(k, self.rows)
            at = max(steps) + y
            taps = [
                lax.dynamic_index_in_dim(above[k], at - s, 1, keepdims=False)
                for s in steps
            ]
            v = self.vertical(weights, k, taps)
            down[k] = _dot(v, weights["down"][k])
            if k + 1 < self.depth:
                place = max(self.back(k + 1, self.rows)) + y
                above[k + 1] = lax.dynamic_update_index_in_dim(
                    above[k + 1], v, place, 1
                )
        return row, above, down

    def column(self, weights: Any, cache: Any, y: Array, x: Array) -> tuple:
        """Outputs of a site, from the activations of the sites before it."""
        row, above, down = cache
        row, at = list(row), y * self.columns + x
        here = row[0][:, 0]
        for k in range(self.depth):
            steps = self.back(k, self.columns)
            place = max(steps) + x
            taps = [
                lax.dynamic_index_in_dim(row[k], place - s, 1, keepdims=False)
                for s in steps
            ]
            added = down[k][:, x] if down else jnp.zeros((1, 1), here.dtype)
            added = added + weights["place"][at][None] if k == 0 else added
            here = self.horizontal(weights, k, taps, here, added)
            if k + 1 < self.depth:
                place = max(self.back(k + 1, self.columns)) + x
                row[k + 1] = lax.dynamic_update_index_in_dim(row[k + 1], here, place, 1)
        out = jnp.einsum("bf,fhd->bhd", here, weights["out"], precision="highest")
        return out + weights["out_bias"][at][None], (row, above, down)

    def feed(self, cache: Any, y: Array, x: Array, value: Array) -> Any:
        """Put a site among the inputs of both stacks."""
        row, above, down = cache
        place = max(self.back(0, self.columns)) + x
        row = [lax.dynamic_update_index_in_dim(row[0], value, place, 1), *row[1:]]
        if self.rows > 1:
            place = max(self.back(0, self.rows)) + y
            start = (0, place, x, 0)
            inputs = lax.dynamic_update_slice(above[0], value[:, None, None], start)
            above = [inputs, *above[1:]]
        return row, above, down


def _dot(x: Array, w: Array) -> Array:
    return jnp.dot(x, w, precision="highest")


def _like(bias: Array, y: Array) -> Array:
    """A bias (F,) as it is added to (..., F)."""
    return bias.reshape((1,) * (y.ndim - 1) + (-1,))


def _back(x: Array, distance: int, axis: int) -> Array:
    """At every position what is that far before it along an axis; zero at the start."""
    if distance == 0:
        return x
    widths = [(0, 0)] * x.ndim
    widths[axis] = (distance, 0)
    return lax.slice_in_dim(jnp.pad(x, widths), 0, x.shape[axis], axis=axis)


def _aside(x: Array, distance: int, wraps: bool) -> Array:
    """In every column (axis -2) what is that far to the right of it."""
    if distance == 0:
        return x
    axis = x.ndim - 2
    if wraps:
        return jnp.roll(x, -distance, axis)
    if distance < 0:
        return _back(x, -distance, axis)
    return jnp.flip(_back(jnp.flip(x, axis), distance, axis), axis)

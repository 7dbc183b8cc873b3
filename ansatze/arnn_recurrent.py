"""Autoregressive recurrent net: gated recurrent units along a chain or a grid.

A unit (arXiv:1406.1078) carries a state h from site to site, with what it has seen:

u = sigmoid(W_u (h, x) + b_u),  r = sigmoid(W_r (h, x) + b_r),
h' = (1 - u) h + u tanh(W_x x + r * W_h h + b).

On a grid the sites are drawn in a snake, and h and x come from the two neighbours that
were drawn before, in the row and in the row above (arXiv:2002.02973): h = V (h_1, h_2).
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from ansatze.autoregressive import Sites, autoregressive, plane_of, positive_integers
from vmc.base import Params, Problem, WaveFunction


def arnn_rnn(
    problem: Problem, *, features: int = 16, depth: int = 1, init_scale: float = 0.1
) -> WaveFunction:
    """Autoregressive net of gated recurrent units, for chains and grids.

    Parameters, all real: "layers", a list of {"x" (e_l, 3 F), "h" (F, 3 F), "bias"
    (3 F,)} in the order u, r, candidate, on a grid also "merge" (2 F, F); "place" (N,
    F), a bias of the candidate at every position; "out" (F, H, d), "out_bias" (N, H,
    d).  The first layer reads e_1 = e (2 e on a grid) numbers, e = 1 for spins 1/2,
    else d; layer l > 1 reads the state of the layer below at the same site.

    Args:
        problem: see `vmc.base.Problem`; any local dimensions and any sector; one site
            per cell of a chain or a plane grid, a chain without a lattice.
        features: F, numbers that a layer carries.
        depth: L, layers.
        init_scale: scale of log psi at the start, per site.

    Raises:
        JobError: a number is not positive, or lattice or quantum numbers do not fit.
    """
    positive_integers("arnn_rnn", features=features, depth=depth)
    net = recurrent_network(problem, features, depth, init_scale)
    return autoregressive(net.sites, net)


def recurrent_network(
    problem: Problem, features: int, depth: int, init_scale: float = 0.1
) -> RecurrentNetwork:
    """The network of `arnn_rnn`, with the snake as its order of sites."""
    rows, columns = plane_of(problem, "arnn_rnn")[0]
    order = np.arange(rows * columns).reshape(rows, columns)
    order[1::2] = order[1::2, ::-1].copy()
    sites = Sites(problem, order.reshape(-1), "arnn_rnn")
    return RecurrentNetwork(sites, rows, features, depth, init_scale)


@dataclasses.dataclass(frozen=True, eq=False)
class RecurrentNetwork:
    """Everything static about one network, a `Network`; keys of `arnn_rnn`."""

    sites: Sites
    rows: int
    features: int
    depth: int
    init_scale: float

    @property
    def columns(self) -> int:
        """C, sites per row."""
        return self.sites.n_sites // self.rows

    @property
    def n_near(self) -> int:
        """Neighbours that were drawn before: 1 on a chain, 2 on a grid."""
        return 1 if self.rows == 1 else 2

    def scales(self) -> Any:
        """Every product starts with about unit variance."""
        f, n = self.features, self.sites.n_sites
        e, h, d = self.sites.n_inputs, self.sites.n_heads, self.sites.local_dim

        def matrix(rows: int, columns: int) -> np.ndarray:
            return np.full((rows, columns), 1 / math.sqrt(rows))

        layers = []
        for k in range(self.depth):
            layer = {
                "x": matrix(f if k else self.n_near * e, 3 * f),
                "h": matrix(f, 3 * f),
                "bias": np.zeros(3 * f),
            }
            if self.n_near == 2:
                layer["merge"] = matrix(2 * f, f)
            layers.append(layer)
        return {
            "layers": layers,
            "place": np.zeros((n, f)),
            "out": self.init_scale * matrix(f, h * d).reshape(f, h, d),
            "out_bias": np.zeros((n, h, d)),
        }

    def prepare(self, params: Params) -> Any:
        """The parameters as they are."""
        return params

    def outputs(self, weights: Any, x: Array) -> Array:
        """Outputs of all positions, (B, N, H, d): the recurrence along given values."""
        n_batch = x.shape[0]
        shape = (self.rows, self.columns)
        values = jnp.moveaxis(x, 0, 1).reshape(*shape, n_batch, -1)

        def line(cache: Any, each: tuple) -> tuple[Any, Array]:
            y, row = each

            def site(cache: Any, each: tuple) -> tuple[Any, Array]:
                out, cache = self.column(weights, cache, y, each[0])
                return self.feed(cache, y, *each), out

            cache = self.row(weights, cache, y)
            return lax.scan(site, cache, (jnp.arange(shape[1]), row))

        start = self.start(weights, n_batch)
        _, out = lax.scan(line, start, (jnp.arange(shape[0]), values))
        out = out.reshape(self.sites.n_sites, *out.shape[2:])
        return jnp.moveaxis(out, 0, 1)

    def start(self, weights: Any, n_batch: int) -> Any:
        """States and value of the last site, and those of the last two rows."""
        size = self.features * self.depth + self.sites.n_inputs
        zero = jnp.zeros((n_batch, size), weights["out"].dtype)
        if self.rows == 1:
            return (zero,)
        line = jnp.zeros((self.columns, n_batch, size), zero.dtype)
        return zero, line, line

    def row(self, weights: Any, cache: Any, y: Array) -> Any:
        """Turn round: the row above is passed in the other direction."""
        del weights, y
        if self.rows == 1:
            return cache
        return jnp.zeros_like(cache[0]), cache[2][::-1], cache[2]

    def column(self, weights: Any, cache: Any, y: Array, x: Array) -> tuple:
        """Outputs of a site; its states take the place of those of the site before."""
        f, at = self.features, y * self.columns + x
        near = [cache[0]] if self.rows == 1 else [cache[0], cache[1][x]]
        inputs = jnp.concatenate([a[:, f * self.depth :] for a in near], axis=1)
        states = []
        for k, layer in enumerate(weights["layers"]):
            old = [a[:, k * f : (k + 1) * f] for a in near]
            h = old[0]
            if self.rows > 1:
                h = _dot(jnp.concatenate(old, axis=1), layer["merge"])
            below = _dot(inputs, layer["x"]) + layer["bias"][None]
            if k == 0:
                below = below.at[:, 2 * f :].add(weights["place"][at][None])
            inputs = _unit(h, below, layer["h"])
            states.append(inputs)
        out = jnp.einsum("bf,fhd->bhd", inputs, weights["out"], precision="highest")
        out = out + weights["out_bias"][at][None]
        value = jnp.zeros_like(cache[0][:, f * self.depth :])
        return out, (jnp.concatenate([*states, value], axis=1), *cache[1:])

    def feed(self, cache: Any, y: Array, x: Array, value: Array) -> Any:
        """Put the value next to the states of its site, and both into the row."""
        del y
        here = cache[0].at[:, self.features * self.depth :].set(value)
        if self.rows == 1:
            return (here,)
        line = lax.dynamic_update_index_in_dim(cache[2], here, x, axis=0)
        return here, cache[1], line


def _dot(x: Array, w: Array) -> Array:
    return jnp.dot(x, w, precision="highest")


def _unit(h: Array, below: Array, weights: Array) -> Array:
    """One gated unit: state (B, F), what comes from below (B, 3 F), W (F, 3 F)."""
    f = h.shape[1]
    across = _dot(h, weights)
    gates = jax.nn.sigmoid(below[:, : 2 * f] + across[:, : 2 * f])
    update, reset = gates[:, :f], gates[:, f:]
    candidate = jnp.tanh(below[:, 2 * f :] + reset * across[:, 2 * f :])
    return h + update * (candidate - h)

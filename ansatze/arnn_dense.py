"""Autoregressive net of masked dense layers.

A layer has ``features`` neurons per site; those of site i read the sites before i
(the first layer) or the neurons of sites up to i (all others): arXiv:1502.03509,
arXiv:1902.04057.  Every site has weights of its own, so it goes with any lattice.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from ansatze.autoregressive import Sites, autoregressive, positive_integers
from vmc.base import Params, Problem, WaveFunction


def arnn_dense(
    problem: Problem, *, features: int = 4, depth: int = 2, init_scale: float = 0.1
) -> WaveFunction:
    """Autoregressive net of masked dense layers, for any lattice.

    Parameters, all real, blocks of the lower triangle by row: "first" (N (N - 1) / 2,
    e, F), "hidden" (L - 1, N (N + 1) / 2, F, F), "bias" (L, N, F), "out" (N, F, H, d)
    and "out_bias" (N, H, d); e = 1 for spins 1/2, else d.

    Args:
        problem: see `vmc.base.Problem`; any local dimensions and any sector.
        features: F, neurons per site and layer.
        depth: L, hidden layers.
        init_scale: scale of log psi at the start, per site.

    Raises:
        JobError: a number is not positive, or quantum numbers do not fit.
    """
    positive_integers("arnn_dense", features=features, depth=depth)
    sites = Sites(problem, np.arange(problem.space.n_sites), "arnn_dense")
    return autoregressive(sites, DenseNetwork(sites, features, depth, init_scale))


@dataclasses.dataclass(frozen=True, eq=False)
class DenseNetwork:
    """Everything static about one network, a `Network`; keys of `arnn_dense`."""

    sites: Sites
    features: int
    depth: int
    init_scale: float

    @property
    def rows(self) -> int:
        """One row of all sites."""
        return 1

    def scales(self) -> Any:
        """Every neuron starts with about unit variance."""
        n, f, layers = self.sites.n_sites, self.features, self.depth - 1
        e, h, d = self.sites.n_inputs, self.sites.n_heads, self.sites.local_dim
        # A one-hot vector has one entry that counts.
        first = 1 / np.sqrt(np.maximum(np.tril_indices(n, -1)[0], 1))
        below = 1 / np.sqrt(f * (1 + np.tril_indices(n)[0]))
        return {
            "first": np.tile(first[:, None, None], (1, e, f)),
            "hidden": np.tile(below[None, :, None, None], (layers, 1, f, f)),
            "bias": np.full((self.depth, n, f), 0.1),
            "out": np.full((n, f, h, d), self.init_scale / math.sqrt(f)),
            "out_bias": np.zeros((n, h, d)),
        }

    def prepare(self, params: Params) -> Any:
        """Weights as matrices, rows (site, input) and columns (site, neuron)."""
        n = self.sites.n_sites

        def dense(blocks: Array, offset: int) -> Array:
            rows, columns = np.tril_indices(n, offset)
            a, b = blocks.shape[1:]
            full = jnp.zeros((n, n, a, b), blocks.dtype)
            full = full.at[columns, rows].set(blocks, unique_indices=True)
            return full.transpose(0, 2, 1, 3).reshape(n * a, n * b)

        matrices = [dense(params["first"], -1)]
        matrices += [dense(w, 0) for w in params["hidden"]]
        return matrices, params["bias"], params["out"], params["out_bias"]

    def outputs(self, weights: Any, x: Array) -> Array:
        """Outputs of all positions, (B, N, H, d)."""
        matrices, biases, out, out_bias = weights
        n_batch, n = x.shape[:2]
        for matrix, bias in zip(matrices, biases):
            y = jnp.dot(x.reshape(n_batch, -1), matrix, precision="highest")
            x = jnp.tanh(y.reshape(n_batch, n, -1) + bias[None])
        y = jnp.einsum("bnf,nfhd->bnhd", x, out, precision="highest")
        return y + out_bias[None]

    def start(self, weights: Any, n_batch: int) -> Any:
        """Inputs and neurons of all sites, zero."""
        n, dtype = self.sites.n_sites, weights[2].dtype
        sizes = [self.sites.n_inputs, *[self.features] * (self.depth - 1)]
        return tuple(jnp.zeros((n_batch, n * size), dtype) for size in sizes)

    def row(self, weights: Any, cache: Any, y: Array) -> Any:
        """There is one row only."""
        del weights, y
        return cache

    def column(self, weights: Any, cache: Any, y: Array, x: Array) -> tuple:
        """Outputs of a site, from the neurons of the sites before it."""
        del y
        matrices, biases, out, out_bias = weights
        f, cache = self.features, list(cache)
        here = jnp.zeros(())
        for k, matrix in enumerate(matrices):
            columns = lax.dynamic_slice_in_dim(matrix, x * f, f, axis=1)
            here = jnp.dot(cache[k], columns, precision="highest")
            here = jnp.tanh(here + biases[k][x][None])
            if k + 1 < self.depth:
                cache[k + 1] = lax.dynamic_update_slice_in_dim(
                    cache[k + 1], here, x * f, axis=1
                )
        y = jnp.einsum("bf,fhd->bhd", here, out[x], precision="highest")
        return y + out_bias[x][None], tuple(cache)

    def feed(self, cache: Any, y: Array, x: Array, value: Array) -> Any:
        """Put a site among the inputs."""
        del y
        start = x * self.sites.n_inputs
        inputs = lax.dynamic_update_slice_in_dim(cache[0], value, start, axis=1)
        return (inputs, *cache[1:])

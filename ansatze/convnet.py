"""Convolutional network with pooling: the ReLU counterpart of the tree ConvAC.

z^l(j, c) = W^l_c a^{l-1} + b^l on the children c of every window j, a^l(j) = pool_c
relu(z^l(j, c)), until one window is left; then u = <w, a> and, for complex psi, the
phase phi = <w', a>: log psi = u + i phi (arXiv:1704.01552; the network is the
generalised tensor decomposition of arXiv:1610.04167).

With max pooling it is universal, with mean pooling it is not; either is judged by
training, since no bond dimension bounds its entanglement.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ansatze.cuts import CutCapacity, trivial
from ansatze.cuts_pairs import block_capacity
from ansatze.grids import channel_list, equal_dim, grid_of
from vmc.base import Key, Params, Problem, WaveFunction
from vmc.errors import JobError
from vmc.wavefunction import float_dtype, from_functions


def convnet(
    problem: Problem,
    *,
    channels: int | Sequence[int] = 8,
    window: int = 2,
    pooling: Literal["max", "mean"] = "max",
    init_scale: float = 0.5,
) -> WaveFunction:
    """ReLU network with non-overlapping windows of window^d positions.

    Parameters, all real: "weights" and "biases", lists with W^l (P, r_l, r_{l-1}) and
    b^l (P, r_l) for every level, P = window^d positions inside a window; "out" (1 or
    2, r_L).  Windows that stick out of the grid pool what is there.  ``dtype =
    "real"`` gives a positive psi, "complex" a modulus and a phase.

    Args:
        problem: see `vmc.base.Problem`; one site per cell of its grid, all of the
            same local dimension.  Without a lattice the sites form a chain.
        channels: r_l, one number or one per level.
        window: extent of a window along every direction, at least 2.
        pooling: "max" or "mean".
        init_scale: scale of log psi at the start.

    Raises:
        JobError: numbers that make no sense, a lattice with several sites per cell,
            unequal sites, or a symmetry, which windows break.
    """
    if window < 2:
        raise JobError(f"window is {window}; it is an integer of at least 2")
    if pooling not in ("max", "mean"):
        raise JobError(f'pooling is "{pooling}"; it is "max" or "mean"')
    if problem.symmetry is not None:
        raise JobError(
            "windows break the symmetry of the lattice, so a convnet cannot be made "
            'invariant. Use symmetry = "none".'
        )
    shape, _ = grid_of(problem, "convnet")
    grids = [shape]
    while max(grids[-1]) > 1:
        grids.append(tuple(-(-n // window) for n in grids[-1]))
    depth = max(1, len(grids) - 1)
    net = _ConvNet(
        problem,
        tuple(grids) if len(grids) > 1 else (shape, shape),
        window,
        channel_list(channels, depth),
        pooling,
        equal_dim(problem, "convnet"),
        init_scale,
    )
    return from_functions(
        net.init,
        net.log_psi,
        problem=problem,
        range="complex" if problem.dtype == "complex" else "positive",
    )._replace(capacity=net.capacity())


@dataclasses.dataclass(frozen=True, eq=False)
class _ConvNet:
    """Everything static about one network; ``grids`` from the sites to the root."""

    problem: Problem
    grids: tuple[tuple[int, ...], ...]
    window: int
    channels: tuple[int, ...]
    pooling: str
    local_dim: int
    init_scale: float

    @property
    def n_children(self) -> int:
        return self.window ** len(self.grids[0])

    def capacity(self) -> CutCapacity:
        """Trivial; but a mean over the last window is a sum over its blocks in log psi.

        So psi is a product of functions of blocks of window^(depth - 1) cells.
        """
        dims = self.problem.space.local_dims
        if self.pooling == "max":
            return trivial(dims)
        size = self.window ** (len(self.channels) - 1)
        cells = np.indices(self.grids[0]).reshape(len(self.grids[0]), -1) // size
        _, block = np.unique(cells, axis=1, return_inverse=True)
        return block_capacity(dims, block.reshape(-1))

    def init(self, key: Key) -> Params:
        """He's scale in the levels (arXiv:1502.01852)."""
        real = float_dtype(self.problem)
        sizes = [self.local_dim, *self.channels]
        keys = jax.random.split(key, 2 * len(sizes))
        weights, biases = [], []
        for k, (before, after) in enumerate(itertools.pairwise(sizes)):
            shape = (self.n_children, after, before)
            # A one-hot vector has one entry that counts, whatever its length.
            scale = math.sqrt(2.0 / (before if k else 1))
            weights.append(scale * jax.random.normal(keys[2 * k], shape, real))
            biases.append(0.1 * jax.random.normal(keys[2 * k + 1], shape[:2], real))
        heads = 2 if self.problem.dtype == "complex" else 1
        out = jax.random.normal(keys[-1], (heads, sizes[-1]), real)
        out = out * (self.init_scale / math.sqrt(sizes[-1]))
        return {"weights": weights, "biases": biases, "out": out}

    def windows(self, x: Array, level: int) -> tuple[Array, np.ndarray]:
        """Positions by window: (B, windows, P, r), and which exist, (windows, P)."""
        grid, above = self.grids[level], self.grids[level + 1]
        dims, w = len(grid), self.window
        widths = [(0, n * w - m) for m, n in zip(grid, above)]
        split = [s for n in above for s in (n, w)]
        order = [*range(0, 2 * dims, 2), *range(1, 2 * dims, 2)]
        exists = np.pad(np.ones(grid, bool), widths).reshape(split).transpose(order)
        x = x.reshape(x.shape[0], *grid, x.shape[-1])
        x = jnp.pad(x, [(0, 0), *widths, (0, 0)])
        x = x.reshape(x.shape[0], *split, x.shape[-1])
        x = x.transpose(0, *(1 + k for k in order), 1 + 2 * dims)
        shape = (math.prod(above), self.n_children)
        return x.reshape(x.shape[0], *shape, x.shape[-1]), exists.reshape(shape)

    def log_psi(self, params: Params, sigma: Array) -> Array:
        """Log psi, (B,): real for a positive psi."""
        top = self.local_dim - 1
        values = jnp.arange(top, -top - 1, -2, dtype=sigma.dtype)
        onehot = sigma[:, :, None] == values[None, None, :]
        x = onehot.astype(params["out"].dtype)
        for level, (weight, bias) in enumerate(
            zip(params["weights"], params["biases"])
        ):
            x, exists = self.windows(x, level)
            z = jnp.einsum("bnpd,ped->bnpe", x, weight, precision="highest")
            a = jnp.maximum(z + bias[None, None], 0)
            # A relu is never negative, so that a zero does not win a maximum.
            a = jnp.where(exists[None, :, :, None], a, jnp.zeros_like(a))
            if self.pooling == "max":
                x = jnp.max(a, axis=2)
            else:
                counts = exists.sum(axis=1).astype(a.dtype)
                x = jnp.sum(a, axis=2) / counts[None, :, None]
        heads = jnp.einsum("be,he->bh", x[:, 0], params["out"], precision="highest")
        if heads.shape[1] == 1:
            return heads[:, 0]
        return jax.lax.complex(heads[:, 0], heads[:, 1])

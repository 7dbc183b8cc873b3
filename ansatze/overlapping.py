"""Convolutional arithmetic circuits with overlapping windows.

y^l_g(j) = prod_{k in [0, K)^d} <W^l_{g k}, y^{l-1}(S j + k)>,  l = 1 ... L, with the
one-hot vectors of sigma as y^0 and psi = <a, prod_j y^L(j)> (arXiv:1803.09780).
Positions wrap around periodic directions; across an open edge the factors outside
the grid are left out.  A stride S > 1 leaves ceil(n / S) positions of n.  With S = 1
and all directions periodic psi is exactly invariant under translations.

All vectors are scaled.  A move changes few positions of a layer, those in its light
cone; for S = 1 they are j with i - l (K - 1) <= j <= i.  Where these are few, the cache
keeps all layers and a move recomputes only them.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from ansatze.cuts_cones import overlapping_capacity
from ansatze.grids import Windows, channel_list, equal_dim, grid_of
from ansatze.mps import check_translations
from ansatze.scaled import (
    calibrated_start,
    log_amplitude,
    near_one,
    renormalise,
    weight_dtype,
)
from vmc.base import Key, Move, Moves, Params, Problem, WaveFunction
from vmc.chunking import chunk_size, default_budget, map_chunks
from vmc.errors import JobError
from vmc.wavefunction import apply_move, from_functions

#: A light cone is followed where it holds at most this fraction of the work.
WORTHWHILE = 0.5

Scaled = tuple[Array, Array]


class ConeCache(NamedTuple):
    """Every layer of every walker.

    Attributes:
        layers: y^1 ... y^L as scaled vectors, (n_l, B, r_l) and (n_l, B).
        log_psi: complex (B,).
    """

    layers: tuple[Scaled, ...]
    log_psi: Array


def overlapping_convac(
    problem: Problem,
    *,
    channels: int | Sequence[int] = 4,
    kernel_size: int = 2,
    depth: int = 2,
    stride: int = 1,
) -> WaveFunction:
    """Overlapping convolutional arithmetic circuit on a grid of any dimension.

    Parameters: "weights", a list with W^l (K^d, r_l, r_{l-1}) for every layer, and
    "out" (r_L,).  Real weights give a real psi of either sign, complex ones a
    holomorphic log psi.  Cost O(N K^d sum_l r_l r_{l-1}).

    Args:
        problem: see `vmc.base.Problem`; one site per cell of its grid, all of the
            same local dimension.  Without a lattice the sites form an open chain.
        channels: r_l, one number or one per layer.
        kernel_size: K.
        depth: L.
        stride: S, at most K, of every layer.  A larger one costs less and lowers the
            entanglement from a volume to an area law.

    Raises:
        JobError: numbers that make no sense, a lattice with several sites per cell,
            unequal sites, or a symmetry beyond translations of a periodic grid.
    """
    net = _Net.of(problem, channels, kernel_size, depth, stride)
    wave_function = from_functions(
        net.init,
        net.log_psi,
        problem=problem,
        range="complex" if problem.dtype == "complex" else "real",
    )._replace(capacity=overlapping_capacity(net.grid, net.local_dim, net.channels))
    work = sum(math.prod(shape) for shape in net.grid.shapes[1:])
    if sum(net.grid.cone_sizes) > WORTHWHILE * work:
        return wave_function
    return wave_function._replace(
        cache=net.cache,
        log_ratios=net.log_ratios,
        try_move=net.try_move,
        commit=net.commit,
    )


@dataclasses.dataclass(frozen=True, eq=False)
class _Net:
    """Everything static about one network."""

    problem: Problem
    channels: tuple[int, ...]
    local_dim: int
    grid: Windows

    @classmethod
    def of(
        cls,
        problem: Problem,
        channels: int | Sequence[int],
        kernel: int,
        depth: int,
        stride: int,
    ) -> _Net:
        sizes = {"kernel_size": kernel, "depth": depth, "stride": stride}
        for name, value in sizes.items():
            if value < 1:
                raise JobError(f"{name} is {value}; it is a positive integer")
        if stride > kernel:
            raise JobError(
                f"stride {stride} is larger than kernel_size {kernel}: the windows "
                f"would leave sites out. A stride is at most {kernel}"
            )
        shape, periodic = grid_of(problem, "overlapping_convac")
        grid = Windows(shape, periodic, kernel, stride, depth)
        if kernel > min(shape):
            raise JobError(
                f"kernel_size {kernel} is larger than the grid {shape}; it is at most "
                f"{min(shape)}"
            )
        needed = sum(math.prod(shape) > 1 for shape in grid.shapes[:-1])
        if stride > 1 and depth > needed:
            raise JobError(
                f"depth is {depth}, but with stride {stride} one position is left "
                f"after {needed} layers on the grid {shape}. Use depth = {needed}"
            )
        if problem.symmetry is not None:
            cure = 'Use symmetry = "none".'
            if stride > 1:
                raise JobError(
                    f"an overlapping ConvAC with stride {stride} is not invariant "
                    f"under translations. {cure}"
                )
            if not all(periodic):
                raise JobError(
                    "an overlapping ConvAC is invariant under translations only where "
                    f"all directions are periodic, but they are {periodic}. {cure}"
                )
            check_translations(problem, shape, "an overlapping ConvAC", cure)
        each = channel_list(channels, depth)
        return cls(problem, each, equal_dim(problem, "overlapping_convac"), grid)

    @property
    def n_sites(self) -> int:
        return self.problem.space.n_sites

    def init(self, key: Key) -> Params:
        """Noise around 1, weaker where a weight enters psi more often."""
        dtype = weight_dtype(self.problem)
        sizes = [self.local_dim, *self.channels]
        depth, volume = len(self.channels), len(self.grid.offsets)
        keys = jax.random.split(key, depth + 2)

        def of_scale(scale: Array) -> Params:
            weights = []
            for layer, (before, after) in enumerate(itertools.pairwise(sizes)):
                shape = (volume, after, before)
                noise = jax.random.normal(keys[layer], shape, dtype)
                uses = volume ** (depth - 1 - layer)
                weights.append(near_one(noise, scale / uses) / before)
            noise = jax.random.normal(keys[-2], (sizes[-1],), dtype)
            return {"weights": weights, "out": near_one(noise, scale)}

        return calibrated_start(self.log_psi, of_scale, self.problem, keys[-1], "out")

    def onehot(self, sigma: Array, dtype: Any) -> Scaled:
        """y^0: (N, B, d) and scales 0."""
        top = self.local_dim - 1
        values = jnp.arange(top, -top - 1, -2, dtype=sigma.dtype)
        x = (sigma.T[:, :, None] == values[None, None, :]).astype(dtype)
        return x, jnp.zeros(x.shape[:2], x.real.dtype)

    def layer(
        self, number: int, weight: Array, x: Scaled, at: Array | None = None
    ) -> Scaled:
        """Layer 1 ... L at all positions, or at some, int (n,): (n, B, r), (n, B)."""
        (v, scale), (sites, valid) = x, map(jnp.asarray, self.grid.windows[number - 1])
        if at is not None:
            sites, valid = sites[:, at], valid[:, at]
        out = out_scale = None
        for k in range(len(sites)):
            part = jnp.matmul(v[sites[k]], weight[k].T, precision="highest")
            inside = valid[k][:, None]
            part = jnp.where(inside[:, :, None], part, jnp.ones_like(part))
            part_scale = jnp.where(inside, scale[sites[k]], 0)
            if out is None or out_scale is None:
                out, out_scale = renormalise(part, part_scale)
            else:
                out, out_scale = renormalise(out * part, out_scale + part_scale)
        assert out is not None and out_scale is not None
        return out, out_scale

    def readout(self, params: Params, top: Scaled) -> Array:
        """Log of <a, product over all positions>, complex (B,)."""
        v, scale = top
        while v.shape[0] > 1:
            # In pairs, so that every product stays of order one.
            half = v.shape[0] // 2
            both, both_scale = renormalise(
                v[:half] * v[half : 2 * half], scale[:half] + scale[half : 2 * half]
            )
            v = jnp.concatenate([both, v[2 * half :]])
            scale = jnp.concatenate([both_scale, scale[2 * half :]])
        value = jnp.matmul(v[0], params["out"], precision="highest")
        return log_amplitude(value, scale[0])

    def layers(self, params: Params, sigma: Array) -> tuple[Scaled, ...]:
        x = self.onehot(sigma, params["out"].dtype)
        out = []
        for number, weight in enumerate(params["weights"], 1):
            x = self.layer(number, weight, x)
            out.append(x)
        return tuple(out)

    def log_psi(self, params: Params, sigma: Array) -> Array:
        return self.readout(params, self.layers(params, sigma)[-1])

    def cache(self, params: Params, sigma: Array) -> ConeCache:
        layers = self.layers(params, sigma)
        return ConeCache(layers, self.readout(params, layers[-1]))

    def after(
        self, params: Params, cache: ConeCache, sigma: Array, move: Move
    ) -> ConeCache:
        """The cache after a move, with its light cone recomputed."""
        moved = apply_move(sigma, move, self.problem.space.local_dims)
        x = self.onehot(moved, params["out"].dtype)
        # Padding repeats the first site, whose values are right in any case.
        sites = jnp.asarray(move.sites)
        sites = jnp.where(sites < self.n_sites, sites, jnp.min(sites))
        sites = jnp.minimum(sites, self.n_sites - 1)
        layers = []
        steps = zip(params["weights"], self.grid.cones, cache.layers)
        for number, (weight, cone, old) in enumerate(steps, 1):
            at = jnp.asarray(cone)[sites].reshape(-1)
            new = self.layer(number, weight, x, at)
            x = old[0].at[at].set(new[0]), old[1].at[at].set(new[1])
            layers.append(x)
        return ConeCache(tuple(layers), self.readout(params, layers[-1]))

    def try_move(
        self, params: Params, cache: ConeCache, sigma: Array, move: Move
    ) -> tuple[Array, ConeCache]:
        new = self.after(params, cache, sigma, move)
        return 2 * (new.log_psi - cache.log_psi).real, new

    def commit(self, cache: ConeCache, pending: ConeCache, accept: Array) -> ConeCache:
        def choose(new: Array, old: Array) -> Array:
            # The walkers are on axis 1 of layers and on axis 0 of log psi.
            lead = (1,) if old.ndim > 1 else ()
            mask = accept.reshape(*lead, -1, *((1,) * (old.ndim - 2)))
            return jnp.where(mask, new, old)

        return jax.tree.map(choose, pending, cache)

    def log_ratios(
        self,
        params: Params,
        cache: ConeCache,
        sigma: Array,
        moves: Moves,
        wanted: Array | None = None,
    ) -> Array:
        def one(table: tuple[Array, Array]) -> Array:
            move = Move(table[0], table[1], moves.exchange)
            return self.after(params, cache, sigma, move).log_psi - cache.log_psi

        per_move = 3 * sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(cache))
        chunk = chunk_size(moves.n_moves, per_move, default_budget())
        return map_chunks(jax.vmap(one), (moves.sites, moves.shift), chunk)

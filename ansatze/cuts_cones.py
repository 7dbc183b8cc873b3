"""Capacity of networks with light cones: what no window joins is not entangled.

A product over positions, psi = sum_(g < r) prod_j u_gj, whose factors see one window
of sites each, factorises once a set of sites is fixed that meets, in every window
with sites on both sides, all sites of one of the sides: its Schmidt rank is at most r
times the number of their configurations (arXiv:1803.09780).  Overlapping arithmetic
circuits with at least M channels per layer attain it, as do convolutional networks
whose log psi is a sum over positions (r = 1).
"""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Sequence
from typing import Literal

import numpy as np

from ansatze.cuts import CutCapacity, each, trivial_bounds
from ansatze.grids import Windows
from ansatze.index_graph import Cut, IndexGraph, site_name
from vmc.base import Capacity
from vmc.errors import JobError

#: Name of the index over the terms of a sum of products.
TOP = "z"


def light_cone_capacity(
    shape: Sequence[int],
    periodic: Sequence[bool],
    local_dims: Sequence[int],
    reach: int | Sequence[int],
    *,
    channels: int = 1,
    pooling: Literal["product", "sum"] = "product",
) -> CutCapacity:
    """Of a network whose terms sit at all positions of a grid and see a box of sites.

    With layers of K_l wide windows of dilation D_l, a term sees a box of 1 + sum_l
    D_l (K_l - 1) sites along each direction.

    Args:
        shape: extent of the grid, one site per cell.
        periodic: one flag per direction.
        local_dims: d of every site.
        reach: extent of the box less one, along each direction or all of them: twice
            the radius of a centred one.
        channels: r, terms that are added after the product over positions.
        pooling: "product", psi = sum_(g < r) prod_j u_gj (r = 1: log psi is a sum over
            positions); "sum", psi = sum_gj u_gj (such as a sum of exponentials).

    Returns:
        What ``WaveFunction.capacity`` takes.

    Raises:
        JobError: the numbers do not fit together.
    """
    shape, dims = tuple(shape), tuple(local_dims)
    box = (reach,) * len(shape) if isinstance(reach, int) else tuple(reach)
    if math.prod(shape) != len(dims):
        raise JobError(f"the grid {shape} has not one site for {len(dims)} dimensions")
    if len(box) != len(shape) or len(tuple(periodic)) != len(shape) or min(box) < 0:
        raise JobError(
            f"reach is {reach} and periodic {tuple(periodic)}; expected numbers from 0 "
            f"on and flags, one for each of the {len(shape)} directions of {shape}"
        )
    if channels < 1 or pooling not in ("product", "sum"):
        raise JobError(
            f'channels is {channels} and pooling "{pooling}"; expected a positive '
            'number and "product" or "sum"'
        )
    cones = functools.cache(functools.partial(boxes, shape, tuple(periodic), box))
    if pooling == "sum":
        return each(dims, lambda inside: _sum_of_terms(cones(), inside, dims, channels))
    return each(
        dims,
        lambda inside: cone_bound(cones(), inside, dims, channels),
        lambda: cone_graph(cones(), dims, channels),
    )


def boxes(
    shape: tuple[int, ...], periodic: tuple[bool, ...], reach: tuple[int, ...]
) -> np.ndarray:
    """Sites in the box that begins at each cell, bool (N, N), cut off at open edges."""
    n = math.prod(shape)
    cones = np.eye(n, dtype=bool).reshape(*shape, n)
    for axis, (size, wraps, length) in enumerate(zip(shape, periodic, reach)):
        first = np.moveaxis(cones, axis, 0)
        total = first.copy()
        for step in range(1, min(length, size - 1) + 1):
            moved = np.roll(first, -step, axis=0)
            total |= moved if wraps else np.where(_early(moved, step), moved, False)
        cones = np.moveaxis(total, 0, axis)
    return cones.reshape(n, n)


def cone_bound(
    cones: np.ndarray, inside: np.ndarray, local_dims: Sequence[int], channels: int
) -> Capacity:
    """The bound of the module's docstring for one region.

    Args:
        cones: sites that each factor sees, bool (n, N).
        inside: the region, bool (N,).
        local_dims: d of every site.
        channels: r.
    """
    across = (cones & inside).any(axis=1) & (cones & ~inside).any(axis=1)
    cut = Cut(0.0, ())
    if across.any():
        graph = cone_graph(np.unique(cones[across], axis=0), local_dims, 1)
        cut = graph.min_cut(np.flatnonzero(inside).tolist())
    value = cut.value + math.log(channels)
    names = (TOP, *cut.names) if channels > 1 else cut.names
    return Capacity(value, value, 0.0, "light cone", names)


def cone_graph(
    cones: np.ndarray, local_dims: Sequence[int], channels: int
) -> IndexGraph:
    """Sites joined by the factors that see them, and by the index of the sum."""
    physical = tuple(site_name(i) for i in range(len(local_dims)))
    dims = dict(zip(physical, local_dims)) | ({TOP: channels} if channels > 1 else {})
    top = (TOP,) if channels > 1 else ()
    rows = [np.flatnonzero(row).tolist() for row in cones]
    tensors = tuple((*top, *(physical[i] for i in row)) for row in rows)
    return IndexGraph(dims, tensors, physical)


def _sum_of_terms(
    cones: np.ndarray, inside: np.ndarray, local_dims: Sequence[int], channels: int
) -> Capacity:
    """For psi = sum_j u_j: ranks add, and all terms of one side alone make one."""
    in_a, in_b = (cones & inside).any(axis=1), (cones & ~inside).any(axis=1)
    terms = [0.0] * (int(np.any(in_a & ~in_b)) + int(np.any(in_b & ~in_a)))
    for row in cones[in_a & in_b]:
        sites = np.flatnonzero(row).tolist()
        own = [local_dims[i] for i in sites]
        limit = trivial_bounds(inside[sites][None], own)[0]
        terms += [float(limit)] * channels
    value = float(np.logaddexp.reduce(terms))
    return Capacity(value, value, 0.0, "light cone")


def overlapping_capacity(
    grid: Windows, local_dim: int, channels: Sequence[int]
) -> CutCapacity:
    """Of an overlapping convolutional arithmetic circuit.

    The factors see the windows of the layer below the last; what lies above a layer of
    one channel is only a power of it.  Where a layer has fewer channels than a site
    has states, or fewer positions than there are sites, the monomials of its vectors
    may make a smaller cut, see `monomial_graph`.

    Args:
        grid: the layers of windows.
        local_dim: M.
        channels: r_1 ... r_L.
    """
    dims = (local_dim,) * math.prod(grid.shape)
    depth = next((n for n, r in enumerate(channels, 1) if r == 1), len(channels))
    cones = functools.cache(functools.partial(_cones, grid, depth - 1))
    graph = functools.cache(functools.partial(monomial_graph, grid, dims, channels))
    below = any(1 < r < local_dim for r in channels[: depth - 1])
    narrow = below or (grid.stride > 1 and depth > 1)

    def one(inside: np.ndarray) -> Capacity:
        found = cone_bound(cones(), inside, dims, channels[depth - 1])
        if not narrow:
            return found
        cut = graph().min_cut(np.flatnonzero(inside).tolist())
        if cut.value >= found.ln_upper:
            return found
        return Capacity(cut.value, cut.value, 0.0, "monomials", cut.names)

    return each(dims, one, graph)


def monomial_graph(
    grid: Windows, local_dims: Sequence[int], channels: Sequence[int]
) -> IndexGraph:
    """The index graph of an overlapping circuit.

    Every vector is copied to all windows that read it, which no tensor does.  But psi
    is homogeneous in it, of a degree D that counts the ways to the top: its monomials
    are the values of an index "y{layer}.{position}", C(r + D - 1, D) of them.
    """
    physical = tuple(site_name(i) for i in range(len(local_dims)))
    dims: dict[str, int] = {TOP: channels[-1]}
    tensors: list[tuple[str, ...]] = []
    # All positions of the last layer share the index of the sum.
    names = [TOP] * math.prod(grid.shapes[-1])
    degrees = [1] * len(names)
    for layer in reversed(range(len(channels))):
        below, valid = grid.windows[layer]
        n_below = math.prod(grid.shapes[layer])
        readers: list[Counter[int]] = [Counter() for _ in range(n_below)]
        for position, reader in zip(below[valid], np.nonzero(valid)[1]):
            readers[position][int(reader)] += 1
        above = names
        ways = [sum(degrees[j] * k for j, k in r.items()) for r in readers]
        if layer > 0:
            r = channels[layer - 1]
            names = [f"y{layer}.{i}" for i in range(n_below)]
            dims |= {n: math.comb(r + d - 1, d) for n, d in zip(names, ways)}
        else:
            names = list(physical)
            dims |= dict(zip(names, local_dims))
        tensors += [
            (name, *dict.fromkeys(above[j] for j in r))
            for name, r in zip(names, readers)
        ]
        degrees = ways
    return IndexGraph(dims, tuple(tensors), physical)


def _cones(grid: Windows, layer: int) -> np.ndarray:
    """Sites that each position of a layer sees, bool (n_l, N)."""
    cones = np.eye(math.prod(grid.shape), dtype=bool)
    for below, valid in grid.windows[:layer]:
        new = np.zeros((below.shape[1], cones.shape[1]), bool)
        for positions, exist in zip(below, valid):
            new |= cones[positions] & exist[:, None]
        cones = new
    return cones


def _early(moved: np.ndarray, step: int) -> np.ndarray:
    """Which rows of an array rolled by step did not come around its edge."""
    rows = np.arange(len(moved)) < len(moved) - step
    return rows.reshape(-1, *(1,) * (moved.ndim - 1))

"""The order of sites along the leaves of a tree, and the shape of its levels."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from vmc.base import Problem
from vmc.errors import JobError


def site_order(
    problem: Problem, window: int, origin: int | Sequence[int] = 0
) -> np.ndarray:
    """Site at each leaf, so that windows hold sites that are close to each other.

    In one dimension, or without a lattice, the order of the sites.  In two or more,
    the Z-order (Morton) curve over the unit cells: the digits of the coordinates in
    base b interleaved, with b = 3 for windows of 9 and b = 2 otherwise.  A window of
    4 (or 9) then is a square of 2 x 2 (3 x 3) cells wherever the extents allow it.

    Args:
        problem: gives the extents of the lattice.
        window: children per node.
        origin: cell where the first window begins, one number or one per direction;
            the windows move along, around the edges of the lattice.

    Returns:
        int (N,), a permutation.

    Raises:
        JobError: there is not one number for each direction.
    """
    n_sites, shape = problem.space.n_sites, problem.shape
    if shape is None or n_sites % math.prod(shape):
        shape = (n_sites,)
    cell = [origin] * len(shape) if isinstance(origin, int) else list(origin)
    if len(cell) != len(shape):
        raise JobError(
            f"origin is {origin}; it is one integer, or one for each of the "
            f"{len(shape)} directions of the grid {shape}"
        )
    # Site at the position of each site after the move.
    sites = np.arange(n_sites).reshape(*shape, -1)
    moved = np.roll(sites, [-x for x in cell], range(len(shape))).reshape(-1)
    return moved[_curve(n_sites, shape, window)]


def _curve(n_sites: int, shape: tuple[int, ...], window: int) -> np.ndarray:
    """Site at each leaf, from the cell 0."""
    if sum(length > 1 for length in shape) < 2:
        return np.arange(n_sites)
    n_cells = math.prod(shape)
    base = 3 if window == 9 else 2
    cells = np.indices(shape).reshape(len(shape), n_cells)
    code = np.zeros(n_cells, np.int64)
    n_digits = 1
    while base**n_digits < max(shape):
        n_digits += 1
    for digit in reversed(range(n_digits)):
        for coordinate in cells:
            code = code * base + coordinate // base**digit % base
    order = np.argsort(code, kind="stable")
    basis = np.arange(n_sites // n_cells)
    return (order[:, None] * len(basis) + basis[None, :]).reshape(-1)


def level_sizes(n_sites: int, window: int) -> list[int]:
    """Nodes on each level below the root: [N, ceil(N / P), ...], at least one."""
    sizes = [n_sites]
    while sizes[-1] > window:
        sizes.append(-(-sizes[-1] // window))
    return sizes


def block_bounds(local_dims: list[int], window: int) -> list[int]:
    """Largest useful dimension on each level: no block's Schmidt rank exceeds it.

    Args:
        local_dims: d of each leaf position.
        window: children per node.

    Returns:
        One number per entry of `level_sizes`: the largest over its blocks of the
        smaller of the dimensions inside and outside.
    """
    total = math.prod(local_dims)
    inside = list(local_dims)
    bounds = []
    for _ in level_sizes(len(local_dims), window):
        bounds.append(max(min(x, total // x) for x in inside))
        inside = [
            math.prod(inside[i : i + window]) for i in range(0, len(inside), window)
        ]
    return bounds

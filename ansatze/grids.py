"""Networks on a grid: what windows read, what a site reaches, and common checks."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Sequence

import numpy as np

from vmc.base import Problem
from vmc.errors import JobError


@dataclasses.dataclass(frozen=True, eq=False)
class Windows:
    """Layers of windows, each on the grid of the results of the one below.

    Attributes:
        shape: extent of the lattice.
        periodic: of each direction; windows wrap around these.
        kernel: extent K of a window.
        stride: distance S of windows.
        depth: number of layers.
    """

    shape: tuple[int, ...]
    periodic: tuple[bool, ...]
    kernel: int
    stride: int
    depth: int

    @functools.cached_property
    def offsets(self) -> np.ndarray:
        """Positions inside a window, int (K^d, d)."""
        axes = itertools.product(range(self.kernel), repeat=len(self.shape))
        return np.array(list(axes), np.int32)

    @functools.cached_property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """The grids of y^0 ... y^L."""
        out = [self.shape]
        for _ in range(self.depth):
            out.append(tuple(-(-n // self.stride) for n in out[-1]))
        return tuple(out)

    @functools.cached_property
    def windows(self) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
        """For every layer, what each of its n_l positions reads of the one below.

        Positions, int32 (K^d, n_l), clipped to valid ones, and whether they exist,
        bool (K^d, n_l).
        """
        out = []
        for below, shape in itertools.pairwise(self.shapes):
            grid = np.stack(np.unravel_index(np.arange(math.prod(shape)), shape), -1)
            target = self.stride * grid[None] + self.offsets[:, None]
            size = np.array(below)
            valid = ~np.any((target >= size) & ~np.array(self.periodic), axis=-1)
            steps = np.cumprod([1, *below[:0:-1]])[::-1]
            out.append((np.asarray((target % size) @ steps, np.int32), valid))
        return tuple(out)

    @functools.cached_property
    def cone_sizes(self) -> list[int]:
        """Most positions of every layer that one site may change."""
        width, out = [1] * len(self.shape), []
        for shape in self.shapes[1:]:
            # Where a stride does not divide a period, one more window meets the edge.
            extra = self.stride > 1
            width = [
                min((w + self.kernel - 2) // self.stride + 1 + extra, n)
                for w, n in zip(width, shape)
            ]
            out.append(math.prod(width))
        return out

    @functools.cached_property
    def cones(self) -> tuple[np.ndarray, ...]:
        """Positions that each site changes, int32 (N, most), for every layer.

        Shorter lists repeat their first entry.
        """
        cone, out = np.arange(math.prod(self.shape))[:, None], []
        for (below, valid), shape in zip(self.windows, self.shapes[1:]):
            readers = _readers(below, valid)
            n_out = math.prod(shape)  # also what fills up lists
            found = np.sort(readers[cone].reshape(len(cone), -1), axis=1)
            found[:, 1:][found[:, 1:] == found[:, :-1]] = n_out
            found = np.sort(found, axis=1)[:, : np.max(np.sum(found < n_out, axis=1))]
            cone = np.where(found < n_out, found, found[:, :1])
            out.append(np.asarray(cone, np.int32))
        return tuple(out)


def _readers(below: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Positions that read each position below, (n_below, most); filled up by n_out.

    Args:
        below: int (K^d, n_out), what every position reads.
        valid: bool (K^d, n_out), whether it does.
    """
    n_out = below.shape[1]
    above = np.broadcast_to(np.arange(n_out), below.shape)[valid]
    order = np.argsort(below[valid], kind="stable")
    row, above = below[valid][order], above[order]
    counts = np.bincount(row)
    column = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
    out = np.full((len(counts), counts.max()), n_out)
    out[row, column] = above
    return out


def grid_of(problem: Problem, family: str) -> tuple[tuple[int, ...], tuple[bool, ...]]:
    """Extent of the grid and its periodic flags; an open chain without a lattice.

    Raises:
        JobError: there is not exactly one site per cell of the grid.
    """
    n_sites = problem.space.n_sites
    if problem.shape is None:
        return (n_sites,), (False,)
    shape = tuple(int(n) for n in problem.shape)
    if math.prod(shape) != n_sites:
        raise JobError(
            f"{family} needs one site per cell, but the grid {shape} has "
            f"{math.prod(shape)} cells and the space {n_sites} sites. Choose a lattice "
            "with one site per unit cell, or another ansatz."
        )
    periodic = tuple(bool(p) for p in problem.periodic) or (False,) * len(shape)
    return shape, periodic


def equal_dim(problem: Problem, family: str) -> int:
    """The local dimension of all sites.

    Raises:
        JobError: they differ.
    """
    dims = sorted(set(problem.space.local_dims))
    if len(dims) > 1:
        raise JobError(
            f"{family} shares its weights between sites, but the spins have local "
            f"dimensions {dims}. Choose an ansatz with weights of its own per site, "
            "such as mps."
        )
    return dims[0]


def channel_list(channels: int | Sequence[int], depth: int) -> tuple[int, ...]:
    """Channels of every layer.

    Raises:
        JobError: one is not positive, or there are too few or too many.
    """
    each = (channels,) * depth if isinstance(channels, int) else tuple(channels)
    if len(each) != depth or any(r < 1 for r in each):
        raise JobError(
            f"channels is {channels}; it is one positive integer, or one for each of "
            f"the {depth} layers"
        )
    return each

"""What a wave function puts into its field ``capacity``, and the trivial bound."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

import numpy as np

from ansatze.index_graph import IndexGraph, site_name
from vmc.base import Capacity
from vmc.errors import JobError

#: Sites of one side of a cut.
Region: TypeAlias = Iterable[int]
#: What `vmc.base.WaveFunction.capacity` holds.
Hook: TypeAlias = Callable[[tuple[int, ...]], Capacity]

#: No sites, or all of them: nothing is cut.
NOTHING = Capacity(0.0, 0.0, 0.0, "trivial")
#: Differences of sums of logarithms below this are rounding.
ROUNDING = 1e-9


@dataclasses.dataclass(frozen=True, eq=False)
class CutCapacity:
    """The capacity of one wave function, for one region or many at once.

    Attributes:
        local_dims: number of local states of every site.
        solve: (regions as a mask, bool (R, N), neither empty nor full) -> their
            capacities, R of them; what exceeds the trivial bound is cut down to it.
        graph: makes the index graph, None where there is none.
    """

    local_dims: tuple[int, ...]
    solve: Callable[[np.ndarray], Sequence[Capacity]]
    graph: Callable[[], IndexGraph] | None = None

    def __call__(self, region: Region) -> Capacity:
        """The capacity between a region and all other sites; see `many`."""
        return self.many([region])[0]

    def many(self, regions: Iterable[Region]) -> list[Capacity]:
        """Capacities of several regions; all zero for an empty and for a full one.

        Raises:
            JobError: a region names a site that does not exist, or one twice.
        """
        inside = region_masks(regions, len(self.local_dims))
        sizes = inside.sum(axis=1)
        proper = (sizes > 0) & (sizes < inside.shape[1])
        out = [NOTHING] * len(inside)
        rows = inside[proper]
        if len(rows) == 0:
            return out
        limits = trivial_bounds(rows, self.local_dims).tolist()
        found = self.solve(rows)
        for r, row, limit, one in zip(np.flatnonzero(proper), rows, limits, found):
            if one.ln_upper > limit + ROUNDING:
                names = smaller_side(row, self.local_dims)
                predicted = min(one.ln_predicted, limit)
                lower = min(one.ln_lower, limit)
                one = Capacity(limit, predicted, lower, "trivial", names)
            out[r] = one
        return out


def trivial(local_dims: Sequence[int]) -> CutCapacity:
    """The capacity of a wave function of which nothing is known."""
    dims = tuple(local_dims)

    def solve(inside: np.ndarray) -> list[Capacity]:
        limits = trivial_bounds(inside, dims).tolist()
        return [
            Capacity(limit, limit, 0.0, "trivial", smaller_side(row, dims))
            for limit, row in zip(limits, inside)
        ]

    return CutCapacity(dims, solve)


def each(
    local_dims: Sequence[int],
    one: Callable[[np.ndarray], Capacity],
    graph: Callable[[], IndexGraph] | None = None,
) -> CutCapacity:
    """A `CutCapacity` from a function of one mask, bool (N,)."""
    return CutCapacity(
        tuple(local_dims), lambda inside: [one(row) for row in inside], graph
    )


def trivial_bounds(inside: np.ndarray, local_dims: Sequence[int]) -> np.ndarray:
    """ln of the dimension of the smaller side, (R,), of masks (R, N)."""
    weights = np.array([math.log(d) for d in local_dims])
    return np.minimum(inside @ weights, ~inside @ weights)


def smaller_side(inside: np.ndarray, local_dims: Sequence[int]) -> tuple[str, ...]:
    """Physical indices of the side of smaller dimension, of one mask (N,)."""
    weights = np.array([math.log(d) for d in local_dims])
    side = inside if inside @ weights <= ~inside @ weights else ~inside
    return tuple(
        site_name(i) for i in np.flatnonzero(side).tolist() if local_dims[i] > 1
    )


def region_masks(regions: Iterable[Region], n_sites: int) -> np.ndarray:
    """Regions as bool (R, N).

    Raises:
        JobError: a region is no collection of different sites 0 ... N - 1.
    """
    lists = [_sites(region) for region in regions]
    flat = list(itertools.chain.from_iterable(lists))
    if not all(_is_site(kind) for kind in set(map(type, flat))):
        wrong = next(x for x in flat if not _is_site(type(x)))
        raise JobError(
            f"a region holds {wrong!r}; it is a collection of site numbers, integers "
            f"from 0 to {n_sites - 1}"
        )
    sizes = [len(sites) for sites in lists]
    column = np.fromiter(flat, np.int64, len(flat))
    outside = (column < 0) | (column >= n_sites)
    if outside.any():
        raise JobError(
            f"a region holds site {column[outside][0]}, but the lattice has "
            f"{n_sites} sites, numbered from 0 to {n_sites - 1}"
        )
    inside = np.zeros((len(lists), n_sites), bool)
    inside[np.repeat(np.arange(len(lists)), sizes), column] = True
    counts = inside.sum(axis=1)
    for sites, size, count in zip(lists, sizes, counts):
        if size != count:
            again = sorted({int(x) for x in sites if sites.count(x) > 1})
            raise JobError(
                f"a region names sites {again[:8]} more than once; it is a set of "
                "different sites"
            )
    return inside


def _sites(region: Any) -> list[Any]:
    try:
        return list(region)
    except TypeError:
        raise JobError(
            f"a region is {region!r}; it is a collection of site numbers such as "
            "(0, 1, 2)"
        ) from None


def _is_site(kind: type) -> bool:
    return issubclass(kind, int | np.integer) and not issubclass(kind, bool)

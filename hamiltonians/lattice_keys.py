"""What a job may say about a lattice, checked: sizes, boundaries, clusters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from hamiltonians.clusters import Grid, rectangular_grid, tilted_grid
from vmc.errors import JobError

Size: TypeAlias = int | Sequence[int] | None
Periodic: TypeAlias = bool | Sequence[bool]
Cluster: TypeAlias = Sequence[Sequence[int]] | None


def is_whole(value: object) -> bool:
    """True for an integer that is no bool."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def lengths(name: str, size: Size, counts: tuple[int, ...], form: str) -> list[int]:
    """``size`` as a list of positive integers whose length is one of ``counts``."""
    if size is None:
        raise JobError(f"{name} needs a size: size = {form}")
    many = isinstance(size, Sequence | np.ndarray) and not isinstance(size, str)
    sizes: list[Any] = list(size) if many else [size]  # type: ignore[arg-type]
    if len(sizes) not in counts:
        raise JobError(
            f"{name} got size = {size!r}; expected "
            f"{' or '.join(map(str, counts))} whole numbers: size = {form}"
        )
    for value in sizes:
        if not is_whole(value) or value < 1:
            raise JobError(
                f"{name} got size = {size!r}; every length must be a whole number of "
                f"at least 1: size = {form}"
            )
    return [int(value) for value in sizes]


def cell_grid(
    name: str,
    dimension: int,
    size: Size,
    periodic: Periodic,
    cluster: Cluster,
    *,
    one_means_all: bool = False,
) -> Grid:
    """The cells of a family; checks everything that a job may say about them."""
    many = isinstance(periodic, Sequence | np.ndarray)
    flags = list(periodic) if many else [periodic]
    if any(not isinstance(f, bool | np.bool_) for f in flags):
        raise JobError(f"{name} got periodic = {periodic!r}; expected true or false")
    if len(flags) not in (1, dimension):
        raise JobError(
            f"{name} got {len(flags)} periodic flags; expected one, or one for each of "
            f"its {dimension} directions"
        )
    flags = flags * dimension if len(flags) == 1 else flags
    if cluster is not None:
        if size is not None:
            raise JobError(f"{name}: give either size or cluster, not both")
        if not all(flags):
            raise JobError(
                f"{name}: a cluster is a torus; with periodic = {periodic!r} give size"
            )
        return tilted_grid(cluster, dimension)
    form = ["[L]", "[L_x, L_y]", "[L_x, L_y, L_z]"][dimension - 1]
    counts = (1, dimension) if one_means_all and dimension > 1 else (dimension,)
    sizes = lengths(name, size, counts, form)
    if len(sizes) == 1:
        sizes = sizes * dimension
    return rectangular_grid(sizes, flags)


def points(what: str, rows: Any) -> np.ndarray:
    """Rows of one to three finite coordinates, float (n, d)."""
    try:
        table: np.ndarray = np.array(rows, float)
    except (TypeError, ValueError):
        table = np.zeros(0)
    if table.ndim != 2 or table.size == 0 or not np.isfinite(table).all():
        raise JobError(f"{what} = {rows!r} must be rows of 1 to 3 finite numbers")
    if table.shape[1] > 3:
        raise JobError(f"{what} have {table.shape[1]} coordinates; at most 3 work")
    return table

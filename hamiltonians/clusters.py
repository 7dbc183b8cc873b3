"""Unit cells on a finite grid or torus: indices, periods, nearest images."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np

from vmc.errors import JobError


@dataclasses.dataclass(frozen=True, eq=False)
class Grid:
    """The unit cells of a finite lattice.

    Cell vectors (integers in units of the lattice vectors) are identified modulo
    the rows of ``periods`` that belong to periodic directions.

    Attributes:
        periods: int (D, D), upper triangular with a positive diagonal (Hermite
            normal form).  Cells are numbered row by row over its diagonal; an
            untilted grid has ``periods = diag(L_1, ..., L_D)``.
        periodic: one flag per direction.
        spanning: int (D, D), another basis of the same periods: the one that the
            user gave, row i being period i.
    """

    periods: np.ndarray
    periodic: tuple[bool, ...]
    spanning: np.ndarray

    @property
    def n_cells(self) -> int:
        """Number of unit cells."""
        return int(np.prod(np.diag(self.periods), dtype=np.int64))

    @property
    def extent(self) -> tuple[int, ...]:
        """Diagonal of ``periods``."""
        return tuple(int(x) for x in np.diag(self.periods))

    @property
    def is_tilted(self) -> bool:
        """True where the cells do not form a rectangular grid."""
        return bool(np.any(self.periods != np.diag(np.diag(self.periods))))

    def cells(self) -> np.ndarray:
        """Representatives of all cells in order, int (n_cells, D)."""
        if not self.extent:
            return np.zeros((1, 0), np.int64)
        return np.stack(np.unravel_index(np.arange(self.n_cells), self.extent), -1)

    def index(self, cell: np.ndarray) -> np.ndarray:
        """Number of each cell vector, int (...) from int (..., D); -1 if outside."""
        cell = np.array(cell, np.int64)
        number = np.zeros(cell.shape[:-1], np.int64)
        inside = np.ones(cell.shape[:-1], bool)
        for d, length in enumerate(self.extent):
            wraps = cell[..., d] // length
            if self.periodic[d]:
                cell -= wraps[..., None] * self.periods[d]
            else:
                inside &= wraps == 0
            number = number * length + cell[..., d] % length
        return np.where(inside, number, -1)

    def period_vectors(self, vectors: np.ndarray) -> np.ndarray:
        """Shortest basis of the torus periods, float (n periodic directions, d)."""
        rows = self.periods[np.asarray(self.periodic, bool)]
        return shortest_basis(rows @ vectors)


def rectangular_grid(size: Sequence[int], periodic: Sequence[bool]) -> Grid:
    """An untilted grid of L_1 x ... x L_D cells."""
    periods = np.diag(np.array(size, np.int64))
    return Grid(periods, tuple(bool(p) for p in periodic), periods)


def tilted_grid(spanning: Sequence[Sequence[int]], dimension: int) -> Grid:
    """The torus whose periods are the rows of an integer matrix.

    Args:
        spanning: D rows of D integers; row i says how many lattice vectors of each
            kind make up period i.
        dimension: D.

    Raises:
        JobError: not an invertible integer D x D matrix.
    """
    try:
        matrix = np.array(spanning, float)
    except (TypeError, ValueError):
        matrix = np.zeros(0)
    if matrix.shape != (dimension, dimension) or np.any(matrix != np.rint(matrix)):
        raise JobError(
            f"cluster = {spanning!r} must be {dimension} rows of {dimension} integers, "
            "the torus periods in units of the lattice vectors; for example "
            "cluster = [[4, 2], [-2, 4]] is the square lattice of 20 sites"
        )
    matrix = matrix.astype(np.int64)
    if round(float(np.linalg.det(matrix))) == 0:
        raise JobError(f"cluster = {spanning!r} spans no area: its rows are parallel")
    return Grid(hermite_normal_form(matrix), (True,) * dimension, matrix)


def hermite_normal_form(matrix: np.ndarray) -> np.ndarray:
    """Upper-triangular integer basis of the row lattice of an invertible matrix.

    The diagonal is positive and 0 <= h_ij < h_jj above it, so two matrices span the
    same lattice exactly when their forms are equal.
    """
    h = np.array(matrix, np.int64)
    n = len(h)
    for col in range(n):
        while np.any(h[col + 1 :, col]):
            nonzero = col + np.flatnonzero(h[col:, col])
            pivot = nonzero[np.argmin(np.abs(h[nonzero, col]))]
            h[[col, pivot]] = h[[pivot, col]]
            h[col + 1 :] -= (h[col + 1 :, col] // h[col, col])[:, None] * h[col]
        if h[col, col] < 0:
            h[col] *= -1
        h[:col] -= (h[:col, col] // h[col, col])[:, None] * h[col]
    return h


def shortest_basis(periods: np.ndarray) -> np.ndarray:
    """A Minkowski-reduced basis of the lattice spanned by up to three rows (p, d)."""
    basis = np.array(periods, float)
    if len(basis) < 2:
        return basis
    changed = True
    while changed:
        changed = False
        for i in range(len(basis)):
            others = np.delete(basis, i, axis=0)
            steps = np.linalg.lstsq(others.T, basis[i], rcond=None)[0]
            nearest = basis[i] - np.rint(steps) @ others
            images = nearest + _combinations(len(others)) @ others
            best = images[np.argmin(np.sum(images**2, axis=1))]
            if best @ best < basis[i] @ basis[i] * (1 - 1e-9):
                basis[i], changed = best, True
    return basis


def nearest_image(delta: np.ndarray, periods: np.ndarray) -> np.ndarray:
    """Shortest of all vectors delta + lattice spanned by a reduced basis.

    Args:
        delta: float (..., d).
        periods: float (p, d) from `shortest_basis`.
    """
    delta = np.array(delta, float)
    if len(periods) == 0:
        return delta
    delta -= np.rint(delta @ np.linalg.pinv(periods)) @ periods
    best, norm = delta, np.sum(delta**2, axis=-1)
    for shift in _combinations(len(periods)) @ periods:
        image = delta + shift
        square = np.sum(image**2, axis=-1)
        # A strict margin keeps the choice between equal images stable.
        better = square < norm - 1e-9 * (1.0 + norm)
        best = np.where(better[..., None], image, best)
        norm = np.where(better, square, norm)
    return best


def _combinations(n: int) -> np.ndarray:
    return np.array(list(itertools.product((-1, 0, 1), repeat=n)), float)

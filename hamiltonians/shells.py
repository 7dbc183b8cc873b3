"""Neighbour shells, triangles and faces of an infinite lattice."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np

#: Two distances closer than this, relative to the larger, are the same shell.
TOLERANCE = 1e-6

#: Longest face that is traced; longer loops are the outside of a strip.
MAX_FACE = 24


class Links(NamedTuple):
    """Bonds of one shell that start in the home cell, each bond once.

    Attributes:
        distance: their length.
        start: int (L,), basis site in the home cell.
        end: int (L,), basis site of the other end.
        cell: int (L, D), cell of the other end.
        vector: float (L, d), displacement from start to end.
        color: int (L,), bonds of equal direction share a colour, counted from 0.
    """

    distance: float
    start: np.ndarray
    end: np.ndarray
    cell: np.ndarray
    vector: np.ndarray
    color: np.ndarray


class Step(NamedTuple):
    """One directed bond out of a basis site of the home cell."""

    end: int
    cell: tuple[int, ...]
    vector: np.ndarray


#: A loop through sites (cell vector, basis site).
Loop = tuple[tuple[tuple[int, ...], int], ...]


def shell_links(vectors: np.ndarray, basis: np.ndarray, n: int) -> Links:
    """Bonds of the n-th shell of the infinite lattice.

    Args:
        vectors: float (D, d), lattice vectors.
        basis: float (b, d), sites of the unit cell.
        n: 1 for nearest neighbours.
    """
    reach = 1
    while True:
        cells, delta = _all_pairs(vectors, basis, reach)
        lengths = np.linalg.norm(delta, axis=-1)
        shells = _distinct(lengths[lengths > TOLERANCE])
        if len(shells) >= n and shells[n - 1] <= _covered(vectors, basis, reach):
            break
        reach += 1
    distance = shells[n - 1]
    hit = np.abs(lengths - distance) <= TOLERANCE * distance
    where, start, end = np.nonzero(hit)
    cell, vector = cells[where], delta[where, start, end]
    keep = _is_forward(cell, start, end)
    start, end, cell, vector = start[keep], end[keep], cell[keep], vector[keep]
    # Per site, the first direction comes first: +x before +y on the square lattice.
    order = np.lexsort((end, *(-cell.T[::-1]), np.abs(cell).sum(axis=1), start))
    start, end, cell, vector = start[order], end[order], cell[order], vector[order]
    return Links(distance, start, end, cell, vector, _colors(cell, vector))


def steps(links: Links, n_basis: int) -> list[list[Step]]:
    """Directed bonds out of each basis site, both senses of every link."""
    out: list[list[Step]] = [[] for _ in range(n_basis)]
    for a, b, cell, vector in zip(
        links.start, links.end, links.cell, links.vector, strict=True
    ):
        forward, back = tuple(int(c) for c in cell), tuple(-int(c) for c in cell)
        out[a].append(Step(int(b), forward, vector))
        out[b].append(Step(int(a), back, -vector))
    return out


def triangle_loops(links: Links, n_basis: int) -> list[Loop]:
    """Closed loops of three bonds, one per cell, counterclockwise in the plane."""
    out = steps(links, n_basis)
    zero = (0,) * links.cell.shape[1]
    found: dict[frozenset, Loop] = {}
    for a in range(n_basis):
        for u, w in itertools.combinations(out[a], 2):
            gap = w.vector - u.vector
            if abs(np.linalg.norm(gap) - links.distance) > TOLERANCE * links.distance:
                continue
            if len(gap) == 2 and u.vector[0] * w.vector[1] < u.vector[1] * w.vector[0]:
                u, w = w, u
            loop = _home(((zero, a), (u.cell, u.end), (w.cell, w.end)))
            found.setdefault(frozenset(loop), loop)
    return sorted(found.values())


def face_loops(links: Links, n_basis: int) -> list[Loop]:
    """Faces of a lattice drawn in the plane without crossing bonds, one per cell.

    Every directed bond has one face on its left; it is found by turning as far to
    the left as possible at every site.
    """
    out = [sorted(s, key=_angle) for s in steps(links, n_basis)]
    found = {
        _home(loop)
        for a in range(n_basis)
        for step in out[a]
        if (loop := _trace(out, a, step)) is not None
    }
    return sorted(found, key=lambda loop: (len(loop), loop))


def parallelogram_loops(links: Links, n_basis: int) -> list[Loop]:
    """Chordless loops of two pairs of parallel bonds, one per cell (3 dimensions)."""
    out = steps(links, n_basis)
    zero = (0,) * links.cell.shape[1]
    found: dict[frozenset, Loop] = {}
    for a in range(n_basis):
        for u, w in itertools.combinations(out[a], 2):
            corner = _along(out, u, w.vector)
            if corner is None or corner != _along(out, w, u.vector):
                continue
            diagonals = (u.vector + w.vector, u.vector - w.vector)
            lengths = np.linalg.norm(diagonals, axis=1) / links.distance
            if np.all(lengths > TOLERANCE) and np.all(np.abs(lengths - 1) > TOLERANCE):
                loop = _home(((zero, a), (u.cell, u.end), corner, (w.cell, w.end)))
                found.setdefault(frozenset(loop), loop)
    return sorted(found.values())


def _all_pairs(
    vectors: np.ndarray, basis: np.ndarray, reach: int
) -> tuple[np.ndarray, np.ndarray]:
    """Cells within ``reach`` and displacements, float (cells, b, b, d)."""
    ranges = [range(-reach, reach + 1)] * len(vectors)
    cells = np.array(list(itertools.product(*ranges)), np.int64)
    offset = basis[None, :] - basis[:, None]
    return cells, (cells @ vectors)[:, None, None] + offset


def _covered(vectors: np.ndarray, basis: np.ndarray, reach: int) -> float:
    """Radius within which ``_all_pairs`` has found every pair."""
    if len(vectors) == 0:
        return np.inf
    heights = 1.0 / np.linalg.norm(np.linalg.pinv(vectors), axis=0)
    spread = np.linalg.norm(basis[None] - basis[:, None], axis=-1).max()
    return float((reach + 1) * heights.min() - spread - TOLERANCE)


def _distinct(lengths: np.ndarray) -> np.ndarray:
    ordered = np.sort(lengths.reshape(-1))
    if not len(ordered):
        return ordered
    jump = np.diff(ordered) > TOLERANCE * ordered[1:]
    return ordered[np.concatenate(([True], jump))]


def _is_forward(cell: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """One of the two senses of every bond: the first non-zero cell entry is > 0."""
    sign = np.zeros(len(cell), np.int64)
    for column in cell.T:
        sign = np.where(sign == 0, np.sign(column), sign)
    return (sign > 0) | ((sign == 0) & (start < end))


def _colors(cell: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """Number the directions: along lattice vector 1, 2, ..., then inside the cell."""
    unit = np.rint(vector / np.linalg.norm(vector, axis=1, keepdims=True) / TOLERANCE)
    sign = np.zeros(len(unit))
    for column in unit.T:
        sign = np.where(sign == 0, np.sign(column), sign)
    keys = [tuple(row) for row in (unit * sign[:, None]).astype(np.int64)]
    inside = np.all(cell == 0, axis=1)
    order = np.lexsort((*(-cell.T[::-1]), np.abs(cell).sum(axis=1), inside))
    number: dict[tuple, int] = {}
    for i in order:
        # Rounding may split one direction into neighbouring integers.
        near = (k for k in number if max(abs(np.subtract(k, keys[i]))) <= 1)
        number.setdefault(next(near, keys[i]), len(number))
        keys[i] = next(k for k in number if max(abs(np.subtract(k, keys[i]))) <= 1)
    return np.array([number[k] for k in keys], np.int64)


def _angle(step: Step) -> float:
    return float(np.arctan2(step.vector[1], step.vector[0]))


def _trace(out: list[list[Step]], start: int, first: Step) -> Loop | None:
    """The face left of a directed bond, or None if it is unbounded."""
    zero = (0,) * len(first.cell)
    loop: list[tuple[tuple[int, ...], int]] = [(zero, start)]
    here: tuple[tuple[int, ...], int] = (first.cell, first.end)
    step = first
    area, position = 0.0, np.zeros(2)
    for _ in range(MAX_FACE):
        area += position[0] * step.vector[1] - position[1] * step.vector[0]
        position = position + step.vector
        back = np.arctan2(-step.vector[1], -step.vector[0])
        turns = [(back - _angle(s)) % (2 * np.pi) for s in out[here[1]]]
        # The bond just used has turn 0 and is the last choice.
        turns = [t if 1e-9 < t < 2 * np.pi - 1e-9 else 2 * np.pi for t in turns]
        step = out[here[1]][int(np.argmin(turns))]
        if here == (zero, start) and _same(step, first):
            return tuple(loop) if area > TOLERANCE else None
        loop.append(here)
        here = (tuple(np.add(here[0], step.cell).tolist()), step.end)
    return None


def _same(a: Step, b: Step) -> bool:
    return a.end == b.end and a.cell == b.cell


def _along(
    out: list[list[Step]], first: Step, vector: np.ndarray
) -> tuple[tuple[int, ...], int] | None:
    """Site reached by a bond ``vector`` after ``first``, or None."""
    for step in out[first.end]:
        if np.linalg.norm(step.vector - vector) <= TOLERANCE * np.linalg.norm(vector):
            return tuple(np.add(first.cell, step.cell).tolist()), step.end
    return None


def _home(loop: Loop) -> Loop:
    """The same loop, moved and turned so that equal loops compare equal."""
    origin = min(cell for cell, _ in loop)
    moved = [(tuple(np.subtract(c, origin).tolist()), b) for c, b in loop]
    k = moved.index(min(moved))
    return tuple(moved[k:] + moved[:k])

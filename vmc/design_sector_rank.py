"""The least energy of a bounded Schmidt rank among the states that a job samples.

In a sector psi is a bounded-rank state projected on it, P (A B).  Rows of A and columns
of B belong to one charge each, so that the projection cuts the product into blocks
A_q B_q, one per charge q of the region, each of the rank of A B: the blocks are
optimised together, one side of the cut after the other, as in one-site sweeps of a
matrix product state (arXiv:1008.3477).  Without a sector there is one block.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from vmc.design_cuts import Region
from vmc.design_fixed_rank import FixedRank, lowest
from vmc.errors import JobError
from vmc.space import Spins

#: Sweeps end when the energy falls by less than this, relatively.
_TOLERANCE = 1e-9
_MAX_SWEEPS = 60
#: Starts: the truncated ground state, and perturbed ones of this relative noise.
_STARTS, _NOISE = 3, 0.3


class _Cut(NamedTuple):
    """Where every configuration stands in the blocks of a cut.

    Attributes:
        places: for every block, positions (rows, columns) in the vector.
    """

    places: tuple[np.ndarray, ...]

    def parts(self, vector: np.ndarray) -> list[np.ndarray]:
        """The blocks of a vector."""
        return [vector[place] for place in self.places]

    def join(self, parts: list[np.ndarray], size: int) -> np.ndarray:
        """The vector of some blocks."""
        out = np.zeros(size, np.result_type(*parts))
        for place, part in zip(self.places, parts, strict=True):
            out[place] = part
        return out


def sector_least_energy(
    matrix: Any, vector: np.ndarray, space: Spins, region: Region, rank: int
) -> FixedRank:
    """The least energy found at a rank across one cut, as the job samples psi.

    Args:
        matrix: H in the space, sparse (n_states, n_states).
        vector: the ground state, (n_states,), normalised.
        space: the configurations, without a blockade.
        region: sites of one side.
        rank: k of the state before the projection on the sector.

    Returns:
        An upper bound of the least energy, by sweeps from several starts.

    Raises:
        JobError: the space has a blockade, which ties the two sides together.
    """
    if space.blockade:
        raise JobError(
            "states of fixed rank leave a space with a blockade; take another model"
        )
    cut = _cut(space, region)
    rng = np.random.default_rng(0)
    best: tuple[float, np.ndarray] | None = None
    for number in range(_STARTS):
        seconds = []
        for part in cut.parts(vector):
            right = np.linalg.svd(part, full_matrices=False)[2][:rank]
            noise = _NOISE * (number > 0) / math.sqrt(right.shape[1])
            right = right + noise * rng.normal(size=right.shape)
            seconds.append(np.linalg.qr(right.T)[0].T)
        found = _sweeps(matrix, cut, cut.parts(vector), seconds)
        best = found if best is None or found[0] < best[0] else best
        if all(len(b) == min(p.shape) for b, p in zip(seconds, cut.places)):
            break  # the ground state itself fits
    assert best is not None
    overlap = abs(np.vdot(vector, best[1])) ** 2
    return FixedRank(rank, best[0], max(0.0, 1 - float(overlap)))


def _cut(space: Spins, region: Region) -> _Cut:
    """Blocks of a cut: configurations of both sides that occur together."""
    states = space.all_states()
    inside = np.isin(np.arange(space.n_sites), region)
    a = np.unique(states[:, inside], axis=0, return_inverse=True)[1].reshape(-1)
    b = np.unique(states[:, ~inside], axis=0, return_inverse=True)[1].reshape(-1)
    # Rows of one charge meet the same columns: the first of them names the block.
    first = np.full(int(a.max()) + 1, int(b.max()) + 1)
    np.minimum.at(first, a, b)
    label = first[a]
    places = []
    for one in np.unique(label):
        here = np.flatnonzero(label == one)
        rows = np.unique(a[here], return_inverse=True)[1].reshape(-1)
        columns = np.unique(b[here], return_inverse=True)[1].reshape(-1)
        place = np.zeros((int(rows.max()) + 1, int(columns.max()) + 1), int)
        place[rows, columns] = here
        places.append(place)
    return _Cut(tuple(places))


def _sweeps(
    matrix: Any, cut: _Cut, start: list[np.ndarray], seconds: list[np.ndarray]
) -> tuple[float, np.ndarray]:
    """Energy and normalised state after alternating optimisation.

    Args:
        matrix: H.
        cut: the blocks.
        start: blocks of the state that is projected on the second sides first.
        seconds: orthonormal rows of every block.
    """
    size = matrix.shape[0]
    firsts = [p @ s.conj().T for p, s in zip(start, seconds, strict=True)]
    energy, state = math.inf, start
    for _ in range(_MAX_SWEEPS):
        before = energy
        for turned in (False, True):
            # The side that is fixed has orthonormal rows (or columns) in every block.
            free, fixed = (seconds, firsts) if turned else (firsts, seconds)
            if turned:
                pairs = [np.linalg.qr(f) for f in fixed]
                fixed = [q for q, _ in pairs]
                free = [r @ s for (_, r), s in zip(pairs, free, strict=True)]
            shapes = [x.shape for x in free]
            energy, flat = lowest(
                _projected(matrix, cut, fixed, shapes, turned, size),
                np.concatenate([x.reshape(-1) for x in free]),
            )
            free = _split(flat, shapes)
            state = [
                (f @ x if turned else x @ f) for x, f in zip(free, fixed, strict=True)
            ]
            seconds = [np.linalg.qr(x.T)[0].T for x in free] if turned else seconds
            firsts = [p @ s.conj().T for p, s in zip(state, seconds, strict=True)]
        if before - energy < _TOLERANCE * max(1.0, abs(energy)):
            break
    psi = cut.join(state, size)
    return energy, psi / np.linalg.norm(psi)


def _projected(
    matrix: Any,
    cut: _Cut,
    fixed: list[np.ndarray],
    shapes: list[tuple[int, ...]],
    turned: bool,
    size: int,
) -> Any:
    """H between states with one side of every block fixed, as a map of arrays."""

    def apply(flat: np.ndarray) -> np.ndarray:
        free = _split(flat, shapes)
        parts = [(f @ x if turned else x @ f) for x, f in zip(free, fixed, strict=True)]
        moved = cut.parts(matrix @ cut.join(parts, size))
        out = [
            (f.conj().T @ p if turned else p @ f.conj().T)
            for p, f in zip(moved, fixed, strict=True)
        ]
        return np.concatenate([x.reshape(-1) for x in out])

    return apply


def _split(flat: np.ndarray, shapes: list[tuple[int, ...]]) -> list[np.ndarray]:
    ends = np.cumsum([math.prod(shape) for shape in shapes])[:-1]
    parts = np.split(flat, ends)
    return [x.reshape(shape) for x, shape in zip(parts, shapes, strict=True)]

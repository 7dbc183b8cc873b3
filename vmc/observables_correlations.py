"""Correlations by displacement, and what follows: structure factors, lengths.

Pairs of sites with the same displacement (modulo the periods of the lattice) and the
same places in the unit cell form a class; C(i, j) = C(j, i), so that (i, j) and (j, i)
are in one.  Averages over a class are averages over the translations; along open
directions over all pairs with this displacement.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from vmc.errors import JobError
from vmc.stats import Series

#: Displacements are equal to within this, in units of the nearest-neighbour distance.
_TOLERANCE = 1e-6


class Classes(NamedTuple):
    """Pairs by displacement.

    Attributes:
        pairs: int (P, 2), every unordered pair once, equal entries included.
        labels: int (P,), class of each pair.
        weights: float (P,), 1 / pairs of its class.
        counts: int (F,), ordered pairs of each class.
        vectors: float (F, d), displacement, the shortest image.
        places: (F,) texts, places in the unit cell, as "0-1".
    """

    pairs: np.ndarray
    labels: np.ndarray
    weights: np.ndarray
    counts: np.ndarray
    vectors: np.ndarray
    places: list[str]

    @property
    def n_classes(self) -> int:
        """F."""
        return len(self.counts)

    @property
    def distances(self) -> np.ndarray:
        """Lengths of the displacements, (F,)."""
        return np.linalg.norm(self.vectors, axis=1)

    def columns(self) -> dict[str, list[Any]]:
        """Labels of the classes for a table."""
        columns: dict[str, list[Any]] = {}
        if len(set(self.places)) > 1:
            columns["places"] = list(self.places)
        if self.vectors.shape[1]:
            columns["r"] = [_rounded(v) for v in self.vectors.tolist()]
            columns["distance"] = [round(d, 9) for d in self.distances.tolist()]
        return columns


def _rounded(vector: list[float]) -> list[float]:
    return [round(x, 9) + 0.0 for x in vector]


def site_classes(lattice: Any) -> Classes:
    """Classes of pairs of sites.

    Args:
        lattice: a ``hamiltonians.Lattice``; of a graph, every pair is a class.
    """
    n = lattice.n_sites
    kinds = np.arange(n) % len(lattice.basis)
    if lattice.graph_edges is not None:
        # Nothing moves the sites of a graph: each is a kind of its own.
        return classes(np.zeros((n, 0)), np.zeros((0, 0)), np.arange(n))
    return classes(lattice.positions, lattice.periods, kinds)


def classes(positions: np.ndarray, periods: np.ndarray, kinds: np.ndarray) -> Classes:
    """Classes of pairs of points with positions.

    Args:
        positions: float (n, d).
        periods: float (p, d), of the torus.
        kinds: int (n,); only pairs of points of the same kinds are averaged.
    """
    n = len(positions)
    first, second = np.triu_indices(n)
    delta = positions[second] - positions[first]
    a, b = kinds[first], kinds[second]
    # One orientation for both orders of a pair.
    forth, back = _canonical(delta, periods), _canonical(-delta, periods)
    keys: dict[tuple[Any, ...], int] = {}
    labels = np.empty(len(first), np.int64)
    vectors: list[np.ndarray] = []
    places: list[str] = []
    rows = zip(a.tolist(), b.tolist(), forth.tolist(), back.tolist(), strict=True)
    for k, (i, j, f, g) in enumerate(rows):
        key = min((i, j, tuple(f)), (j, i, tuple(g)))
        if key not in keys:
            keys[key] = len(keys)
            vectors.append(delta[k] if key == (i, j, tuple(f)) else -delta[k])
            places.append(f"{key[0]}-{key[1]}")
        labels[k] = keys[key]
    sizes = np.bincount(labels)
    ordered = np.bincount(labels, weights=np.where(first == second, 1, 2))
    shortest = _shortest(np.array(vectors).reshape(len(keys), -1), periods)
    found = Classes(
        np.stack([first, second], axis=1).astype(np.int32),
        labels.astype(np.int32),
        1.0 / sizes[labels],
        ordered.astype(np.int64),
        shortest,
        places,
    )
    return _by_distance(found)


def _by_distance(found: Classes) -> Classes:
    """The same classes, the nearest first."""
    rounded = np.rint(found.distances / _TOLERANCE)
    order = np.lexsort((np.arange(found.n_classes), rounded))
    place = np.argsort(order)
    return found._replace(
        labels=place[found.labels].astype(np.int32),
        counts=found.counts[order],
        vectors=found.vectors[order],
        places=[found.places[c] for c in order],
    )


def _canonical(delta: np.ndarray, periods: np.ndarray) -> np.ndarray:
    """Displacements modulo the periods, as integers: int (P, d)."""
    if len(periods):
        inverse = np.linalg.pinv(periods)
        delta = delta - np.floor(delta @ inverse + _TOLERANCE) @ periods
    return np.rint(delta / _TOLERANCE / 10).astype(np.int64)


def _shortest(delta: np.ndarray, periods: np.ndarray) -> np.ndarray:
    """Shortest image of each displacement; of equal ones the largest in order."""
    if len(periods) == 0:
        return delta
    delta = delta - np.rint(delta @ np.linalg.pinv(periods)) @ periods
    steps = np.indices((3,) * len(periods)).reshape(len(periods), -1).T - 1
    images = delta[:, None] + steps[None] @ periods
    square = np.rint(np.sum(images**2, axis=2) / _TOLERANCE)
    best = []
    for each, size in zip(images, square, strict=True):
        near = each[size == size.min()]
        best.append(max(_rounded(v) for v in near.tolist()))
    return np.array(best)


# ---- structure factors -----------------------------------------------------------


def momenta_of(lattice: Any) -> np.ndarray:
    """The allowed momenta, float (Q, d), q = 0 first.

    Raises:
        JobError: nothing is periodic.
    """
    if lattice.graph_edges is not None or not any(lattice.periodic):
        raise JobError(
            f"a structure factor lives on allowed momenta, but {lattice!r} is not "
            'periodic in any direction: measure "correlations" instead'
        )
    return np.asarray(lattice.momenta)


def transform(found: Classes, momenta: np.ndarray, n_sites: int) -> np.ndarray:
    """Matrix (F, Q) from C by class to S(q) = sum_ij e^(iq(r_i - r_j)) C_ij / N."""
    phases = np.cos(found.vectors @ momenta.T)
    return phases * found.counts[:, None] / n_sites


def peak(structure: Series, momenta: np.ndarray) -> tuple[int, list[tuple[int, float]]]:
    """The largest S(q) and its neighbours in momentum space.

    Args:
        structure: S(q), (Q,).
        momenta: float (Q, d).

    Returns:
        Number of the peak, and of each nearest momentum with its distance |dq|.

    Raises:
        JobError: there is one momentum only.
    """
    if len(momenta) < 2:
        raise JobError(
            "a correlation length needs at least two allowed momenta: make a direction "
            "of the lattice periodic"
        )
    # S(q) = S(-q): which of the two is the larger is rounding, and must not be said.
    largest = float(np.max(structure))
    top = int(np.argmax(structure >= largest - _TOLERANCE * abs(largest)))
    # Momenta form a group: differences, brought back, are in the list.
    lengths = np.linalg.norm(momenta, axis=1)
    shortest = np.min(lengths[1:])
    near = np.flatnonzero(np.abs(lengths - shortest) < _TOLERANCE * 10)
    return top, [(int(q), float(shortest)) for q in near]


def shifted(momenta: np.ndarray, shifts: np.ndarray, q: int, by: int) -> int:
    """Number of the momentum q + dq.

    Args:
        momenta: float (Q, d), all characters of the translations.
        shifts: float (G, d), the translations.
        q: number of q.
        by: number of dq.
    """
    characters = np.exp(1j * shifts @ momenta.T)  # (G, Q)
    wanted = characters[:, q] * characters[:, by]
    return int(np.argmax(np.abs(np.conj(wanted) @ characters)))


def correlation_length(
    structure: Series, top: int, near: list[int], step: float
) -> Series:
    """Second-moment correlation length sqrt(S(Q) / S(Q + dq) - 1) / (2 sin(dq / 2)).

    Args:
        structure: S(q), (..., Q).
        top: number of Q, where S is largest.
        near: numbers of the momenta Q + dq, which are averaged.
        step: |dq|.

    Returns:
        (..., 1), in nearest-neighbour distances; 0 where S(Q) is not the larger one.
    """
    beside = np.mean(structure[..., near], axis=-1)
    excess = np.maximum(structure[..., top] / beside - 1, 0)
    return (np.sqrt(excess) / (2 * math.sin(step / 2)))[..., None]

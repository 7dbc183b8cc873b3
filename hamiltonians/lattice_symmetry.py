"""Permutations of the sites that preserve a lattice."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from vmc.errors import JobError

if TYPE_CHECKING:
    from hamiltonians.lattices import Lattice

#: Most automorphisms of a graph that are listed.
MAX_AUTOMORPHISMS = 10_000

#: Symmetry centres are looked for at multiples of 1/12 of the lattice vectors, in
#: three dimensions of 1/8 and 1/3 (centres of the pyrochlore tetrahedra, of
#: three-fold axes).
_PLANAR_FRACTIONS = [k / 12 for k in range(12)]
_SPATIAL_FRACTIONS = [k / 8 for k in range(8)] + [1 / 3, 2 / 3]

_TOLERANCE = 1e-6


def preserves(
    features: Mapping[str, tuple[tuple[int, ...], ...]], perms: np.ndarray
) -> np.ndarray:
    """Whether each permutation (G, N) maps every group of sites to one like it."""
    keep = np.ones(len(perms), bool)
    for groups in features.values():
        # On the smallest tori a group may be empty: any permutation preserves it.
        for size in {len(g) for g in groups} - {0}:
            rows = np.array([sorted(g) for g in groups if len(g) == size], np.int64)
            home = rows[np.lexsort(rows.T)]
            for g in np.flatnonzero(keep):
                moved = np.sort(perms[g][rows], axis=1)
                keep[g] = np.array_equal(moved[np.lexsort(moved.T)], home)
    return keep


def momenta(shifts: np.ndarray, periods: np.ndarray) -> np.ndarray:
    """Wave vectors of a group of translations of a torus.

    Args:
        shifts: float (G, d), the group, modulo the periods; identity first.
        periods: float (p, d), a basis of the torus periods.

    Returns:
        float (G, d), in the span of the periods, k = 0 first.
    """
    if len(periods) == 0:
        return np.zeros_like(shifts)
    # Allowed k are integer combinations of the dual basis of the periods; those
    # with the same phases on the whole group are one character.
    dual = 2 * np.pi * np.linalg.pinv(periods).T
    found: dict[tuple[float, ...], np.ndarray] = {}
    reach = 0
    while len(found) < len(shifts):
        span = sorted(range(-reach, reach + 1), key=lambda m: (abs(m), -m))
        for m in itertools.product(span, repeat=len(periods)):
            if max(map(abs, m)) == reach:
                k = np.array(m, float) @ dual
                turns = np.rint(np.mod(shifts @ k / (2 * np.pi), 1.0) * 1e6) % 1e6
                found.setdefault(tuple(turns), k)
        reach += 1
    return np.array(list(found.values()))


def point_group(lattice: Lattice) -> np.ndarray:
    """See `Lattice.point_group`."""
    # On very small tori different rotations are the same permutation.
    best = np.unique(point_operations(lattice)[1], axis=0)
    identity = np.all(best == np.arange(lattice.n_sites), axis=1)
    return best[np.argsort(~identity, kind="stable")]


def point_operations(lattice: Lattice) -> tuple[np.ndarray, np.ndarray]:
    """Rotations and reflections about the best centre, see `Lattice.point_group`.

    Returns:
        Matrices, float (n, d, d), all different, and the site that each moves every
        site to, int32 (n, N); on very small tori some of these are equal.
    """
    rotations = _torus_rotations(lattice)
    best = np.arange(lattice.n_sites, dtype=np.int32)[None]
    matrices = np.eye(lattice.positions.shape[1])[None]
    centres, allowed = _centres(lattice, rotations)
    for c in np.argsort(-allowed.sum(axis=0), kind="stable"):
        if allowed[:, c].sum() <= len(best):
            break
        for shift in _cosets(lattice):
            moved = [
                (rotation, perm)
                for rotation in rotations[allowed[:, c]]
                if (perm := _permutation(lattice, rotation, centres[c] + shift))
                is not None
            ]
            if len(moved) > len(best):
                table = np.array([perm for _, perm in moved], np.int32)
                kept = preserves(lattice.features, table)
                if np.sum(kept) > len(best):
                    best = table[kept]
                    matrices = np.array([rotation for rotation, _ in moved])[kept]
    return matrices, best


def automorphisms(n_sites: int, edges: np.ndarray) -> np.ndarray:
    """All permutations that map bonds to bonds, int32 (G, N), identity first.

    Raises:
        JobError: there are more than `MAX_AUTOMORPHISMS`.
    """
    import networkx as nx

    graph = nx.Graph()
    graph.add_nodes_from(range(n_sites))
    graph.add_edges_from(edges.tolist())
    matcher = nx.algorithms.isomorphism.GraphMatcher(graph, graph)
    rows = []
    for mapping in matcher.isomorphisms_iter():
        rows.append([mapping[i] for i in range(n_sites)])
        if len(rows) > MAX_AUTOMORPHISMS:
            raise JobError(
                f"this graph has more than {MAX_AUTOMORPHISMS} automorphisms, too many "
                "to average over; give the permutations that you want by hand"
            )
    table = np.array(rows, np.int32)
    return table[np.lexsort(table.T[::-1])]


def _torus_rotations(lattice: Lattice) -> np.ndarray:
    """Orthogonal matrices that preserve lattice vectors and torus, (n, d, d)."""
    vectors, periods = lattice.vectors, lattice.periods
    if len(vectors) == 0:
        return np.eye(lattice.positions.shape[1])[None]
    inverse = np.linalg.pinv(periods) if len(periods) else np.zeros((0, 0))
    kept = []
    for rotation in _lattice_rotations(vectors):
        moved = periods @ rotation.T
        if len(periods):
            turns = moved @ inverse
            same = np.abs(turns - np.rint(turns)).max() < _TOLERANCE
            if not (same and np.allclose(np.rint(turns) @ periods, moved, atol=1e-6)):
                continue
        kept.append(rotation)
    return np.array(kept)


def _lattice_rotations(vectors: np.ndarray) -> list[np.ndarray]:
    """Isometries of a Bravais lattice, with mirrors of the directions it lacks."""
    d = vectors.shape[1]
    gram = vectors @ vectors.T
    reach = range(-2, 3)
    cells = np.array(list(itertools.product(reach, repeat=len(vectors))))
    squares = np.einsum("ni,ij,nj->n", cells, gram, cells)
    choices = [cells[np.abs(squares - g) < 1e-6 * g] for g in np.diag(gram)]
    _, _, full = np.linalg.svd(vectors)
    normal = full[len(vectors) :]
    inverse = np.linalg.inv(np.concatenate([vectors, normal]))
    found = []
    for rows in itertools.product(*choices):
        u = np.array(rows)
        if np.allclose(u @ gram @ u.T, gram, atol=1e-6 * gram.max()):
            for signs in itertools.product((1.0, -1.0), repeat=d - len(vectors)):
                mirrored = np.array(signs)[:, None] * normal
                found.append((inverse @ np.concatenate([u @ vectors, mirrored])).T)
    return found


def _centres(lattice: Lattice, rotations: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Candidate centres (C, d) and the rotations that fit, bool (rotations, C).

    A rotation fits if it maps the sites of the infinite lattice to sites.
    """
    vectors, d = lattice.vectors, lattice.basis.shape[1]
    grid = _SPATIAL_FRACTIONS if len(vectors) == 3 else _PLANAR_FRACTIONS
    steps = np.array(list(itertools.product(grid, repeat=len(vectors)))) @ vectors
    # An inversion exchanges two sites about their midpoint.
    middles = (lattice.basis[:, None] + lattice.basis).reshape(-1, d) / 2
    bases = np.concatenate([np.zeros((1, d)), middles])
    bases = np.unique(np.rint(bases * 1e9) / 1e9, axis=0)
    centres = (bases[:, None] + steps).reshape(-1, d)
    inverse = np.linalg.pinv(vectors)
    centres -= np.floor(centres @ inverse + 1e-6) @ vectors
    # Along open directions the centre of an isometry is the centre of mass.
    if len(lattice.periods) < d:
        along = lattice.periods
        project = np.linalg.pinv(along) @ along if len(along) else np.zeros((d, d))
        middle = lattice.positions.mean(axis=0)
        centres = (centres - middle) @ project + middle
    _, once = np.unique(np.rint(centres * 1e6), axis=0, return_index=True)
    centres = centres[np.sort(once)]
    allowed = np.ones((len(rotations), len(centres)), bool)
    for r, rotation in enumerate(rotations):
        image = (lattice.basis[None] - centres[:, None]) @ rotation.T + centres[:, None]
        delta = image[:, :, None] - lattice.basis
        cells = np.rint(delta @ inverse)
        error = np.linalg.norm(delta - cells @ lattice.vectors, axis=-1)
        allowed[r] = np.all(np.min(error, axis=2) < _TOLERANCE, axis=1)
    return centres, allowed


def _cosets(lattice: Lattice) -> np.ndarray:
    """Lattice displacements that are not translations of the features, (n, d)."""
    if not lattice.features:
        return np.zeros((1, lattice.vectors.shape[1]))
    cells = lattice.grid.cells()
    # Along open directions the centre is fixed.
    seen = np.any(cells[:, ~np.asarray(lattice.periodic, bool)] != 0, axis=1)
    kept = []
    group = lattice.translations[:, :: len(lattice.basis)] // len(lattice.basis)
    for c in range(len(cells)):
        if not seen[c]:
            kept.append(cells[c])
            seen[group[:, c]] = True
    return np.array(kept) @ lattice.vectors


def _permutation(
    lattice: Lattice, rotation: np.ndarray, centre: np.ndarray
) -> np.ndarray | None:
    """Where a rotation about a point moves each site, or None if outside."""
    image = (lattice.positions - centre) @ rotation.T + centre
    delta = image[:, None] - lattice.basis[None]
    cells = np.rint(delta @ np.linalg.pinv(lattice.vectors)).astype(np.int64)
    error = np.linalg.norm(delta - cells @ lattice.vectors, axis=-1)
    b = np.argmin(error, axis=1)
    rows = np.arange(len(b))
    if error[rows, b].max() > _TOLERANCE:
        return None
    sites = lattice.site(cells[rows, b], b)
    if sites.min() < 0 or len(np.unique(sites)) < len(sites):
        return None
    return sites.astype(np.int32)

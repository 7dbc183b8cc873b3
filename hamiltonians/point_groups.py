"""One-dimensional representations of point groups, by their usual (Mulliken) names.

A group comes as the orthogonal matrices of its operations, (n, d, d).  A character is
the factor that an operation multiplies the state by.  In the plane and on the line:

- A, A1: every operation gives +1.
- A2: rotations +1, reflections -1.  (B of a group without reflections: the smallest
  rotation -1.)
- B1, B2: the smallest rotation -1.  B1: +1 for the reflections about the line of
  smallest angle with the x axis (of C4v: those that keep an axis; of C2v: B1 turns as
  x does), -1 for the others; B2 the reverse.
- E1+, E1-, E2+, ... of groups without reflections: a rotation by t counterclockwise
  gives exp(-+ i l t), l the number in the name.  As a translation by r gives
  exp(-i k r), so + is a positive angular momentum.
- A single reflection (of a chain, say) has A1, even, and A2, odd.

In space the names are those of the proper rotations (of -1 times an improper one) in
the plane across the main axis, with g or u (even or odd under inversion) where the
inversion is there; two-fold groups with three axes have A, B1, B2, B3 for z, y, x.

Source: R. S. Mulliken, J. Chem. Phys. 23, 1997 (1955).
"""

from __future__ import annotations

import numpy as np

_CLOSE = 1e-6


def irreps(rotations: np.ndarray) -> dict[str, np.ndarray]:
    """The one-dimensional representations of a point group.

    Args:
        rotations: float (n, d, d), d = 1, 2 or 3, a group of different matrices.

    Returns:
        Name -> characters (n,), of modulus 1 and real where all of them are; the
        trivial one first.
    """
    rotations = np.asarray(rotations, float)
    if rotations.shape[1] < 3:
        return _planar(_in_the_plane(rotations))
    determinants = np.rint(np.linalg.det(rotations))
    proper = _proper(determinants[:, None, None] * rotations)
    if not any(np.allclose(r, -np.eye(3), atol=_CLOSE) for r in rotations):
        return proper
    even = {f"{name}g": chi for name, chi in proper.items()}
    return even | {f"{name}u": chi * determinants for name, chi in proper.items()}


def larger_irreps(rotations: np.ndarray) -> tuple[str, ...]:
    """First letters of the representations of dimension 2 ("E") and 3 ("T")."""
    if len(irreps(rotations)) == len(rotations):
        return ()
    return ("E", "T") if rotations.shape[1] == 3 and _cubic(rotations) else ("E",)


def group_name(rotations: np.ndarray) -> str:
    """Schoenflies name of a group in the plane; in space the number of operations."""
    if rotations.shape[1] == 3:
        return f"a point group of {len(rotations)} operations"
    proper = int(np.sum(np.linalg.det(_in_the_plane(rotations)) > 0))
    if proper == len(rotations):
        return f"C{proper}"
    return "Cs" if proper == 1 else f"C{proper}v"


def _in_the_plane(rotations: np.ndarray) -> np.ndarray:
    """Matrices of a line, or of nothing, as matrices of the plane."""
    planar = np.tile(np.eye(2), (len(rotations), 1, 1))
    d = rotations.shape[1]
    planar[:, :d, :d] = rotations
    return planar


def _planar(matrices: np.ndarray) -> dict[str, np.ndarray]:
    """See the module's docstring; matrices (n, 2, 2)."""
    proper = np.linalg.det(matrices) > 0
    n = _n_distinct(matrices[proper])
    # Angle of a rotation; of a reflection twice the angle of its line.
    angle = np.arctan2(matrices[:, 1, 0], matrices[:, 0, 0])
    steps = np.rint(angle * n / (2 * np.pi))
    ones = np.ones(len(matrices))
    if np.all(proper):
        return {"A": ones} | {
            _cyclic_name(m, n): _neat(np.exp(-2j * np.pi * m * steps / n))
            for m in sorted(range(1, n), key=lambda m: (min(m, n - m), m))
        }
    mirrored = np.where(proper, 1.0, -1.0)
    found = {"A1": ones, "A2": mirrored}
    if n % 2 == 0:
        line = np.mod(angle / 2 + _CLOSE, np.pi) - _CLOSE
        line = line - line[~proper].min()
        steps = np.where(proper, steps, np.rint(line * n / np.pi))
        first = 1.0 - 2.0 * np.mod(steps, 2)
        found |= {"B1": first, "B2": first * mirrored}
    return found


def _n_distinct(matrices: np.ndarray) -> int:
    """Number of different matrices; the inversion pairs some with themselves."""
    rows = np.round(matrices.reshape(len(matrices), -1), 6) + 0.0
    return len(np.unique(rows, axis=0))


def _cyclic_name(m: int, n: int) -> str:
    if 2 * m == n:
        return "B"
    return f"E{m}+" if 2 * m < n else f"E{n - m}-"


def _neat(characters: np.ndarray) -> np.ndarray:
    """Real where all are; exact -1, 0, 1."""
    near = np.rint(np.real(characters)) + 1j * np.rint(np.imag(characters))
    tidy = np.where(np.abs(characters - near) < _CLOSE, near, characters)
    return tidy if np.any(np.imag(tidy)) else np.real(tidy)


def _axes(matrices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Angles in [0, pi] and axes, (n,) and (n, 3), of proper rotations."""
    traces = np.trace(matrices, axis1=1, axis2=2)
    angles = np.arccos(np.clip((traces - 1) / 2, -1, 1))
    # R + R^T + (1 - Tr R) is a multiple of the projector on the axis.
    both = matrices + matrices.transpose(0, 2, 1)
    projectors = both + (1 - traces)[:, None, None] * np.eye(3)
    columns = np.argmax(np.linalg.norm(projectors, axis=1), axis=1)
    axes = np.take_along_axis(projectors, columns[:, None, None], axis=2)[..., 0]
    norms = np.linalg.norm(axes, axis=1)
    axes = axes / np.where(norms > _CLOSE, norms, 1)[:, None]
    # Towards positive z, else y, else x: what is counterclockwise depends on it.
    weights = np.where(np.abs(axes) > _CLOSE, np.sign(axes), 0) @ [1, 2, 4]
    return angles, np.where(weights < 0, -1, 1)[:, None] * axes


def _cubic(rotations: np.ndarray) -> bool:
    """Whether more than one axis has rotations by less than half a turn."""
    signs = np.rint(np.linalg.det(rotations))[:, None, None]
    angles, axes = _axes(signs * rotations)
    high = axes[(angles > _CLOSE) & (angles < np.pi - _CLOSE)]
    return len(high) > 0 and bool(np.any(np.abs(high @ high[0]) < 1 - _CLOSE))


def _proper(matrices: np.ndarray) -> dict[str, np.ndarray]:
    """Representations of a group of proper rotations (n, 3, 3)."""
    angles, axes = _axes(matrices)
    ones = np.ones(len(matrices))
    if _cubic(matrices):
        quarter = np.abs(angles - np.pi / 2) < _CLOSE
        if not quarter.any():
            return {"A": ones}  # tetrahedral; the others come in complex pairs
        squares = np.einsum("nij,njk->nik", matrices, matrices)
        gap = np.abs(matrices[:, None] - squares[None]).max(axis=(2, 3))
        return {"A1": ones, "A2": np.where(np.any(gap < _CLOSE, axis=1), 1.0, -1.0)}
    turning = np.flatnonzero(angles > _CLOSE)
    if len(turning) == 0:
        return {"A": ones}
    # The main axis: of the smallest angle, else nearest to z, then y.
    main = min(turning, key=lambda g: (round(angles[g], 6), *(-_size(axes[g])[::-1])))
    axis = axes[main]
    start = np.eye(3)[np.argmin(np.round(np.abs(axis), 6))]
    first = start - (start @ axis) * axis
    first = first / np.linalg.norm(first)
    plane = np.stack([first, np.cross(axis, first)])
    found = _planar(plane @ matrices @ plane.T)
    if set(found) == {"A1", "A2", "B1", "B2"} and _n_distinct(matrices) == 4:
        # Three equal axes: named after the one with +1.
        x_like = _size(plane[0])[0] > _size(plane[1])[0] - _CLOSE
        second, third = ("B2", "B1") if x_like else ("B1", "B2")
        names = {"A": "A1", "B1": "A2", "B2": second, "B3": third}
        return {name: found[old] for name, old in names.items()}
    return found


def _size(vector: np.ndarray) -> np.ndarray:
    return np.round(np.abs(vector), 6)

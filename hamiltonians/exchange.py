"""Terms of exchange S_i . S_j and its relatives on given bonds."""

from __future__ import annotations

import numpy as np

from hamiltonians.lattices import Bonds
from hamiltonians.operators import Operator
from hamiltonians.operators import spin as spin_operators

#: (coefficient, letters, sites)
Terms = list[tuple[float, str, tuple[int, ...]]]


def exchange(
    bonds: Bonds,
    jx: np.ndarray,
    jy: np.ndarray,
    jz: np.ndarray,
    phases: np.ndarray | None = None,
) -> Terms:
    """Terms of jx SxSx + jy SySy + jz SzSz, spin 1/2, with twisted S+ S-.

    Args:
        bonds: the bonds (i, j).
        jx: coupling of the x components, float (n_edges,).
        jy: of the y components.
        jz: of the z components.
        phases: angle of every bond, or None: S+_i S-_j gains exp(i phase), where
            jx = jy.
    """
    cosine = 1.0 if phases is None else np.cos(phases)
    rows = zip(
        (jx * cosine / 4).tolist(),
        (jy * cosine / 4).tolist(),
        (jz / 4).tolist(),
        bonds.sites.tolist(),
        strict=True,
    )
    terms: Terms = []
    for x, y, z, (i, j) in rows:
        terms += [(x, "XX", (i, j)), (y, "YY", (i, j)), (z, "ZZ", (i, j))]
    if phases is not None:
        # (e^{i phi} S+_i S-_j + h.c.) / 2 = cos phi (XX + YY) + sin phi (XY - YX).
        sine = (jx * np.sin(phases) / 4).tolist()
        for s, (i, j) in zip(sine, bonds.sites.tolist(), strict=True):
            terms += [(s, "XY", (i, j)), (-s, "YX", (i, j))]
    return terms


def tensor_terms(bonds: Bonds, tensors: np.ndarray, phases: np.ndarray | None) -> Terms:
    """Terms of sum_ab M_ab S_i^a S_j^b, spin 1/2, with S_j turned about z.

    Args:
        bonds: the bonds (i, j).
        tensors: M, float (n_edges, 3, 3).
        phases: angle of every bond, or None: S-_j gains exp(i phase).
    """
    if phases is not None:
        turn = np.zeros((len(phases), 3, 3))
        turn[:, 0, 0] = turn[:, 1, 1] = np.cos(phases)
        turn[:, 0, 1], turn[:, 1, 0] = np.sin(phases), -np.sin(phases)
        turn[:, 2, 2] = 1.0
        tensors = tensors @ turn
    pairs = zip(tensors.tolist(), bonds.sites.tolist(), strict=True)
    return [
        (c / 4, "XYZ"[a] + "XYZ"[b], (i, j))
        for tensor, (i, j) in pairs
        for a, row in enumerate(tensor)
        for b, c in enumerate(row)
        if c or a == b
    ]


def exchange_any_spin(
    bonds: Bonds,
    plane: np.ndarray,
    axis: np.ndarray,
    phases: np.ndarray | None,
    spin: float,
) -> Operator:
    """The operator plane (SxSx + SySy) + axis SzSz for spins of any length.

    Args:
        bonds: the bonds (i, j).
        plane: coupling of the x and y components, float (n_edges,).
        axis: coupling of the z components.
        phases: angle of every bond, or None: S+_i S-_j gains exp(i phase).
        spin: S of every site.
    """
    local = spin_operators(spin)
    turn = np.ones(len(plane)) if phases is None else np.exp(1j * phases)
    pieces = []
    for k, (i, j) in enumerate(bonds.sites.tolist()):
        hop = complex(plane[k] * turn[k] / 2)
        hop = hop if phases is not None else hop.real
        pieces.append(float(axis[k]) * local.Sz(i) @ local.Sz(j))
        pieces.append(hop * local.Sp(i) @ local.Sm(j))
        pieces.append(hop.conjugate() * local.Sm(i) @ local.Sp(j))
    return Operator.sum(pieces)

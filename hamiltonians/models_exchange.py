"""Models of exchange S_i . S_j and its relatives; S = sigma / 2 unless they say spin 1.

J > 0 is antiferromagnetic, and each bond counts once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hamiltonians.couplings import (
    Coupling,
    bond_phases,
    is_zero,
    number,
    per_bond,
    per_site,
    values,
)
from hamiltonians.lattices import Bonds, Lattice
from hamiltonians.operators import Operator
from hamiltonians.operators import spin as spin_operators
from vmc.errors import JobError

#: (coefficient, letters, sites)
Terms = list[tuple[float, str, tuple[int, ...]]]


def heisenberg(
    lattice: Lattice,
    J: Coupling = 1.0,
    h: Coupling = 0.0,
    spin: float = 0.5,
    twist: float | Sequence[float] = 0.0,
    disorder_seed: int | None = None,
) -> Operator:
    """H = J sum_<ij> S_i . S_j - h sum_i Sz_i, spin operators (sigma / 2).

    Heisenberg model; J > 0 is antiferromagnetic, each bond counts once.

    Args:
        lattice: any.
        J: exchange, per bond.
        h: field along z, per site.
        spin: S of every site.
        twist: angle around the periodic directions; the phase of S+ S- is spread
            evenly over the bonds, so H(twist) stays translation invariant.
        disorder_seed: for couplings given as a distribution.
    """
    return xxz(lattice, J, 1.0, h, spin, twist, disorder_seed)


def xxz(
    lattice: Lattice,
    J: Coupling = 1.0,
    delta: Coupling = 1.0,
    h: Coupling = 0.0,
    spin: float = 0.5,
    twist: float | Sequence[float] = 0.0,
    disorder_seed: int | None = None,
) -> Operator:
    """H = J sum_<ij> (Sx Sx + Sy Sy + delta Sz Sz) - h sum_i Sz_i, spin operators.

    XXZ model; each bond counts once.

    Args:
        lattice: any.
        J: exchange, per bond.
        delta: anisotropy, per bond.
        h: field along z, per site.
        spin: S of every site.
        twist: see `heisenberg`.
        disorder_seed: for couplings given as a distribution.
    """
    bonds = lattice.bonds(1)
    plane = per_bond(lattice, "J", J, 1, disorder_seed)
    axis = plane * per_bond(lattice, "delta", delta, 1, disorder_seed)
    phases = bond_phases(lattice, bonds, twist)
    if spin != 0.5:
        exchange = _exchange_any_spin(bonds, plane, axis, phases, spin)
    else:
        exchange = Operator.from_terms(_exchange(bonds, plane, plane, axis, phases))
    if is_zero(h):
        return exchange
    field = per_site(lattice, "h", h, disorder_seed)
    up = spin_operators(spin).Sz
    return Operator.sum([exchange] + [-c * up(i) for i, c in enumerate(field.tolist())])


def xyz(
    lattice: Lattice,
    Jx: Coupling = 1.0,
    Jy: Coupling = 1.0,
    Jz: Coupling = 1.0,
    hx: Coupling = 0.0,
    hz: Coupling = 0.0,
    twist: float | Sequence[float] = 0.0,
    disorder_seed: int | None = None,
) -> Operator:
    """H = sum_<ij> (Jx Sx Sx + Jy Sy Sy + Jz Sz Sz) - sum_i (hx Sx + hz Sz), S = 1/2.

    XYZ model (spin operators, sigma / 2); each bond counts once.

    Args:
        lattice: any.
        Jx: exchange of the x components, per bond.
        Jy: exchange of the y components, per bond.
        Jz: exchange of the z components, per bond.
        hx: field along x, per site.
        hz: field along z, per site.
        twist: angle of the rotation about z that the spins undergo around the
            periodic directions; it sits on the bonds that cross the boundary.
        disorder_seed: for couplings given as a distribution.
    """
    bonds = lattice.bonds(1)
    each = [
        per_bond(lattice, name, value, 1, disorder_seed)
        for name, value in (("Jx", Jx), ("Jy", Jy), ("Jz", Jz))
    ]
    zero = np.zeros(len(bonds.sites))
    tensors = np.array([[each[0], zero, zero], [zero, each[1], zero]])
    tensors = np.concatenate([tensors, [[zero, zero, each[2]]]])
    phases = bond_phases(lattice, bonds, twist, spread=False)
    terms = _tensor_terms(bonds, np.moveaxis(tensors, 2, 0), phases)
    for name, value, letter in (("hx", hx, "X"), ("hz", hz, "Z")):
        if not is_zero(value):
            field = per_site(lattice, name, value, disorder_seed)
            terms += [(-c / 2, letter, (i,)) for i, c in enumerate(field.tolist())]
    return Operator.from_terms(terms)


def xy(
    lattice: Lattice,
    J: Coupling = 1.0,
    h: Coupling = 0.0,
    spin: float = 0.5,
    twist: float | Sequence[float] = 0.0,
    disorder_seed: int | None = None,
) -> Operator:
    """H = J sum_<ij> (Sx Sx + Sy Sy) - h sum_i Sz_i, spin operators (sigma / 2).

    XY model (XX chain); arguments as in `xxz` with delta = 0.
    """
    return xxz(lattice, J, 0.0, h, spin, twist, disorder_seed)


def j1j2(
    lattice: Lattice,
    J1: Coupling = 1.0,
    J2: Coupling = 0.5,
    twist: float | Sequence[float] = 0.0,
    disorder_seed: int | None = None,
) -> Operator:
    """H = J1 sum_<ij> S_i . S_j + J2 sum_<<ij>> S_i . S_j, spin operators (sigma / 2).

    First and second neighbours by distance, ``lattice.edges(1)`` and ``edges(2)``;
    on a torus so small that a pair is joined twice it still counts once.

    Args:
        lattice: any.
        J1: exchange of first neighbours, per bond.
        J2: exchange of second neighbours, per bond.
        twist: see `heisenberg`.
        disorder_seed: for couplings given as a distribution.
    """
    shells = (("J1", J1), ("J2", J2))
    return _shells(lattice, shells, twist, disorder_seed)


def j1j2j3(
    lattice: Lattice,
    J1: Coupling = 1.0,
    J2: Coupling = 0.5,
    J3: Coupling = 0.5,
    twist: float | Sequence[float] = 0.0,
    disorder_seed: int | None = None,
) -> Operator:
    """H = sum over shells n = 1, 2, 3 of Jn sum_n S_i . S_j, spin operators.

    Shells by distance, each pair once; arguments as in `j1j2`.
    """
    shells = (("J1", J1), ("J2", J2), ("J3", J3))
    return _shells(lattice, shells, twist, disorder_seed)


def dm(
    lattice: Lattice,
    J: Coupling = 1.0,
    D: Any = 0.1,
    twist: float | Sequence[float] = 0.0,
    disorder_seed: int | None = None,
) -> Operator:
    """H = J sum_<ij> S_i . S_j + sum_<ij> D . (S_i x S_j), spin operators (sigma / 2).

    Heisenberg model with Dzyaloshinskii-Moriya interaction.  Bonds are directed as
    the rows (i, j) of ``lattice.edges()``: along the lattice vectors.

    Args:
        lattice: any.
        J: exchange, per bond.
        D: a number or distribution (along z), a vector of 3, or an array
            (n_edges, 3).
        twist: angle of the rotation about z around the periodic directions: spread
            evenly over the bonds where all D are along z, else on the bonds that
            cross the boundary.
        disorder_seed: for couplings given as a distribution.
    """
    bonds = lattice.bonds(1)
    plain = per_bond(lattice, "J", J, 1, disorder_seed)
    if isinstance(D, Mapping):
        along_z = per_bond(lattice, "D", D, 1, disorder_seed)
        vectors = np.stack([0 * along_z, 0 * along_z, along_z], axis=1)
    else:
        vectors = _dm_vectors(D, len(bonds.sites))
    # D . (S_i x S_j) = sum_ab (sum_c eps_cab D_c) S_i^a S_j^b
    x, y, z = vectors.T
    zero = np.zeros(len(vectors))
    crosses = np.array([[zero, z, -y], [-z, zero, x], [y, -x, zero]])
    tensors = plain[:, None, None] * np.eye(3)[None] + np.moveaxis(crosses, 2, 0)
    spread = not np.any(vectors[:, :2])
    phases = bond_phases(lattice, bonds, twist, spread=spread)
    return Operator.from_terms(_tensor_terms(bonds, tensors, phases))


def majumdar_ghosh(lattice: Lattice, J: float = 1.0) -> Operator:
    """H = J sum_i (S_i . S_{i+1} + S_i . S_{i+2} / 2), spin operators (sigma / 2).

    The J1-J2 chain at J2 = J1 / 2, with dimer ground states of energy -3 J N / 8.

    Args:
        lattice: a chain; periodic from 6 sites on (below, a second neighbour would
            be reached in two ways).
        J: exchange.
    """
    ring = lattice.chain_kind() == "ring"
    if lattice.chain_kind() is None or (ring and lattice.n_sites < 6):
        raise JobError(
            f"majumdar_ghosh needs a chain, periodic from 6 sites on, not {lattice!r}"
        )
    strength = number("J", J)
    return j1j2(lattice, J1=strength, J2=strength / 2)


def haldane_shastry(lattice: Lattice, J: float = 1.0) -> Operator:
    """H = J sum_{i<j} (pi/N)^2 / sin^2(pi (i-j)/N) S_i . S_j, spin operators.

    Ring with inverse-square exchange of the chord distance (sigma / 2).

    Args:
        lattice: a periodic chain of at least 3 sites.
        J: exchange.
    """
    if lattice.chain_kind() != "ring":
        raise JobError(f"haldane_shastry needs a periodic chain, not {lattice!r}")
    n = lattice.n_sites
    pairs = np.argwhere(np.triu(np.ones((n, n), bool), 1))
    chord = np.sin(np.pi * (pairs[:, 1] - pairs[:, 0]) / n)
    strength = number("J", J) * (np.pi / n / chord) ** 2
    bonds = Bonds(pairs, np.zeros((len(pairs), 1)), np.zeros(0), False)
    return Operator.from_terms(_exchange(bonds, strength, strength, strength))


def shastry_sutherland(
    lattice: Lattice,
    J: Coupling = 1.0,
    Jprime: Coupling = 1.0,
    disorder_seed: int | None = None,
) -> Operator:
    """H = J sum_<ij> S_i . S_j + Jprime sum_dimers S_i . S_j, spin operators.

    Square lattice with orthogonal dimers (sigma / 2); the product of dimer singlets
    is the ground state for J / Jprime below about 0.675.

    Args:
        lattice: of the family ``shastry_sutherland``.
        J: exchange of the square lattice, per bond.
        Jprime: exchange of the dimers, or one per dimer.
        disorder_seed: for couplings given as a distribution.
    """
    if "dimers" not in lattice.features:
        raise JobError(
            f"{lattice!r} has no dimers; the model shastry_sutherland needs "
            'the lattice name = "shastry_sutherland"'
        )
    square = per_bond(lattice, "J", J, 1, disorder_seed)
    terms = _exchange(lattice.bonds(1), square, square, square)
    pairs = np.array(lattice.features["dimers"], np.int64).reshape(-1, 2)
    dimers = Bonds(pairs, np.zeros((len(pairs), 2)), np.zeros(0), False)
    strength = values("Jprime", Jprime, len(pairs), "dimers", disorder_seed)
    return Operator.from_terms(terms + _exchange(dimers, strength, strength, strength))


def scalar_chirality(
    lattice: Lattice,
    J: Coupling = 1.0,
    J_chi: Coupling = 0.5,
    disorder_seed: int | None = None,
) -> Operator:
    """H = J sum_<ij> S_i . S_j + J_chi sum_triangles S_i . (S_j x S_k), S = sigma / 2.

    Triangles (i, j, k) run counterclockwise, each once.

    Args:
        lattice: a lattice with triangles in the plane.
        J: exchange, per bond.
        J_chi: chirality of every triangle, or one per row of ``lattice.triangles``.
        disorder_seed: for couplings given as a distribution.
    """
    if len(lattice.triangles) == 0:
        raise JobError(
            f"{lattice!r} has no triangles; scalar_chirality needs for example the "
            "triangular or kagome lattice"
        )
    plain = per_bond(lattice, "J", J, 1, disorder_seed)
    n_triangles = len(lattice.triangles)
    each = values("J_chi", J_chi, n_triangles, "triangles", disorder_seed)
    terms = _exchange(lattice.bonds(1), plain, plain, plain)
    signs = (("XYZ", 1), ("YZX", 1), ("ZXY", 1), ("XZY", -1), ("ZYX", -1), ("YXZ", -1))
    for c, (i, j, k) in zip(each.tolist(), lattice.triangles.tolist(), strict=True):
        terms += [(sign * c / 8, letters, (i, j, k)) for letters, sign in signs]
    return Operator.from_terms(terms)


def _shells(
    lattice: Lattice,
    couplings: Sequence[tuple[str, Coupling]],
    twist: Any,
    seed: int | None,
) -> Operator:
    """Isotropic exchange on several shells; a coupling of 0 needs no such shell."""
    terms: Terms = []
    for n, (name, value) in enumerate(couplings, start=1):
        if not is_zero(value):
            bonds = lattice.bonds(n)
            strength = per_bond(lattice, name, value, n, seed)
            phases = bond_phases(lattice, bonds, twist)
            terms += _exchange(bonds, strength, strength, strength, phases)
    return Operator.from_terms(terms)


def _exchange(
    bonds: Bonds,
    jx: np.ndarray,
    jy: np.ndarray,
    jz: np.ndarray,
    phases: np.ndarray | None = None,
) -> Terms:
    """Terms of jx SxSx + jy SySy + jz SzSz, spin 1/2, with twisted S+ S-."""
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


def _tensor_terms(
    bonds: Bonds, tensors: np.ndarray, phases: np.ndarray | None
) -> Terms:
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


def _exchange_any_spin(
    bonds: Bonds,
    plane: np.ndarray,
    axis: np.ndarray,
    phases: np.ndarray | None,
    spin: float,
) -> Operator:
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


def _dm_vectors(D: Any, n_edges: int) -> np.ndarray:
    """One vector per bond, float (n_edges, 3)."""
    try:
        given = np.array(D, float)
    except (TypeError, ValueError):
        given = np.full(1, np.nan)
    if given.shape not in ((), (3,), (n_edges, 3)) or not np.all(np.isfinite(given)):
        raise JobError(
            f"D = {D!r} must be a number (along z), a vector [Dx, Dy, Dz], or one such "
            f"vector for each of the {n_edges} bonds"
        )
    if given.ndim == 0:
        given = np.array([0.0, 0.0, float(given)])
    return np.broadcast_to(given, (n_edges, 3))

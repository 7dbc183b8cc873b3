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
    per_bond,
    per_site,
)
from hamiltonians.exchange import exchange, exchange_any_spin, tensor_terms
from hamiltonians.lattices import Lattice
from hamiltonians.operators import Operator
from hamiltonians.operators import spin as spin_operators
from vmc.errors import JobError


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
    local = spin_operators(spin)
    if local.dim != 2:
        coupled = exchange_any_spin(bonds, plane, axis, phases, spin)
    else:
        coupled = Operator.from_terms(exchange(bonds, plane, plane, axis, phases))
    pieces = [local.zero(lattice.n_sites), coupled]
    if not is_zero(h):
        field = per_site(lattice, "h", h, disorder_seed)
        pieces += [-c * local.Sz(i) for i, c in enumerate(field.tolist())]
    return Operator.sum(pieces)


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
    terms = tensor_terms(bonds, np.moveaxis(tensors, 2, 0), phases)
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
    return Operator.from_terms(tensor_terms(bonds, tensors, phases))


def _dm_vectors(D: Any, n_edges: int) -> np.ndarray:
    """One vector per bond, float (n_edges, 3)."""
    try:
        given = np.array(D)
    except ValueError:  # rows of unequal length
        given = np.array(None)
    given = given.astype(float) if given.dtype.kind in "iuf" else np.full(1, np.nan)
    if given.shape not in ((), (3,), (n_edges, 3)) or not np.all(np.isfinite(given)):
        raise JobError(
            f"D = {D!r} must be a number (along z), a vector [Dx, Dy, Dz], or one such "
            f"vector for each of the {n_edges} bonds"
        )
    if given.ndim == 0:
        given = np.array([0.0, 0.0, float(given)])
    return np.broadcast_to(given, (n_edges, 3))

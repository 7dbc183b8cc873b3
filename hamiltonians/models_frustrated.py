"""Models of frustrated exchange: further neighbours, dimers, chirality.

S = sigma / 2; J > 0 is antiferromagnetic, and each bond counts once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hamiltonians.couplings import (
    Coupling,
    bond_phases,
    is_zero,
    per_bond,
    per_site,
    values,
)
from hamiltonians.exchange import Terms, exchange
from hamiltonians.lattices import Bonds, Lattice
from hamiltonians.operators import Operator
from vmc.errors import JobError


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


def majumdar_ghosh(
    lattice: Lattice, J: Coupling = 1.0, disorder_seed: int | None = None
) -> Operator:
    """H = sum_i J_i (S_i . S_{i+1} + S_i . S_{i+2} / 2), spin operators (sigma / 2).

    The J1-J2 chain at J2 = J1 / 2, with dimer ground states of energy -3 J N / 8
    where J is uniform.

    Args:
        lattice: a chain; periodic from 6 sites on (below, a second neighbour would
            be reached in two ways).
        J: exchange, or J_i for every site i: of its bonds to the next two sites.
        disorder_seed: for couplings given as a distribution.
    """
    n, ring = lattice.n_sites, lattice.chain_kind() == "ring"
    if lattice.chain_kind() is None or (ring and n < 6):
        raise JobError(
            f"majumdar_ghosh needs a chain, periodic from 6 sites on, not {lattice!r}"
        )
    strength = per_site(lattice, "J", J, disorder_seed)
    shells = []
    for step in (1, 2):
        first, second = lattice.edges(step).T
        from_site = np.where((second - first) % n == step, first, second)
        shells.append(strength[from_site] / step)
    return j1j2(lattice, J1=shells[0], J2=shells[1])


def haldane_shastry(
    lattice: Lattice, J: Coupling = 1.0, disorder_seed: int | None = None
) -> Operator:
    """H = sum_{i<j} J_ij (pi/N)^2 / sin^2(pi (i-j)/N) S_i . S_j, spin operators.

    Ring with inverse-square exchange of the chord distance (sigma / 2).

    Args:
        lattice: a periodic chain of at least 3 sites.
        J: exchange; or one per pair of sites, ordered (0, 1), (0, 2), ...,
            (N-2, N-1).
        disorder_seed: for couplings given as a distribution.
    """
    if lattice.chain_kind() != "ring":
        raise JobError(f"haldane_shastry needs a periodic chain, not {lattice!r}")
    n = lattice.n_sites
    pairs = np.argwhere(np.triu(np.ones((n, n), bool), 1))
    chord = np.sin(np.pi * (pairs[:, 1] - pairs[:, 0]) / n)
    each = values("J", J, len(pairs), "pairs of sites", disorder_seed)
    strength = each * (np.pi / n / chord) ** 2
    bonds = Bonds(pairs, np.zeros((len(pairs), 1)), np.zeros(0), False)
    return Operator.from_terms(exchange(bonds, strength, strength, strength))


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
    terms = exchange(lattice.bonds(1), square, square, square)
    pairs = np.array(lattice.features["dimers"], np.int64).reshape(-1, 2)
    dimers = Bonds(pairs, np.zeros((len(pairs), 2)), np.zeros(0), False)
    strength = values("Jprime", Jprime, len(pairs), "dimers", disorder_seed)
    return Operator.from_terms(terms + exchange(dimers, strength, strength, strength))


def scalar_chirality(
    lattice: Lattice,
    J: Coupling = 1.0,
    J_chi: Coupling = 0.5,
    disorder_seed: int | None = None,
) -> Operator:
    """H = J sum_<ij> S_i . S_j + J_chi sum_triangles S_i . (S_j x S_k), S = sigma / 2.

    Triangles (i, j, k) run counterclockwise, each once.

    Args:
        lattice: a lattice with triangles in the plane; those of a graph run through
            its sites in increasing order.
        J: exchange, per bond.
        J_chi: chirality of every triangle, or one per row of ``lattice.triangles``.
        disorder_seed: for couplings given as a distribution.
    """
    if lattice.positions.shape[1] == 3:
        raise JobError(
            f"{lattice!r} lies in three dimensions, where a triangle has no "
            "counterclockwise sense; scalar_chirality needs a planar lattice, for "
            "example the triangular or kagome lattice"
        )
    if len(lattice.triangles) == 0:
        raise JobError(
            f"{lattice!r} has no triangles; scalar_chirality needs for example the "
            "triangular or kagome lattice"
        )
    plain = per_bond(lattice, "J", J, 1, disorder_seed)
    n_triangles = len(lattice.triangles)
    each = values("J_chi", J_chi, n_triangles, "triangles", disorder_seed)
    terms = exchange(lattice.bonds(1), plain, plain, plain)
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
            terms += exchange(bonds, strength, strength, strength, phases)
    return Operator.from_terms(terms)

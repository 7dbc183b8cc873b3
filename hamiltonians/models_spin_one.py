"""Models of spins 1."""

from __future__ import annotations

from hamiltonians.couplings import Coupling, per_bond, per_site
from hamiltonians.lattices import Lattice
from hamiltonians.operators import Operator, SpinOperators, spin


def aklt(
    lattice: Lattice, J: Coupling = 1.0, disorder_seed: int | None = None
) -> Operator:
    """H = J sum_<ij> [S_i . S_j + (S_i . S_j)^2 / 3], spin 1.

    Affleck-Kennedy-Lieb-Tasaki model (Phys. Rev. Lett. 59, 799): on a chain every
    bond of the ground state has energy -2 J / 3, also where the J differ.

    Args:
        lattice: any; the exact ground state holds for chains.
        J: strength, per bond.
        disorder_seed: for couplings given as a distribution.
    """
    strength = per_bond(lattice, "J", J, 1, disorder_seed)
    return bilinear_biquadratic(lattice, strength, strength / 3)


def bilinear_biquadratic(
    lattice: Lattice,
    J: Coupling = 1.0,
    Q: Coupling = 0.0,
    disorder_seed: int | None = None,
) -> Operator:
    """H = sum_<ij> [J S_i . S_j + Q (S_i . S_j)^2], spin 1.

    Args:
        lattice: any.
        J: bilinear coupling, per bond.
        Q: biquadratic coupling, per bond.
        disorder_seed: for couplings given as a distribution.
    """
    linear = per_bond(lattice, "J", J, 1, disorder_seed).tolist()
    square = per_bond(lattice, "Q", Q, 1, disorder_seed).tolist()
    one = spin(1)
    pieces = [one.zero(lattice.n_sites)]
    for a, b, (i, j) in zip(linear, square, lattice.edges(1).tolist(), strict=True):
        dot = _dot(one, i, j)
        pieces.append(a * dot + b * dot @ dot)
    return Operator.sum(pieces)


def blume_capel(
    lattice: Lattice,
    J: Coupling = 1.0,
    D: Coupling = 0.0,
    h: Coupling = 1.0,
    disorder_seed: int | None = None,
) -> Operator:
    """H = -J sum_<ij> Sz_i Sz_j + D sum_i Sz_i^2 - h sum_i Sx_i, spin 1.

    Blume-Capel model in a transverse field; J > 0 is ferromagnetic.

    Args:
        lattice: any.
        J: coupling, per bond.
        D: crystal field, per site.
        h: transverse field, per site.
        disorder_seed: for couplings given as a distribution.
    """
    one = spin(1)
    bond = per_bond(lattice, "J", J, 1, disorder_seed)
    crystal = per_site(lattice, "D", D, disorder_seed)
    field = per_site(lattice, "h", h, disorder_seed)
    up = [one.Sz(i) for i in range(lattice.n_sites)]
    pieces = [
        -float(c) * up[i] @ up[j]
        for c, (i, j) in zip(bond, lattice.edges(1), strict=True)
    ]
    for i in range(lattice.n_sites):
        pieces.append(float(crystal[i]) * up[i] @ up[i])
        pieces.append(-float(field[i]) * one.Sx(i))
    return Operator.sum(pieces)


def _dot(local: SpinOperators, i: int, j: int) -> Operator:
    flips = 0.5 * (local.Sp(i) @ local.Sm(j) + local.Sm(i) @ local.Sp(j))
    return local.Sz(i) @ local.Sz(j) + flips

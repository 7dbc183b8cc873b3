"""Models whose interactions are diagonal: transverse Ising, glasses, Rydberg atoms."""

from __future__ import annotations

import itertools

import numpy as np

from hamiltonians.couplings import (
    Coupling,
    is_zero,
    number,
    per_bond,
    per_site,
    random_stream,
    values,
)
from hamiltonians.lattices import Lattice
from hamiltonians.operators import Operator
from hamiltonians.scalars import real_number
from vmc.errors import JobError

#: (coefficient, letters, sites)
Terms = list[tuple[float, str, tuple[int, ...]]]


def tfim(
    lattice: Lattice,
    J: Coupling = 1.0,
    h: Coupling = 1.0,
    hz: Coupling = 0.0,
    disorder_seed: int | None = None,
) -> Operator:
    """H = -J sum_<ij> sz_i sz_j - h sum_i sx_i - hz sum_i sz_i, Pauli matrices.

    Transverse-field Ising model; J > 0 is ferromagnetic, each bond counts once.

    Args:
        lattice: any.
        J: coupling, per bond.
        h: transverse field, per site.
        hz: longitudinal field, per site.
        disorder_seed: for couplings given as a distribution.
    """
    return Operator.from_terms(
        _bonds(lattice.edges(1), -per_bond(lattice, "J", J, 1, disorder_seed))
        + _field(lattice, "h", h, "X", disorder_seed)
        + _field(lattice, "hz", hz, "Z", disorder_seed)
    )


def tfim_long_range(
    lattice: Lattice,
    J: Coupling = 1.0,
    alpha: float = 3.0,
    h: Coupling = 1.0,
    disorder_seed: int | None = None,
) -> Operator:
    """H = -sum_{i<j} J_ij r_ij^-alpha sz_i sz_j - h sum_i sx_i, Pauli matrices.

    Every pair interacts at its shortest distance (around the torus).

    Args:
        lattice: any with positions.
        J: strength at distance 1; J > 0 is ferromagnetic; or one per pair of sites,
            ordered (0, 1), (0, 2), ..., (N-2, N-1).
        alpha: power of the decay; 0 is the infinite-range model.
        h: transverse field, per site.
        disorder_seed: for couplings given as a distribution.
    """
    pairs, distance = _all_pairs(lattice)
    each = values("J", J, len(pairs), "pairs of sites", disorder_seed)
    strength = -each * distance ** -number("alpha", alpha)
    field = _field(lattice, "h", h, "X", disorder_seed)
    return Operator.from_terms(_bonds(pairs, strength) + field)


def sk_glass(
    lattice: Lattice,
    J: Coupling = 1.0,
    h: Coupling = 1.0,
    disorder_seed: int | None = None,
) -> Operator:
    """H = -sum_{i<j} J_ij sz_i sz_j - h sum_i sx_i, Pauli, J_ij ~ N(0, J^2 / N).

    Sherrington-Kirkpatrick spin glass in a transverse field; every pair of sites
    interacts, whatever the bonds of the lattice (``name = "complete"`` fits).

    Args:
        lattice: only its number of sites matters.
        J: scale of the random couplings; or a list of all J_ij themselves, ordered
            (0, 1), (0, 2), ..., (N-2, N-1).
        h: transverse field, per site.
        disorder_seed: draws the couplings.
    """
    n = lattice.n_sites
    pairs = np.argwhere(np.triu(np.ones((n, n), bool), 1))
    if real_number(J) is not None:
        scale = number("J", J) / np.sqrt(n)
        strength = scale * random_stream("J", disorder_seed).normal(size=len(pairs))
    else:
        strength = values("J", J, len(pairs), "pairs of sites", disorder_seed)
    field = _field(lattice, "h", h, "X", disorder_seed)
    return Operator.from_terms(_bonds(pairs, -strength) + field)


def ea_glass(
    lattice: Lattice,
    J: Coupling = 1.0,
    h: Coupling = 1.0,
    distribution: str = "binary",
    disorder_seed: int | None = None,
) -> Operator:
    """H = -sum_<ij> J_ij sz_i sz_j - h sum_i sx_i, Pauli, J_ij = +-J or N(0, J^2).

    Edwards-Anderson spin glass in a transverse field.

    Args:
        lattice: any; its nearest-neighbour bonds interact.
        J: scale of the random couplings; or a list of the J_ij, one per bond.
        h: transverse field, per site.
        distribution: "binary" (J_ij = J or -J, even odds) or "normal".
        disorder_seed: draws the couplings.
    """
    if real_number(J) is not None:
        scale = number("J", J)
        table = {
            "binary": {"distribution": "choice", "values": [-scale, scale]},
            "normal": {"distribution": "normal", "std": abs(scale)},
        }
        if distribution not in table:
            raise JobError(
                f"distribution = {distribution!r}; expected {' or '.join(table)}"
            )
        J = table[distribution]
    return tfim(lattice, J=J, h=h, disorder_seed=disorder_seed)


def rydberg(
    lattice: Lattice,
    Omega: Coupling = 1.0,
    delta: Coupling = 1.0,
    V: Coupling = 1.0,
    power: float = 6.0,
    disorder_seed: int | None = None,
) -> Operator:
    """H = Omega/2 sum sx - delta sum n + V sum_{i<j} n_i n_j / r_ij^6, Pauli matrices.

    Rydberg atoms with van-der-Waals repulsion between all pairs; n = (1 - sz)/2, so
    the excited state is spin down.  The energy includes the constant.

    Args:
        lattice: any with positions; r_ij in nearest-neighbour distances, the shortest
            around the torus.
        Omega: Rabi frequency, per site.
        delta: detuning, per site.
        V: repulsion at distance 1, (R_b / a)^6 Omega; or one per pair of sites,
            ordered (0, 1), (0, 2), ..., (N-2, N-1).
        power: of the decay.
        disorder_seed: for couplings given as a distribution.
    """
    rabi = per_site(lattice, "Omega", Omega, disorder_seed)
    detuning = per_site(lattice, "delta", delta, disorder_seed)
    pairs, distance = _all_pairs(lattice)
    each = values("V", V, len(pairs), "pairs of sites", disorder_seed)
    strength = each * distance ** -number("power", power)
    # n_i n_j = (1 - z_i - z_j + z_i z_j) / 4
    load = np.bincount(
        pairs.reshape(-1), weights=np.repeat(strength, 2), minlength=lattice.n_sites
    )
    constant = strength.sum() / 4 - detuning.sum() / 2
    sites = range(lattice.n_sites)
    return Operator.from_terms(
        [(float(rabi[i]) / 2, "X", (i,)) for i in sites]
        + [(float(detuning[i] / 2 - load[i] / 4), "Z", (i,)) for i in sites]
        + _bonds(pairs, strength / 4)
        + [(float(constant), "", ())]
    )


def pxp(
    lattice: Lattice,
    Omega: Coupling = 1.0,
    penalty: Coupling = 0.0,
    disorder_seed: int | None = None,
) -> Operator:
    """H = Omega sum_i sx_i prod_{j next to i} P_j + penalty sum_<ij> n_i n_j, Pauli.

    P = (1 + sz)/2 and n = 1 - P: an atom flips only while all its neighbours are in
    the ground state (spin up).  H never leaves the constrained space without excited
    neighbours, where the penalty vanishes.  The unconstrained space holds other,
    disconnected sectors: a positive penalty lifts them, so that a sampler of all
    configurations finds the constrained ground state too.  ``compile_operator`` with
    ``blockade = lattice.edges(1)`` works in the constrained space itself.

    Args:
        lattice: any of coordination up to 6.
        Omega: flip amplitude, per site.
        penalty: energy of a pair of excited neighbours, per bond.
        disorder_seed: for couplings given as a distribution.
    """
    flip = per_site(lattice, "Omega", Omega, disorder_seed)
    if lattice.coordination.max(initial=0) > 6:
        raise JobError(f"{lattice!r} has sites with more than 6 neighbours for pxp")
    terms: Terms = []
    for i, near in enumerate(lattice.neighbors):
        value = float(flip[i]) / 2 ** len(near)
        for k in range(len(near) + 1):
            for chosen in itertools.combinations(near, k):
                terms.append((value, "X" + "Z" * k, (i, *chosen)))
    if not is_zero(penalty):
        costs = per_bond(lattice, "penalty", penalty, 1, disorder_seed) / 4
        for c, (i, j) in zip(costs.tolist(), lattice.edges(1).tolist(), strict=True):
            terms += [(c, "ZZ", (i, j)), (-c, "Z", (i,)), (-c, "Z", (j,)), (c, "", ())]
    return Operator.from_terms(terms)


def _bonds(pairs: np.ndarray, strength: np.ndarray) -> Terms:
    return [
        (c, "ZZ", (i, j))
        for c, (i, j) in zip(strength.tolist(), pairs.tolist(), strict=True)
    ]


def _field(
    lattice: Lattice, name: str, value: Coupling, letter: str, seed: int | None
) -> Terms:
    """The terms -value * letter on every site; none for a plain 0."""
    if is_zero(value):
        return []
    each = per_site(lattice, name, value, seed)
    return [(-c, letter, (i,)) for i, c in enumerate(each.tolist())]


def _all_pairs(lattice: Lattice) -> tuple[np.ndarray, np.ndarray]:
    """Pairs i < j, int (n, 2), and their distances, float (n,)."""
    n = lattice.n_sites
    pairs = np.argwhere(np.triu(np.ones((n, n), bool), 1))
    distance = lattice.distances[pairs[:, 0], pairs[:, 1]]
    if np.any(distance <= 0):
        raise JobError(
            f"{lattice!r} has sites that no path joins; an interaction that decays "
            "with distance needs positions"
        )
    return pairs, distance

"""Closed-form ground energies, each with the sector in which it holds."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np

from hamiltonians import bethe
from hamiltonians.couplings import is_zero, number, per_bond, per_site, values
from hamiltonians.lattices import Lattice
from hamiltonians.scalars import real_number
from vmc.errors import JobError

#: (energy, where it comes from and in which sector it holds)
Answer: TypeAlias = tuple[float, str] | None


def tfim_chain_energy(
    n: int,
    J: float | np.ndarray = 1.0,
    h: float | np.ndarray = 1.0,
    periodic: bool = True,
    parity: int | None = None,
) -> float:
    """Lowest energy of -sum J_i sz_i sz_{i+1} - sum h_i sx_i on a chain, any signs.

    Free fermions (Lieb, Schultz, Mattis 1961; Pfeuty 1970).  Without ``parity`` the
    ground energy over both sectors of P = prod_i sx_i; for J, h > 0 the ground state
    has P = +1.

    Args:
        n: sites, at least 3 if periodic.
        J: one number, or one per bond (0, 1), (1, 2), ..., (n - 1, 0).
        h: one number, or one per site.
        periodic: whether the bond (n - 1, 0) exists.
        parity: +1 or -1 restricts to that sector.

    Raises:
        JobError: wrong lengths, or a ring of fewer than 3 sites.
    """
    if n < 1 or (periodic and n < 3):
        raise JobError(f"a {'ring' if periodic else 'chain'} of {n} sites is too short")
    if parity not in (None, 1, -1):
        raise JobError(f"parity = {parity!r} must be 1, -1 or None")
    bonds = _each("J", J, n if periodic else n - 1)
    fields = _each("h", h, n)
    energies = []
    for p in (1, -1) if parity is None else (parity,):
        matrix = np.diag(fields) - np.diag(bonds[: n - 1], 1)
        if periodic:
            matrix[n - 1, 0] = p * bonds[n - 1]
        single = np.linalg.svd(matrix, compute_uv=False)
        energy = -single.sum()
        # The vacuum has the parity sign(det); the other one costs a quasi-particle.
        if np.linalg.slogdet(matrix)[0] != p:
            energy += 2 * single.min()
        energies.append(energy)
    return float(min(energies))


def xy_chain_energy(
    n: int,
    J: float | np.ndarray = 1.0,
    periodic: bool = True,
    total_sz: float | None = 0.0,
) -> float:
    """Lowest energy of sum J_i (Sx Sx + Sy Sy) on a chain, spin operators, any signs.

    Free fermions, in the sector of fixed total Sz (None: the lowest of all).

    Args:
        n: sites, at least 3 if periodic.
        J: one number, or one per bond (0, 1), (1, 2), ..., (n - 1, 0).
        periodic: whether the bond (n - 1, 0) exists.
        total_sz: sum of m_i.

    Raises:
        JobError: wrong lengths, a ring of fewer than 3 sites, an impossible sector.
    """
    if n < 1 or (periodic and n < 3):
        raise JobError(f"a {'ring' if periodic else 'chain'} of {n} sites is too short")
    bonds = _each("J", J, n if periodic else n - 1)
    if total_sz is not None and (
        abs(total_sz) > n / 2 or (total_sz + n / 2) != round(total_sz + n / 2)
    ):
        raise JobError(f"total_sz = {total_sz} is impossible for {n} spins 1/2")
    fillings = range(n + 1) if total_sz is None else [round(total_sz + n / 2)]
    open_part = np.diag(bonds[: n - 1] / 2, 1)
    levels = {}
    for odd in {n_up % 2 for n_up in fillings}:
        matrix = open_part + open_part.T
        if periodic:
            # Moving around the ring passes all the other fermions.
            matrix[0, n - 1] = matrix[n - 1, 0] = (bonds[n - 1] / 2) * (2 * odd - 1)
        levels[odd] = np.sort(np.linalg.eigvalsh(matrix))
    return float(min(levels[n_up % 2][:n_up].sum() for n_up in fillings))


def heisenberg_ring_energy(
    n: int, J: float = 1.0, total_sz: float | None = None
) -> float:
    """Lowest energy of J sum S_i . S_{i+1} on a ring, J > 0, by the Bethe ansatz.

    Args:
        n: sites, at least 3.
        J: exchange.
        total_sz: sector; None is the ground state, 0 (even n) or 1/2 (odd n).
    """
    return xxz_ring_energy(n, J, 1.0, total_sz)


def xxz_ring_energy(
    n: int, J: float = 1.0, delta: float = 1.0, total_sz: float | None = None
) -> float:
    """Lowest energy of J sum (Sx Sx + Sy Sy + delta Sz Sz) on a ring; Bethe ansatz.

    J > 0 and delta > -1 (at half filling of an odd ring delta > -1/2).

    Args:
        n: sites, at least 3.
        J: exchange.
        delta: anisotropy.
        total_sz: sector; None is the ground state, 0 (even n) or 1/2 (odd n).
    """
    sector = (n % 2) / 2 if total_sz is None else total_sz
    return bethe.ring_energy(n, J, delta, sector)


def heisenberg_open_energy(
    n: int, J: float = 1.0, total_sz: float | None = None
) -> float:
    """Lowest energy of J sum S_i . S_{i+1} on an open chain, J > 0; Bethe ansatz.

    Args:
        n: sites.
        J: exchange.
        total_sz: sector; None is the ground state, 0 (even n) or 1/2 (odd n).
    """
    return bethe.open_energy(n, J, (n % 2) / 2 if total_sz is None else total_sz)


def majumdar_ghosh_energy(n: int, J: float = 1.0) -> float:
    """Ground energy -3 J n / 8 of the chain J1 = J > 0, J2 = J / 2, in Sz = 0.

    Open for any even n (one ground state), periodic for even n from 6 on (two).

    Raises:
        JobError: n is odd, or J is not positive.
    """
    if n < 2 or n % 2 or J <= 0:
        raise JobError(f"the dimer states need even n and J > 0, got n = {n}, J = {J}")
    return -3 * J * n / 8


def haldane_shastry_energy(n: int, J: float = 1.0) -> float:
    """Ground energy -J pi^2 (n + 5/n) / 24 of the Haldane-Shastry ring, in Sz = 0.

    Even n and J > 0 (Haldane 1988, Shastry 1988).

    Raises:
        JobError: n is odd, or J is not positive.
    """
    if n < 4 or n % 2 or J <= 0:
        raise JobError(f"the formula needs even n > 2 and J > 0, got n = {n}, J = {J}")
    return -J * np.pi**2 * (n + 5 / n) / 24


def exact_energy(
    model: str,
    lattice: Lattice | None,
    couplings: Mapping[str, Any],
    total_sz: float | None,
) -> Answer:
    """The exact ground energy of a registered model where a closed form is known.

    Args:
        model: registered name.
        lattice: the lattice; without one nothing is known.
        couplings: the keys that were given; the others have their defaults.
        total_sz: sector, or None for the ground state of all sectors.

    Returns:
        The energy of the lowest state *of that sector* and its source, or None.
    """
    from hamiltonians.models import MODELS

    known = _KNOWN.get(model)
    if known is None or lattice is None:
        return None
    parameters = inspect.signature(MODELS[model]).parameters
    keys = {k: p.default for k, p in parameters.items() if k != "lattice"}
    keys |= couplings
    if np.any(np.asarray(keys.get("twist", 0.0), float)):
        return None
    return known(lattice, keys, total_sz)


def _tfim(lattice: Lattice, keys: dict[str, Any], total_sz: float | None) -> Answer:
    kind = lattice.chain_kind()
    if kind is None or total_sz is not None or not is_zero(keys["hz"]):
        return None
    seed = keys["disorder_seed"]
    bonds = _in_order(lattice, per_bond(lattice, "J", keys["J"], 1, seed))
    fields = per_site(lattice, "h", keys["h"], seed)
    energy = tfim_chain_energy(lattice.n_sites, bonds, fields, kind == "ring")
    return energy, f"free fermions, {_name(kind)}, ground state of both parities"


def _heisenberg(
    lattice: Lattice, keys: dict[str, Any], total_sz: float | None
) -> Answer:
    bonds = per_bond(lattice, "J", keys["J"], 1, keys["disorder_seed"])
    if not is_zero(keys["h"]):
        return None
    if np.all(bonds <= 0):
        energy = float(bonds.sum() * keys["spin"] ** 2)
        return energy, "ferromagnet, total spin N S, every Sz"
    kind, n = lattice.chain_kind(), lattice.n_sites
    if kind == "open" and keys["spin"] == 0.5 and np.ptp(bonds) == 0 and n > 1:
        energy = heisenberg_open_energy(n, float(bonds[0]), total_sz)
        return energy, f"Bethe ansatz, open chain, {_sector(n, total_sz)}"
    return _xxz(lattice, keys | {"delta": 1.0}, total_sz)


def _xy(lattice: Lattice, keys: dict[str, Any], total_sz: float | None) -> Answer:
    return _xxz(lattice, keys | {"delta": 0.0}, total_sz)


def _xxz(lattice: Lattice, keys: dict[str, Any], total_sz: float | None) -> Answer:
    kind, n, seed = lattice.chain_kind(), lattice.n_sites, keys["disorder_seed"]
    if kind is None or keys["spin"] != 0.5 or not is_zero(keys["h"]) or n < 2:
        return None
    plane = _in_order(lattice, per_bond(lattice, "J", keys["J"], 1, seed))
    axis = per_bond(lattice, "delta", keys["delta"], 1, seed)
    if not np.any(axis):
        energy = xy_chain_energy(n, plane, kind == "ring", total_sz)
        where = "all Sz" if total_sz is None else f"Sz = {total_sz:g}"
        return energy, f"free fermions, {_name(kind)}, {where}"
    if kind == "open" or np.ptp(plane) or np.ptp(axis):
        return None
    J, delta = float(plane[0]), float(axis[0])
    if J < 0 and n % 2 == 0:
        # Turning every second spin about z changes the sign of the plane part.
        J, delta = -J, -delta
    sector = (n % 2) / 2 if total_sz is None else total_sz
    if J <= 0 or not bethe.ring_is_solved(n, delta, sector):
        return None
    energy = xxz_ring_energy(n, J, delta, total_sz)
    # An odd ring is frustrated: its two momenta have opposite signs.
    count = ", two ground states" if n % 2 and sector == 0.5 else ""
    return energy, f"Bethe ansatz, ring, {_sector(n, total_sz)}{count}"


def _j1j2(lattice: Lattice, keys: dict[str, Any], total_sz: float | None) -> Answer:
    if is_zero(keys["J2"]):
        # Drawn under its own name, if it is random.
        bonds = per_bond(lattice, "J1", keys["J1"], 1, keys["disorder_seed"])
        plain = {"J": bonds, "h": 0.0, "spin": 0.5}
        return _heisenberg(lattice, keys | plain, total_sz)
    if any(real_number(keys[k]) is None for k in ("J1", "J2")):
        return None
    if keys["J1"] <= 0 or abs(2 * keys["J2"] - keys["J1"]) > 1e-14 * keys["J1"]:
        return None
    return _majumdar_ghosh(lattice, {"J": keys["J1"]}, total_sz)


def _majumdar_ghosh(
    lattice: Lattice, keys: dict[str, Any], total_sz: float | None
) -> Answer:
    kind, n = lattice.chain_kind(), lattice.n_sites
    # Below 6 sites a second neighbour of the ring is reached in two ways.
    if kind is None or (kind == "ring" and n < 6) or n % 2 or n < 4:
        return None
    J = _uniform(keys["J"])
    if total_sz not in (None, 0) or J is None or J <= 0:
        return None
    count = "two ground states" if kind == "ring" else "one ground state"
    energy = majumdar_ghosh_energy(n, J)
    return energy, f"Majumdar-Ghosh dimers, {_name(kind)}, Sz = 0, {count}"


def _haldane_shastry(
    lattice: Lattice, keys: dict[str, Any], total_sz: float | None
) -> Answer:
    n, J = lattice.n_sites, _uniform(keys["J"])
    if n < 4 or n % 2 or J is None or J <= 0 or total_sz not in (None, 0):
        return None
    return haldane_shastry_energy(n, J), "Haldane-Shastry formula, Sz = 0"


def _shastry_sutherland(
    lattice: Lattice, keys: dict[str, Any], total_sz: float | None
) -> Answer:
    if real_number(keys["Jprime"]) is None:
        return None
    square = per_bond(lattice, "J", keys["J"], 1, keys["disorder_seed"])
    dimer = number("Jprime", keys["Jprime"])
    # Proof by triangles: the dimer state is the ground state up to J = J'/2.
    if (
        total_sz not in (None, 0)
        or not all(lattice.periodic)
        or min(lattice.coordination) < 4
        or square.min() < 0
        or square.max() > dimer / 2
        or np.ptp(square)
    ):
        return None
    return -3 / 8 * dimer * lattice.n_sites, "dimer product state, Sz = 0"


def _cluster(lattice: Lattice, keys: dict[str, Any], total_sz: float | None) -> Answer:
    n = lattice.n_sites
    if total_sz is not None:
        return None
    if is_zero(keys["h"]):
        each = per_site(lattice, "J", keys["J"], keys["disorder_seed"])
        lowest = -float(np.abs(each).sum())
        return lowest, "graph state, every stabiliser at its lowest value"
    J, h = _uniform(keys["J"]), _uniform(keys["h"])
    if J is None or h is None or min(J, h) < 0:
        return None
    if lattice.chain_kind() != "ring" or n % 2 or n < 6:
        return None
    energy = 2 * tfim_chain_energy(n // 2, J, h, parity=1)
    return energy, "free fermions, two rings of N/2 sites"


def _toric_code(
    lattice: Lattice, keys: dict[str, Any], total_sz: float | None
) -> Answer:
    fields = is_zero(keys["hx"]) and is_zero(keys["hz"])
    if not fields or total_sz is not None:
        return None
    seed, drawn = keys["disorder_seed"], []
    for name, kind in (("J_star", "stars"), ("J_face", "faces")):
        count = len(lattice.features[kind])
        drawn.append(values(name, keys[name], count, kind, seed))
    strengths = np.concatenate(drawn)
    if np.any(strengths < 0):
        return None
    torus = all(lattice.periodic) and np.all(strengths > 0)
    copies = ", 4 ground states" if torus else ""
    return -float(strengths.sum()), f"all stabilisers +1{copies}"


def _aklt(lattice: Lattice, keys: dict[str, Any], total_sz: float | None) -> Answer:
    if lattice.chain_kind() is None or total_sz not in (None, 0):
        return None
    bonds = per_bond(lattice, "J", keys["J"], 1, keys["disorder_seed"])
    if np.any(bonds <= 0):
        return None
    ends = {None: ", four ground states", 0: ", two ground states"}
    count = ends[total_sz] if lattice.chain_kind() == "open" else ""
    return -2 / 3 * float(bonds.sum()), f"AKLT valence-bond state, Sz = 0{count}"


_KNOWN: dict[str, Callable[[Lattice, dict[str, Any], float | None], Answer]] = {
    "tfim": _tfim,
    "heisenberg": _heisenberg,
    "xxz": _xxz,
    "xy": _xy,
    "j1j2": _j1j2,
    "majumdar_ghosh": _majumdar_ghosh,
    "haldane_shastry": _haldane_shastry,
    "shastry_sutherland": _shastry_sutherland,
    "cluster": _cluster,
    "toric_code": _toric_code,
    "aklt": _aklt,
}


def _each(name: str, value: float | np.ndarray, n: int) -> np.ndarray:
    array = np.asarray(value, float)
    if array.shape not in ((), (n,)) or not np.all(np.isfinite(array)):
        raise JobError(f"{name} must be one finite number or {n} of them")
    return np.broadcast_to(array, (n,))


def _uniform(value: Any) -> float | None:
    """A coupling that is one number, or None for a list or a distribution."""
    return real_number(value)


def _in_order(lattice: Lattice, bonds: np.ndarray) -> np.ndarray:
    """Bond values of a chain in the order (0, 1), (1, 2), ..., (n - 1, 0)."""
    pairs = np.sort(lattice.edges(1), axis=1)
    closing = np.diff(pairs, axis=1)[:, 0] != 1
    where = np.where(closing, lattice.n_sites - 1, pairs[:, 0])
    return bonds[np.argsort(where)]


def _name(kind: str) -> str:
    return "ring" if kind == "ring" else "open chain"


def _sector(n: int, total_sz: float | None) -> str:
    sector = (n % 2) / 2 if total_sz is None else total_sz
    return f"Sz = {sector:g}"

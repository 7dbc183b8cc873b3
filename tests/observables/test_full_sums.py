"""Every estimator on all configurations against dense linear algebra: no noise."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

import vmc
from tests.observables.referee import Referee, column, full
from vmc.observables_run import measure

CHAIN = {"name": "chain", "size": [6]}

#: What can be measured in every one of the states below.
COMMON = ["magnetization", "correlations", "spin_correlations", "structure_factor"]
COMMON += ["spin_structure_factor", "total_spin", "bond_energies", "symmetries"]
COMMON += ["dimer_correlations", "derivatives", "renyi2:0,2", "renyi2:blocks"]
COMMON += ["lanczos", "correlation_length"]


def job(lattice: dict, hamiltonian: dict, ansatz: dict) -> vmc.Job:
    return vmc.Job(lattice=lattice, hamiltonian=hamiltonian, ansatz=ansatz)


CASES = {
    # positive, in the free space
    "tfim": job(CHAIN, {"name": "tfim", "h": 0.7}, {"name": "rbm", "alpha": 1}),
    # positive in the Marshall gauge, in a sector
    "marshall": job(
        CHAIN,
        {"name": "xxz", "delta": 0.6},
        {"name": "jastrow", "dtype": "real", "symmetry": "none"},
    ),
    # complex amplitudes and elements, in a gauge
    "complex": job(
        {"name": "triangular", "size": [3, 2]},
        {"name": "dm", "D": 0.4, "marshall": [0, 1, 1, 0, 0, 1], "total_sz": "free"},
        {"name": "rbm", "alpha": 1, "dtype": "complex", "symmetry": "none"},
    ),
    "spin one": job(
        {"name": "ladder", "size": [2, 2], "periodic": True},
        {"name": "heisenberg", "spin": 1.0, "total_sz": 0},
        {"name": "jastrow", "dtype": "complex", "symmetry": "none"},
    ),
}
SLOW = ("tfim", "complex", "spin one")


def displaced(lattice: Any) -> Any:
    """(i, j) -> whether r_j - r_i is +- a displacement, modulo the periods."""

    def same(i: int, j: int, r: np.ndarray) -> bool:
        delta = lattice.positions[j] - lattice.positions[i]
        for sign in (1, -1):
            off = delta - sign * r
            if len(lattice.periods):
                turns = off @ np.linalg.pinv(lattice.periods)
                off = off - np.rint(turns) @ lattice.periods
            if np.linalg.norm(off) < 1e-6:
                return True
        return False

    return same


def check_correlations(found: dict, lattice: Any, referee: Referee) -> None:
    same, n = displaced(lattice), referee.n
    z = [referee.spin(i, "z") for i in range(n)]
    m = [referee.mean(a).real for a in z]
    pairs = list(itertools.product(range(n), repeat=2))
    dots = {p: referee.mean(referee.dot(p[0], p[1])).real for p in pairs}
    zz = {p: referee.mean(z[p[0]] @ z[p[1]]).real for p in pairs}
    table = found["correlations"]
    basis = len(lattice.basis)
    for k, r in enumerate(table["r"]):
        places = table.get("places", ["0-0"] * 999)[k].split("-")
        kinds = sorted(int(x) for x in places)
        here = [
            (i, j)
            for i, j in pairs
            if same(i, j, np.array(r)) and sorted((i % basis, j % basis)) == kinds
        ]
        want = np.mean([zz[p] for p in here])
        if table["component"][k] == "zz_connected":
            want -= np.mean([m[i] * m[j] for i, j in here])
        np.testing.assert_allclose(table["mean"][k], want, atol=1e-12)
        if table["component"][k] == "zz":
            ss = found["spin_correlations"]
            same_r = column(ss, component="ss", r=r)
            if basis > 1:
                same_r = column(ss, component="ss", r=r, places=table["places"][k])
            np.testing.assert_allclose(
                same_r, [np.mean([dots[p] for p in here])], atol=1e-12
            )
    for name, values in (("structure_factor", zz), ("spin_structure_factor", dots)):
        for q, got in zip(found[name]["q"], found[name]["mean"], strict=True):
            x = lattice.positions @ np.array(q)
            want = sum(np.cos(x[i] - x[j]) * values[i, j] for i, j in pairs) / n
            np.testing.assert_allclose(got, want, atol=1e-7)
    total = found["total_spin"]["mean"]
    np.testing.assert_allclose(total, [sum(dots.values())], atol=1e-11)


def check_moments(found: dict, referee: Referee, name: str, signs: Any) -> None:
    n = referee.n
    total = sum(s * referee.spin(i, "z") for i, s in enumerate(signs)) / n
    m, p = np.diag(total), np.abs(referee.psi) ** 2
    moments = [p @ m, p @ np.abs(m), p @ m**2, p @ m**4]
    want = [*moments, 1 - moments[3] / (3 * moments[2] ** 2)] if moments[2] > 0 else []
    got = found[name]["mean"]
    np.testing.assert_allclose(got[:4], moments, atol=1e-13)
    if moments[2] > 1e-12:
        np.testing.assert_allclose(got, want, atol=1e-11)
    else:
        assert got[4] is None


def check_symmetries(found: dict, built: Any, referee: Referee) -> None:
    lattice, table = built.system.lattice, found["symmetries"]
    images = dict.fromkeys(table["element"])
    for name in images:
        kind, _, number = name.rpartition(" ")
        if kind == "translation":
            step = lattice.vectors[int(number)]
            same = [
                np.allclose(np.exp(1j * lattice.momenta @ (v - step)), 1, atol=1e-6)
                for v in lattice.translation_vectors
            ]
            moved = referee.permuted(lattice.translations[np.argmax(same)])
        elif kind == "point group":
            moved = referee.permuted(lattice.point_group[int(number)])
        else:
            moved = referee.permuted(range(referee.n), flip=True)
        want = referee.psi.conj() @ moved
        got = (
            column(table, element=name, part="real")[0]
            + 1j * (column(table, element=name, part="imaginary")[0])
        )
        np.testing.assert_allclose(got, want, atol=1e-12)
    assert "spin flip" in images and "point group 1" in images


def check_dimers(found: dict, lattice: Any, referee: Referee) -> None:
    bonds = lattice.edges(1).tolist()
    d = [referee.dot(i, j) @ referee.psi for i, j in bonds]
    means = np.array([np.real(referee.psi.conj() @ x) for x in d])
    products = np.array([[np.real(x.conj() @ y) for y in d] for x in d])
    table = found["dimer_correlations"]
    np.testing.assert_allclose(table["mean"][0], means.mean(), atol=1e-12)
    own = column(table, component="plain", distance=0.0)
    if "places" not in table:
        np.testing.assert_allclose(own, [np.mean(np.diag(products))], atol=1e-12)
        minus = np.mean(np.diag(products) - means**2)
        own = column(table, component="connected", distance=0.0)
        np.testing.assert_allclose(own, [minus], atol=1e-12)
        for r in range(1, len(bonds) // 2 + 1):
            want = np.mean([products[a, (a + r) % 6] for a in range(6)])
            got = column(table, component="plain", distance=float(r))
            np.testing.assert_allclose(got, [want], atol=1e-12)


def check_energies(found: dict, energy: Any, built: Any, referee: Referee) -> None:
    h = dense(built.system.operator, referee)
    psi = referee.psi
    mean = referee.mean(h).real
    np.testing.assert_allclose(energy.mean, mean, rtol=1e-12)
    np.testing.assert_allclose(np.sum(found["bond_energies"]["mean"]), mean, rtol=1e-11)
    h_psi = h @ psi
    basis = np.stack([psi, h_psi], axis=1)
    q = np.linalg.qr(basis)[0]
    lowest = np.linalg.eigvalsh(q.conj().T @ h @ q)[0]
    got = found["lanczos"]["mean"]
    np.testing.assert_allclose(got, [lowest, lowest - mean], rtol=1e-9)
    for name, value in zip(
        found["derivatives"]["coupling"], found["derivatives"]["mean"], strict=True
    ):
        keys, step = built.job.hamiltonian.keys, 1e-5
        ends = []
        for sign in (1, -1):
            changed = {**keys, name: keys[name] + sign * step}
            from vmc.registry import models

            model = models()[built.job.hamiltonian.name]
            ends.append(
                referee.mean(dense(model(built.system.lattice, **changed), referee))
            )
        slope = (ends[0] - ends[1]).real / (2 * step)
        np.testing.assert_allclose(value, slope, atol=1e-6)


def dense(operator: Any, referee: Referee) -> Any:
    """An operator of the algebra as a matrix, term by term."""
    size = len(referee.psi)
    total = np.zeros((size, size), complex)
    for coefficient, letters, sites in operator.terms:
        part = np.eye(size, dtype=complex)
        for letter, site in zip(letters, sites, strict=True):
            if isinstance(letter, str):
                part = part @ (2 * referee.spin(site, letter.lower()))
                continue
            z = referee.spin(site, "z")
            ladder = referee.spin(site, "x") + np.sign(letter.raising) * 1j * (
                referee.spin(site, "y")
            )
            part = part @ np.linalg.matrix_power(z, letter.power)
            part = part @ np.linalg.matrix_power(ladder, abs(letter.raising))
        total += coefficient * part
    return total


@pytest.mark.parametrize(
    "case",
    [pytest.param(c, marks=pytest.mark.slow) if c in SLOW else c for c in CASES],
)
def test_all_observables_of_a_random_state(case: str) -> None:
    built, state, referee = full(CASES[case])
    lattice = built.system.lattice
    names = list(COMMON)
    if lattice.is_bipartite:
        names.append("staggered_magnetization")
    energy, found = measure(built, state, 1, names)
    assert list(found) == names
    for name, table in found.items():
        lengths = {len(values) for values in table.values()}
        assert len(lengths) == 1, name
        errors = [e for e in table["error"] if e is not None]
        assert set(errors) <= {0.0}, name
    check_correlations(found, lattice, referee)
    check_moments(found, referee, "magnetization", np.ones(referee.n))
    if lattice.is_bipartite:
        signs = 1 - 2 * lattice.sublattice
        check_moments(found, referee, "staggered_magnetization", signs)
    check_symmetries(found, built, referee)
    check_dimers(found, lattice, referee)
    check_energies(found, energy, built, referee)
    for table in (found["renyi2:0,2"], found["renyi2:blocks"]):
        for region, s2, purity in zip(
            table["region"], table["mean"], table["purity"], strict=True
        ):
            np.testing.assert_allclose(purity, referee.purity(region), rtol=1e-11)
            np.testing.assert_allclose(s2, -np.log(purity), rtol=1e-11)

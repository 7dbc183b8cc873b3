"""Spectra of ground states: documented tables, dense referees, degenerate levels."""

from __future__ import annotations

import functools
import itertools

import numpy as np
import pytest

import vmc
from vmc.design_cuts import (
    CutSpec,
    all_cuts,
    images,
    smaller_side,
    symmetry_group,
    tree_blocks,
)
from vmc.design_floors import eps_rank, projected_tail, tail
from vmc.design_laws import features, fit, relatives, required_by_laws, with_entropy
from vmc.design_required import chosen_method, required
from vmc.design_runs import required_by_mps, required_by_swap
from vmc.design_spectra import Required, entropies, required_exactly
from vmc.design_sweeps import ground_chain
from vmc.errors import JobError
from vmc.system import System, build_system

CHAINS = {"heisenberg": {}, "tfim": {"h": 1.0}}
HALF, FOUR = tuple(range(8)), (0, 1, 2, 3)


def chain_job(model: str, n: int, **keys) -> vmc.Job:
    return vmc.Job(
        lattice={"name": "chain", "size": [n]}, hamiltonian={"name": model, **keys}
    )


@functools.cache
def ring(model: str) -> tuple[System, Required]:
    """A ring of 16 sites with the cuts of the table."""
    system = build_system(chain_job(model, 16, **CHAINS[model]))
    cuts = [FOUR, HALF, (0, 1), (0, 2), (0, 2, 4, 6), tuple(range(0, 16, 2))]
    return system, required_exactly(system.hamiltonian, cuts)


def test_heisenberg_ring_of_16() -> None:
    """E0, gap and entropies of the worked example."""
    _, found = ring("heisenberg")
    assert found.energy == pytest.approx(-7.14229636, abs=1e-8)
    assert found.gap == pytest.approx(0.27019, abs=5e-6)
    assert found.degeneracy == 1 and {c.label for c in found.cuts} == {"exact"}
    s1 = [round(c.s1 or 0, 3) for c in found.cuts]
    s2 = [round(c.s2 or 0, 3) for c in found.cuts]
    assert s1 == [1.162, 1.280, 0.947, 1.267, 2.372, 4.324]
    assert s2[:3] + s2[-1:] == [0.835, 0.931, 0.662, 3.921]


#: chi4, chi8: max w, sum w, certified E - E0.
TABLE = [
    (4, 4, "3.54e-02", "1.14e-01", "9.6e-03"),
    (8, 8, "5.67e-03", "1.54e-02", "1.5e-03"),
    (12, 12, "1.95e-03", "4.49e-03", "5.3e-04"),
    (16, 16, "6.02e-04", "6.02e-04", "1.6e-04"),
    (16, 24, "4.62e-05", "4.62e-05", "1.2e-05"),
]


@pytest.mark.parametrize(("chi4", "chi8", "most", "total", "certain"), TABLE)
def test_discarded_weights(chi4, chi8, most, total, certain) -> None:
    _, found = ring("heisenberg")
    four, half = (found.cuts[i].spectrum for i in (0, 1))
    assert four is not None and half is not None and found.gap is not None
    w4, w8 = tail(four, chi4), tail(half, chi8)
    assert f"{max(w4, w8):.2e}" == most
    assert f"{4 * w4 + w8:.2e}" == total
    assert f"{found.gap * max(w4, w8):.1e}" == certain


@pytest.mark.parametrize(
    ("model", "four", "half"),
    [
        ("heisenberg", [7, 11, 16, 16], [8, 15, 21, 45]),
        ("tfim", [3, 4, 6, 10], [4, 5, 7, 12]),
    ],
)
def test_eps_ranks_of_rings(model, four, half) -> None:
    _, found = ring(model)
    for cut, expected in zip(found.cuts[:2], (four, half), strict=True):
        assert cut.spectrum is not None
        ranks = [eps_rank(cut.spectrum, eps) for eps in (1e-2, 1e-3, 1e-4, 1e-6)]
        assert ranks == expected


@pytest.mark.parametrize(
    ("keys", "s1", "s2", "ranks"),
    [
        ({"name": "heisenberg"}, 1.82093508, 1.12774677, [44, 111, 196, 255]),
        ({"name": "j1j2", "J2": 0.5}, 2.16196547, 0.93238812, [114, 197, 235, 256]),
    ],
)
def test_square_of_16(keys, s1, s2, ranks) -> None:
    job = vmc.Job(lattice={"name": "square", "size": [4, 4]}, hamiltonian=keys)
    found = required_exactly(build_system(job).hamiltonian, [HALF]).cuts[0]
    assert (found.s1, found.s2) == (
        pytest.approx(s1, abs=1e-7),
        pytest.approx(s2, abs=1e-7),
    )
    assert found.spectrum is not None
    assert [eps_rank(found.spectrum, e) for e in (1e-2, 1e-3, 1e-4, 1e-6)] == ranks


def dense_ring(couplings: np.ndarray) -> np.ndarray:
    """sum_i J_i S_i . S_(i+1) by Kronecker products, in nobody's code but this test."""
    n = len(couplings)
    pauli = [np.array(m) / 2 for m in ([[0, 1], [1, 0]], [[1, 0], [0, -1]])]
    pauli.append(np.array([[0, -1j], [1j, 0]]) / 2)
    total = np.zeros((2**n, 2**n), complex)
    for i, j in enumerate(couplings):
        for s in pauli:
            factors = [np.eye(2)] * n
            factors[i] = factors[(i + 1) % n] = s
            total += j * functools.reduce(np.kron, factors)
    return total.real


def random_ring(tmp_path, couplings: np.ndarray) -> vmc.Job:
    (tmp_path / "bonds.py").write_text(
        "from hamiltonians import Operator, Sm, Sp, Sz\n\n\n"
        "def build(couplings):\n"
        "    n = len(couplings)\n"
        "    def bond(i, j):\n"
        "        flip = 0.5 * (Sp(i) @ Sm(j) + Sm(i) @ Sp(j))\n"
        "        return flip + Sz(i) @ Sz(j)\n"
        "    return Operator.sum(\n"
        "        c * bond(i, (i + 1) % n) for i, c in enumerate(couplings)\n"
        "    )\n"
    )
    keys = {"name": "bonds.py:build", "couplings": couplings.tolist()}
    return vmc.Job.from_dict({"hamiltonian": keys}, folder=tmp_path)


def test_random_bonds_against_a_dense_referee(tmp_path, rng) -> None:
    """E0, gap, spectra, their charges and floors of a ring that is in no document."""
    couplings = rng.uniform(0.3, 1.7, 8)
    matrix = dense_ring(couplings)
    up = np.array([bin(code).count("1") for code in range(256)])
    sector = np.flatnonzero(up == 4)
    energies, vectors = np.linalg.eigh(matrix[np.ix_(sector, sector)])
    psi = np.zeros(256)
    psi[sector] = vectors[:, 0]

    system = build_system(random_ring(tmp_path, couplings))
    regions = [(0, 1, 2, 3), (0, 2, 4, 6), (1, 4, 5), (7,), (), tuple(range(8))]
    found = required_exactly(system.hamiltonian, regions)
    assert found.energy == pytest.approx(energies[0], abs=1e-10)
    assert found.gap == pytest.approx(energies[1] - energies[0], abs=1e-9)
    for region, cut in zip(regions, found.cuts, strict=True):
        rest = [i for i in range(8) if i not in region]
        m = psi.reshape((2,) * 8).transpose([*region, *rest])
        m = m.reshape(2 ** len(region), -1)
        p = np.linalg.svd(m, compute_uv=False) ** 2
        assert cut.spectrum is not None and cut.blocks is not None
        np.testing.assert_allclose(
            np.pad(cut.spectrum, (0, 256))[: len(p)], p, atol=1e-12
        )
        assert cut.s1 == pytest.approx(-np.sum(p * np.log(p + 1e-300)), abs=1e-9)
        # By the charge of the region, from the rows of the matrix.
        rows = np.array([bin(code).count("1") for code in range(len(m))])
        for k in (1, 2, 3):
            kept = sum(
                np.sum(np.linalg.svd(m[rows == n], compute_uv=False)[:k] ** 2)
                for n in np.unique(rows)
            )
            assert projected_tail(cut.blocks, k) == pytest.approx(1 - kept, abs=1e-11)
            assert tail(cut.spectrum, k) == pytest.approx(1 - p[:k].sum(), abs=1e-11)


def test_a_degenerate_level_is_a_mixture(rng) -> None:
    """The two dimer states of Majumdar and Ghosh: the mixture of both, no vector."""
    system = build_system(chain_job("majumdar_ghosh", 8))
    found = required_exactly(system.hamiltonian, [(0, 1), (0, 2)])
    assert found.degeneracy == 2 and found.vector is None
    assert all(cut.mixed and cut.blocks is None for cut in found.cuts)
    assert any("degenerate" in note for note in found.notes)

    def dimers(shift: int) -> np.ndarray:
        singlet = np.array([[0, 1], [-1, 0]]) / np.sqrt(2)
        state = functools.reduce(np.multiply.outer, [singlet] * 4)
        return np.moveaxis(state, range(8), [(i + shift) % 8 for i in range(8)])

    both = np.stack([dimers(0).reshape(-1), dimers(1).reshape(-1)], 1)
    basis = np.linalg.qr(both)[0]
    for cut in found.cuts:
        rho = 0
        for state in basis.T:
            m = np.moveaxis(state.reshape((2,) * 8), cut.region, (0, 1)).reshape(4, -1)
            rho = rho + m @ m.T / 2
        p = np.linalg.eigvalsh(rho)[::-1]
        np.testing.assert_allclose(cut.spectrum, p[p > 1e-13], atol=1e-10)


def test_cuts_are_those_of_the_symmetry() -> None:
    """One of every class, the requirement being the same in it; free ends have more."""
    system = build_system(chain_job("heisenberg", 8))
    group = symmetry_group(system.hamiltonian, system.lattice)
    assert len(group) == 16
    cuts = all_cuts(8, system.lattice, group=group)
    regions = [cut.region for cut in cuts]
    assert [r for r in regions if r == tuple(range(len(r)))] == [
        tuple(range(n)) for n in range(1, 5)
    ]
    assert (0, 2, 4, 6) in regions
    for a, b in itertools.combinations(regions, 2):
        assert a not in images(b, group)
    same = images((0, 1, 5), group)
    found = required_exactly(system.hamiltonian, same)
    assert len(same) > 4 and np.ptp([c.s1 for c in found.cuts]) < 1e-9
    # A field on one site leaves one reflection.
    open_ends = vmc.Job(
        lattice={"name": "chain", "size": [8], "periodic": False},
        hamiltonian={"name": "heisenberg"},
    )
    system = build_system(open_ends)
    assert len(symmetry_group(system.hamiltonian, system.lattice)) == 2
    assert tree_blocks([0, 1, 2, 3, 4], 2)[1] == [(0, 1), (2, 3), (4,)]
    assert smaller_side((4, 5, 6, 7), 8) == (0, 1, 2, 3)


def test_random_cuts_follow_their_seed() -> None:
    def random(seed: int) -> list[CutSpec]:
        return [c for c in all_cuts(12, n_random=6, seed=seed) if c.kind == "random"]

    assert random(1) == random(1) != random(2)


def test_laws_of_smaller_rings() -> None:
    """Entropies of a ring of 16 from rings of up to 14: the logarithm is found."""
    job = chain_job("heisenberg", 16)
    assert [one.system.n_sites for one in relatives(job)][-2:] == [12, 14]
    system, exact = ring("heisenberg")
    specs = [CutSpec(FOUR, "contiguous"), CutSpec(HALF, "contiguous")]
    found = required_by_laws(job, system, specs)
    assert {c.label for c in found.cuts} == {"extrapolated"} and found.gap is None
    site = required_by_laws(job, system, [CutSpec((0,), "contiguous")]).cuts[0]
    np.testing.assert_allclose(site.spectrum, [0.5, 0.5], atol=1e-6)
    assert found.energy == pytest.approx(exact.energy, rel=0.01)
    for cut, true in zip(found.cuts, exact.cuts, strict=False):
        assert cut.s1 == pytest.approx(true.s1, rel=0.03)
        assert cut.spectrum is not None
        assert entropies(cut.spectrum)[0] == pytest.approx(cut.s1, abs=1e-6)


def test_the_fit_finds_a_law() -> None:
    lattice = build_system(chain_job("tfim", 8)).lattice
    x = [features(tuple(range(n)), lattice) for n in (1, 2, 3, 4)]
    assert [one[1] for one in x] == [2.0] * 4
    law = fit([(one, 0.4 + 1 / 3 * one[2]) for one in x], True)
    assert law.at(x[1]) == pytest.approx(0.4 + x[1][2] / 3, abs=1e-9)
    p = with_entropy(np.array([0.7, 0.2, 0.1]), 1.0)
    assert entropies(p)[0] == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize(
    ("region", "message"),
    [
        ([0, 8], "site 8 is outside; the sites are 0 to 7"),
        ([-1], "site -1 is outside"),
        ([1, 1], "listed twice"),
        ([0.5], "is no site"),
    ],
)
def test_regions_that_are_none(region, message) -> None:
    job = chain_job("tfim", 8)
    with pytest.raises(JobError, match=message):
        required(job, build_system(job), [region])


def test_what_is_too_large_names_its_memory_and_other_ways() -> None:
    job = chain_job("heisenberg", 40)
    system = build_system(job)
    with pytest.raises(JobError, match='GiB.*"mps".*"mc".*"extrapolated"'):
        required(job, system, [(0, 1)], method="exact")
    assert chosen_method(job, system, 2**32) == "mps"
    small = chain_job("heisenberg", 8)
    with pytest.raises(JobError, match="too many for exact spectra"):
        required(small, build_system(small), [(0,)], method="exact", memory_limit=10**4)
    with pytest.raises(JobError, match="did you mean 'exact'"):
        required(small, build_system(small), [(0,)], method="exat")


@pytest.mark.slow
@pytest.mark.parametrize("way", [required_by_mps, required_by_swap])
def test_trained_states_agree_with_diagonalisation(way) -> None:
    """S2 of blocks and of the sublattice of a ring of 10 sites, within errors."""
    job = chain_job("tfim", 10, h=1.5)
    specs = [CutSpec((0, 1, 2, 3, 4), "contiguous"), CutSpec((0, 2, 4, 6, 8), "given")]
    exact = required_exactly(build_system(job).hamiltonian, specs)
    found = way(job, specs)
    close = 1e-7 if way is required_by_mps else 2e-3
    assert found.energy == pytest.approx(exact.energy, rel=close)
    assert found.gap is None and found.degeneracy is None
    for cut, true in zip(found.cuts, exact.cuts, strict=True):
        assert cut.label in ("mps", "mc")
        assert cut.s2 == pytest.approx(true.s2, abs=0.02 + 4 * (cut.error or 0.0))
    if way is required_by_mps:
        assert found.cuts[0].s1 == pytest.approx(exact.cuts[0].s1, abs=1e-4)
        assert found.cuts[1].spectrum is None


@pytest.mark.parametrize(
    ("model", "keys", "total_sz"),
    [
        ("tfim", {"h": 0.8, "hz": 0.1}, None),
        ("j1j2", {"J2": 0.3}, 0.0),
        ("xxz", {"delta": 0.4}, 1.0),
    ],
)
def test_sweeps_find_ground_states(model, keys, total_sz) -> None:
    """E0, entropies and the sector of rings of 8, with every state kept."""
    job = chain_job(model, 8, total_sz="free" if total_sz is None else total_sz, **keys)
    system = build_system(job)
    exact = required_exactly(system.hamiltonian, [(0, 1, 2, 3), (0, 1, 2)])
    dims = (2,) * 8
    state = ground_chain(system.operator, dims, total_sz=total_sz, bond_dimension=16)
    assert state.energy == pytest.approx(exact.energy, abs=1e-7)
    psi = functools.reduce(lambda x, y: np.tensordot(x, y, 1), state.tensors)
    psi = psi.reshape(16, 16)
    assert np.linalg.norm(psi) == pytest.approx(1, abs=1e-9)
    p = np.linalg.svd(psi, compute_uv=False) ** 2
    assert entropies(p[p > 1e-14])[0] == pytest.approx(exact.cuts[0].s1, abs=1e-4)
    small = ground_chain(system.operator, dims, total_sz=total_sz, bond_dimension=3)
    assert small.energy > state.energy and small.discarded > 1e-6
    assert max(a.shape[2] for a in small.tensors) == 3


@pytest.mark.slow
def test_sweeps_of_a_long_chain() -> None:
    """The critical Ising chain with free ends, against free fermions."""
    job = vmc.Job(
        lattice={"name": "chain", "size": [40], "periodic": False},
        hamiltonian={"name": "tfim"},
    )
    system = build_system(job)
    state = ground_chain(system.operator, (2,) * 40)
    energy = 1 - 1 / np.sin(np.pi / (2 * (2 * 40 + 1)))
    assert energy < state.energy < energy * (1 - 1e-7)


@pytest.mark.slow
@pytest.mark.parametrize(("n", "energy"), [(20, -8.90438652988), (40, -17.7465227883)])
def test_sweeps_of_rings_that_converge_stay_above(n: int, energy: float) -> None:
    """Bethe's energies; a converged pair of tensors is left alone."""
    system = build_system(chain_job("heisenberg", n))
    dims, keys = (2,) * n, {"n_sweeps": 12, "tolerance": 0.0}
    state = ground_chain(system.operator, dims, total_sz=0, **keys)
    assert energy < state.energy < energy * (1 - 1e-3)


@pytest.mark.slow
def test_twenty_sites_take_less_than_a_minute() -> None:
    import time

    start = time.monotonic()
    system = build_system(chain_job("heisenberg", 20))
    group = symmetry_group(system.hamiltonian, system.lattice)
    cuts = all_cuts(20, system.lattice, group=group)
    found = required_exactly(system.hamiltonian, cuts)
    assert found.energy == pytest.approx(-8.9043865299, abs=1e-9)
    assert {c.kind for c in found.cuts} >= {"contiguous", "sublattice"}
    assert time.monotonic() - start < 60

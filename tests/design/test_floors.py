"""Floors hold: no state of a rank beats them, projected ones included."""

from __future__ import annotations

import functools
import math

import numpy as np
import pytest

import vmc
from vmc.base import Capacity
from vmc.design_cuts import CutSpec
from vmc.design_fixed_rank import (
    ExactSystem,
    exact_system,
    kappa,
    least_energies,
    truncated_tree,
)
from vmc.design_floors import (
    certificate,
    eps_rank,
    projected_tail,
    purity_tail,
    rank_of,
    tail,
    verdict,
)
from vmc.design_recommend import bottleneck, verdicts_of
from vmc.design_spectra import Required, RequiredCut, required_exactly
from vmc.errors import JobError
from vmc.system import System, build_system

HALF8, HALF16 = (0, 1, 2, 3), tuple(range(8))


@functools.cache
def case(model: str, n: int) -> tuple[System, Required, ExactSystem]:
    job = vmc.Job(lattice={"name": "chain", "size": [n]}, hamiltonian={"name": model})
    system = build_system(job)
    cuts = [tuple(range(m)) for m in range(1, n // 2 + 1)]
    found = required_exactly(system.hamiltonian, cuts)
    assert found.vector is not None and found.energy is not None
    return system, found, exact_system(system, found.vector, found.energy)


def carries(k: int, names: tuple[str, ...] = ("node",)):
    """An architecture with the same rank everywhere."""
    ln = math.log(k)
    one = Capacity(ln, ln, ln, "tree", names)
    return lambda regions: [
        one if len(r) > 1 else Capacity(*[min(ln, math.log(2))] * 3, "tree", names)
        for r in regions
    ]


def test_tails_and_ranks_of_a_spectrum() -> None:
    p = np.array([0.6, 0.3, 0.09, 0.01])
    assert [tail(p, k) for k in (0, 1, 2, 4, 9)] == pytest.approx([1, 0.4, 0.1, 0, 0])
    assert [eps_rank(p, e) for e in (0.5, 0.1001, 0.05, 0.001)] == [1, 2, 3, 4]
    assert rank_of(math.log(7)) == 7 and rank_of(math.log(7) - 1e-6) == 6
    with pytest.raises(JobError, match="between 0 and 1"):
        eps_rank(p, 0.0)
    # From S2 alone: never above the true weight, and tight for even spectra.
    s2 = -math.log(np.sum(p**2))
    assert all(purity_tail(s2, k) <= tail(p, k) + 1e-12 for k in range(1, 5))
    assert purity_tail(math.log(16), 4) == pytest.approx(0.5)


def projected(psi: np.ndarray, blocks: list[np.ndarray]) -> np.ndarray:
    """A matrix with only the blocks (rows, columns) that a sector allows."""
    out = np.zeros_like(psi)
    for rows, columns in blocks:
        out[np.ix_(rows, columns)] = psi[np.ix_(rows, columns)]
    return out


def test_the_floor_of_a_sector_is_that_of_projected_states(rng) -> None:
    """P psi of rank k: below the free floor, never below the sector's, which is met."""
    system, found, exact = case("heisenberg", 8)
    cut = found.cuts[-1]
    assert cut.projected and cut.blocks is not None and cut.spectrum is not None
    ground = exact.vector.reshape(16, 16)
    n_down = np.array([bin(code).count("1") for code in range(16)])
    blocks = [
        (np.flatnonzero(n_down == m), np.flatnonzero(n_down == 4 - m)) for m in range(5)
    ]
    for k in (1, 2, 3):
        floor, free = projected_tail(cut.blocks, k), tail(cut.spectrum, k)
        assert floor < free
        # The best one: k Schmidt vectors of every block, as one matrix of rank k.
        left, right = np.zeros((16, k)), np.zeros((k, 16))
        for rows, columns in blocks:
            u, s, v = np.linalg.svd(ground[np.ix_(rows, columns)])
            r = min(k, len(s))
            left[rows, :r], right[:r, columns] = u[:, :r] * s[:r], v[:r]
        best = projected(left @ right, blocks)
        overlap = np.sum(best * ground) ** 2 / np.sum(best**2)
        assert 1 - overlap == pytest.approx(floor, abs=1e-12)
        assert np.linalg.matrix_rank(left @ right) <= k
        for _ in range(50):
            noise = [0.1 * rng.normal(size=m.shape) for m in (left, right)]
            state = projected((left + noise[0]) @ (right + noise[1]), blocks)
            overlap = np.sum(state * ground) ** 2 / np.sum(state**2)
            assert 1 - overlap >= floor - 1e-12


@pytest.mark.parametrize("model", ["heisenberg", "tfim"])
def test_floors_lie_below_states_of_that_rank(model, rng) -> None:
    """Truncated trees, optimised states and random starts all respect them."""
    _, found, exact = case(model, 8)
    half = found.cuts[-1].spectrum
    assert half is not None and found.gap is not None and found.energy is not None
    best = least_energies(exact, HALF8, [1, 2, 3, 5, 16])
    assert [one.energy for one in best] == sorted(
        (o.energy for o in best), reverse=True
    )
    assert best[-1].energy == pytest.approx(found.energy, abs=1e-9)
    for one in best:
        floor = tail(half, one.rank)
        assert one.infidelity >= floor - 1e-10
        assert one.energy - found.energy >= found.gap * floor - 1e-9
    for chi in (1, 2, 3, 4):
        tree = truncated_tree(exact, range(8), [2, chi, chi])
        floors = [tail(found.cuts[i].spectrum, chi) for i in (1, 3)]  # pyright: ignore
        assert (
            max(floors) - 1e-10 <= tree.infidelity <= 4 * floors[0] + floors[1] + 1e-10
        )
        assert tree.energy - found.energy >= found.gap * max(floors) - 1e-10
        # A tree is no better than the best state of the rank of its widest cut.
        assert tree.energy >= least_energies(exact, HALF8, [chi])[0].energy - 1e-8
    assert kappa(best, found.energy, _space(model)) > 0.5


def _space(model: str):
    return case(model, 8)[0].hamiltonian.space


@pytest.mark.parametrize("rank", [1, 2, 4])
def test_no_trained_state_of_a_rank_is_lower(rank, rng) -> None:
    """Gradient descent on psi = a b from random starts, against alternating sweeps."""
    from scipy.optimize import minimize

    _, found, exact = case("tfim", 8)
    least = least_energies(exact, HALF8, [rank])[0].energy
    matrix = exact.matrix

    def loss(x: np.ndarray) -> tuple[float, np.ndarray]:
        a, b = x[: 16 * rank].reshape(16, rank), x[16 * rank :].reshape(rank, 16)
        psi = (a @ b).reshape(-1)
        norm = psi @ psi
        applied = matrix @ psi
        energy = psi @ applied / norm
        force = (2 * (applied - energy * psi) / norm).reshape(16, 16)
        return energy, np.concatenate([(force @ b.T).ravel(), (a.T @ force).ravel()])

    ends = [
        minimize(loss, rng.normal(size=32 * rank), jac=True, method="L-BFGS-B").fun
        for _ in range(4)
    ]
    assert least <= min(ends) + 1e-7
    assert min(ends) == pytest.approx(least, abs=1e-3)
    assert found.energy is not None and least > found.energy


def test_rank_eight_of_the_heisenberg_ring() -> None:
    """What truncations and sweeps of the ring of 16 reach, against the table.

    Where a bond cuts a spin multiplet, the energy depends on which of its states is
    kept: those digits are not unique.
    """
    _, found, exact = case("heisenberg", 16)
    assert found.energy is not None
    best = least_energies(exact, HALF16, [8])[0]
    assert best.energy - found.energy == pytest.approx(1.36e-2, abs=5e-5)
    for chi4, chi8, infidelity, energy, unique in (
        (4, 4, 7.67e-2, 1.36e-1, False),
        (8, 8, 1.33e-2, 3.82e-2, True),
        (12, 12, 4.12e-3, 1.32e-2, False),
        (16, 16, 6.02e-4, 1.37e-3, True),
        (16, 24, 4.6e-5, 1.7e-4, False),
    ):
        tree = truncated_tree(exact, range(16), [2, 4, chi4, chi8])
        rel = 4e-3 if unique else 3e-2
        assert tree.infidelity == pytest.approx(infidelity, rel=rel)
        assert tree.energy - found.energy == pytest.approx(energy, rel=rel)


def test_verdicts_and_certificates() -> None:
    _, found, _ = case("heisenberg", 16)
    dims = (2,) * 16
    group = np.arange(16)[None]
    some = verdicts_of(found, carries(4), group, dims, 1e-3)
    half, first = some[-1], some[0]
    assert first.status == "trivial" and first.floor == 0
    assert half.status == "limited" and half.capacity is not None
    assert half.free_floor == pytest.approx(3.54e-2, abs=1e-4)
    assert half.floor is not None and half.floor < half.free_floor
    assert half.utilisation == pytest.approx(found.cuts[-1].s1 / math.log(4))  # type: ignore
    # An odd block has no singlet that fits into so few states.
    assert bottleneck(some).region == tuple(range(7))  # type: ignore[union-attr]
    certain = certificate(found, some)
    assert certain.region == HALF16 and certain.infidelity == half.floor
    assert certain.energy == pytest.approx(found.gap * half.floor)  # type: ignore
    more = verdicts_of(found, carries(24), group, dims, 1e-3)
    assert certificate(found, more).energy < certain.energy  # type: ignore[operator]
    assert more[-1].status == "ok"
    none = verdicts_of(found, None, group, dims, 1e-3)
    assert none[-1].status is None and certificate(found, none).energy is None


def test_the_worst_image_counts() -> None:
    """A chain holds a block in its middle better than one at its end."""
    _, found, _ = case("heisenberg", 8)

    def held(regions):
        ends = [Capacity(*[math.log(2 if 0 in r else 4)] * 3, "tree") for r in regions]
        return ends

    pairs = list(zip(((0, 1), (3, 4)), held([(0, 1), (3, 4)]), strict=True))
    one = verdict(found.cuts[1], pairs, (2,) * 8, 1e-3)
    assert one.region == (0, 1)
    assert one.capacity is not None and one.capacity.ln_upper == math.log(2)


def test_no_certificate_without_an_exact_single_ground_state() -> None:
    job = vmc.Job(
        lattice={"name": "chain", "size": [8]}, hamiltonian={"name": "majumdar_ghosh"}
    )
    found = required_exactly(build_system(job).hamiltonian, [CutSpec(HALF8, "given")])
    some = verdicts_of(found, carries(1), np.arange(8)[None], (2,) * 8, 1e-3)
    assert some[0].floor is None and some[0].free_floor is None
    certain = certificate(found, some)
    assert certain.energy is None and certain.infidelity is None
    assert "2-fold" in str(certain.why_not)

    cut = RequiredCut(HALF8, "given", None, 3.0, None, None, "mc", 0.01)
    rough = Required((cut,), -1.0, None, None, "mc")
    held = verdicts_of(rough, carries(4), np.arange(8)[None], (2,) * 8, 1e-3)
    assert held[0].status == "limited"  # S2 above ln 4
    assert held[0].floor == pytest.approx(1 - math.sqrt(4 * math.exp(-3.0)))
    assert certificate(rough, held).energy is None

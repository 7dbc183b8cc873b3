"""Published numbers of rings and the 4 x 4 torus, by named model."""

import itertools

import numpy as np
import pytest

from hamiltonians import LATTICES, MODELS
from hamiltonians.compile import compile_operator
from hamiltonians.diagonalise import ground_states
from hamiltonians.entropies import entanglement
from hamiltonians.symmetric import symmetry_sector


def lowest_by_momentum(model: str, n: int, **couplings) -> list[float]:
    """Lowest energies of the sectors k = 0, pi with both spin-flip parities."""
    lattice = LATTICES["chain"](n)
    ham = compile_operator(MODELS[model](lattice, **couplings), n, total_sz=0)
    energies = [
        ground_states(ham, symmetry=symmetry_sector(ham, lattice, [m], flip)).energies
        for m, flip in itertools.product((0, n // 2), (1, -1))
    ]
    return sorted(float(e[0]) for e in energies)


@pytest.mark.parametrize(("n", "energy"), [(8, -3.0), (12, -4.5), (20, -7.5)])
def test_majumdar_ghosh_ring_has_two_dimer_states(n: int, energy: float) -> None:
    first, second, third, _ = lowest_by_momentum("majumdar_ghosh", n)
    assert first == pytest.approx(energy, rel=1e-10)
    assert second == pytest.approx(energy, rel=1e-10)
    assert third > energy + 0.1


@pytest.mark.parametrize(
    ("J2", "energy"),
    [(0.0, -8.9043865299), (0.2, -8.2029162522), (0.5, -7.5), (0.8, -8.4612724090)],
)
def test_j1j2_ring_of_20(J2: float, energy: float) -> None:
    assert lowest_by_momentum("j1j2", 20, J2=J2)[0] == pytest.approx(energy, abs=2e-10)


@pytest.mark.parametrize(
    ("J2", "energy", "s1", "s2"),
    [
        (0.0, -11.2284832084, 1.82093508, 1.12774677),
        (0.5, -8.4579233514, 2.16196547, 0.93238812),
    ],
)
def test_torus_of_16(J2: float, energy: float, s1: float, s2: float) -> None:
    lattice = LATTICES["square"]([4, 4])
    ham = compile_operator(MODELS["j1j2"](lattice, J2=J2), 16, total_sz=0)
    levels = ground_states(ham)
    assert levels.energies[0] == pytest.approx(energy, abs=1e-10)
    cut = entanglement(ham.space, levels.vectors[:, 0], range(8))
    assert cut.s1 == pytest.approx(s1, abs=1e-8)
    assert cut.s2 == pytest.approx(s2, abs=1e-8)


@pytest.mark.parametrize(("n", "s2"), [(8, 0.48175026904), (10, 0.51158726948)])
def test_critical_ising_ring(n: int, s2: float) -> None:
    lattice = LATTICES["chain"](n)
    ham = compile_operator(MODELS["tfim"](lattice), n)
    levels = ground_states(ham)
    energy = -2 / np.sin(np.pi / (2 * n))
    assert levels.energies[0] == pytest.approx(energy, rel=1e-12)
    cut = entanglement(ham.space, levels.vectors[:, 0], range(n // 2))
    assert cut.s2 == pytest.approx(s2, abs=1e-10)

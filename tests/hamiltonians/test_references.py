"""Every reference case: named model, terms file, ground energy, trial states.

The data come from two independent diagonalisation programs; see tests/data/README.md.
"""

import functools
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ansatze import rbm
from hamiltonians import LATTICES, MODELS
from hamiltonians.compile import TermHamiltonian, compile_operator
from hamiltonians.diagonalise import ground_states
from hamiltonians.exact import exact_energy
from hamiltonians.symmetric import symmetry_sector
from hamiltonians.termfiles import load_terms
from vmc.base import Problem
from vmc.estimators import local_energies

DATA = Path(__file__).parents[1] / "data"
CASES = json.loads((DATA / "energies.json").read_text())
FILED = [name for name in CASES if (DATA / "terms" / f"{name}.json").exists()]
#: Larger ones, by named model only.
NAMED = [name for name in CASES if name not in FILED]

#: Largest sector, in states, of the fast tier.
FAST_STATES = 1024


@functools.cache
def from_file(name: str) -> TermHamiltonian:
    op, n_sites, total_sz = load_terms(DATA / "terms" / f"{name}.json")
    return compile_operator(op, n_sites, total_sz=total_sz)


def tiers(names: list[str]) -> list:
    """Large cases belong to the slow tier."""
    return [
        pytest.param(
            name,
            marks=()
            if from_file(name).space.n_states <= FAST_STATES
            else pytest.mark.slow,
        )
        for name in names
    ]


def test_there_are_all_cases() -> None:
    assert len(FILED) == 112
    assert len(NAMED) == 7
    assert sum("trial_states_E_var" in CASES[name] for name in FILED) == 92


@pytest.mark.parametrize("name", FILED)
def test_named_models_are_the_terms_files(name: str) -> None:
    model, family, size, periodic, couplings = CASES[name]["model"]
    lattice = LATTICES[family](size, periodic)
    op, n_sites, total_sz = load_terms(DATA / "terms" / f"{name}.json")
    named = MODELS[model](lattice, **couplings)
    assert lattice.n_sites == n_sites
    assert named == op
    compiled = compile_operator(named, n_sites, total_sz=total_sz)
    filed = from_file(name)
    assert type(compiled) is type(filed) is TermHamiltonian
    np.testing.assert_array_equal(compiled.moves.sites, filed.moves.sites)
    np.testing.assert_array_equal(compiled.moves.shift, filed.moves.shift)


@pytest.mark.parametrize("name", tiers(FILED))
def test_ground_energies(name: str) -> None:
    levels = ground_states(from_file(name))
    assert levels.energies[0] == pytest.approx(CASES[name]["energy"], rel=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMED)
def test_ground_energies_of_24_sites(name: str) -> None:
    """In the sector k = 0 (where periodic) with the spin-flip parity of the state.

    The parity is +1: that of prod sigma^x for the Ising rings, and (-1)^(N / 2 - S)
    of a singlet for even N / 2.
    """
    model, family, size, periodic, couplings = CASES[name]["model"]
    lattice = LATTICES[family](size, periodic)
    total_sz = None if model == "tfim" else 0.0
    ham = compile_operator(MODELS[model](lattice, **couplings), 24, total_sz=total_sz)
    momentum = [0] * len(size) if periodic else None
    sector = symmetry_sector(ham, lattice, momentum, spin_flip=1)
    energy, digits = CASES[name]["energy"], CASES[name]["uncertainty"]
    found = ground_states(ham, symmetry=sector).energies[0]
    assert found == pytest.approx(energy, rel=1e-10, abs=digits)
    answer = exact_energy(model, lattice, couplings, total_sz)
    assert (answer is None) == (CASES[name]["kind"] == "ED")
    assert answer is None or answer[0] == pytest.approx(energy, rel=1e-10)


def closed_form_rbm(n_sites: int) -> dict[str, np.ndarray]:
    """The fixed complex state of the data, as parameters of the ansatz."""
    a, i = np.arange(n_sites)[:, None], np.arange(n_sites)[None, :]
    weights = 0.15 * np.cos(0.7 * a + 1.3 * i) + 0.05j * np.sin(1.1 * a - 0.4 * i)
    return {
        "W": weights.T,
        "a": 0.1j * np.sin(np.arange(n_sites) + 1),
        "b": np.zeros(n_sites, complex),
    }


@pytest.mark.parametrize(
    "name", tiers([n for n in FILED if "trial_states_E_var" in CASES[n]])
)
def test_trial_states_have_their_exact_energy_and_variance(name: str) -> None:
    ham = from_file(name)
    n_sites = ham.space.n_sites
    wavefunction = rbm(Problem(ham.space, dtype="complex"), alpha=1)
    sigma = jnp.asarray(ham.space.all_states())
    trials = CASES[name]["trial_states_E_var"]
    assert sorted(label.partition(":")[0] for label in trials) == ["rbm", "uniform"]

    @jax.jit
    def evaluated(ham, params, sigma):
        e_loc = local_energies(wavefunction, ham, params, sigma, 4096)
        return e_loc, wavefunction.log_psi(params, sigma)

    for label, (energy, variance) in trials.items():
        given = closed_form_rbm(n_sites)
        if label.startswith("uniform"):
            given = {key: np.zeros_like(value) for key, value in given.items()}
        params = {key: jnp.asarray(value) for key, value in given.items()}
        e_loc, log_psi = map(np.asarray, evaluated(ham, params, sigma))
        weight = np.exp(2 * (np.real(log_psi) - np.real(log_psi).max()))
        weight /= weight.sum()
        mean = weight @ e_loc
        # The sum cancels from the largest local energies down to the mean.
        scale = np.abs(e_loc).max()
        assert mean == pytest.approx(energy, abs=1e-12 * scale)
        assert weight @ np.abs(e_loc - mean) ** 2 == pytest.approx(
            variance, abs=1e-12 * scale**2
        )

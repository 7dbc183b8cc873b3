"""Runs that build on earlier runs: warm starts and independent proposals."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import vmc
from vmc import runs
from vmc.errors import JobError

KEYS: dict[str, Any] = {
    "lattice": {"name": "chain", "size": [6], "periodic": False},
    "hamiltonian": {"name": "tfim"},
    "run": {"n_steps": 40, "steps_per_dispatch": 20},
    "sampler": {"n_chains": 256},
    "measure": {"n_samples": 2048},
}
MPS = {"name": "mps", "bond_dimension": 2}


def job(**sections: Any) -> vmc.Job:
    merged = {name: KEYS.get(name, {}) | keys for name, keys in sections.items()}
    return vmc.Job(**KEYS | merged)


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "mps"
    vmc.run(job(ansatz=MPS, run={"out": str(folder)}))
    return folder


def test_the_same_ansatz_goes_on_from_the_parameters(earlier: Path) -> None:
    again = vmc.build(job(ansatz=MPS, run={"start_from": str(earlier)}))
    state = again.first_state()
    kept = vmc.load(earlier).params
    for one, other in zip(vars_of(state.params), vars_of(kept), strict=True):
        np.testing.assert_array_equal(one, other)


def vars_of(tree: Any) -> list[np.ndarray]:
    return [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]


def test_a_larger_one_holds_the_same_state(earlier: Path) -> None:
    """Both are normalised distributions: their overlap is a sum over 64 states."""
    keys = MPS | {"bond_dimension": 4}
    later = vmc.build(job(ansatz=keys, run={"start_from": str(earlier)}))
    states = later.hamiltonian.space.all_states()

    def density(wavefunction: Any, params: Any) -> np.ndarray:
        log_psi = np.asarray(wavefunction.log_psi(params, states)).real
        p = np.exp(2 * (log_psi - log_psi.max()))
        return p / p.sum()

    run = vmc.load(earlier)
    want = density(run.wavefunction, run.params)
    state = later.first_state()
    got = density(later.wavefunction, state.params)
    random = density(later.wavefunction, later.vmc.init().params)
    np.testing.assert_allclose(got, want, rtol=1e-9)
    assert np.sum(np.sqrt(random * want)) < 0.99, "any state would have passed"


def test_what_cannot_be_started_from(earlier: Path, tmp_path: Path) -> None:
    start = {"start_from": str(earlier)}
    with pytest.raises(JobError, match="Only an ansatz whose norm is known"):
        vmc.build(job(ansatz={"name": "jastrow"}, run=start)).first_state()
    with pytest.raises(JobError, match="has 6 sites .* this job 8"):
        sizes = {"size": [8]}
        vmc.build(job(ansatz=MPS, lattice=sizes, run=start)).first_state()
    # Before there is a folder.
    with pytest.raises(JobError, match="Only an ansatz whose norm is known"):
        runs.start(job(ansatz={"name": "jastrow"}, run=start), out=tmp_path / "new")
    assert not (tmp_path / "new").exists()
    with pytest.raises(JobError, match="there is no run directory"):
        nowhere = {"start_from": str(tmp_path / "x")}
        vmc.build(job(ansatz=MPS, run=nowhere)).first_state()


@pytest.mark.slow
def test_a_run_proposes_for_another_ansatz(earlier: Path) -> None:
    sampler = {"name": "independent", "proposal": str(earlier)}
    result = vmc.run(job(ansatz={"name": "jastrow"}, sampler=sampler))
    acceptance = result.series["acceptance"]
    assert 0.2 < acceptance[0] < 1
    # The proposal is close to the ground state, which psi approaches.
    assert acceptance[-5:].mean() > max(0.8, acceptance[:5].mean())
    assert result.energy is not None
    exact = result.built.exact()
    assert exact is not None
    assert abs(result.energy.mean / exact["energy"] - 1) < 0.01
    assert result.energy.mean > exact["energy"] - 4 * result.energy.error


@pytest.mark.slow
def test_a_convolution_goes_to_a_larger_lattice(tmp_path: Path) -> None:
    def square(side: int, **run: Any) -> vmc.Job:
        return vmc.Job(
            lattice={"name": "square", "size": [side, side]},
            hamiltonian={"name": "tfim", "h": 3.0},
            # A product over positions means the same on any number of them.
            ansatz={
                "name": "cnn",
                "channels": 4,
                "depth": 1,
                "kernel_size": 3,
                "readout": "product",
            },
            sampler={"n_chains": 128, "n_samples": 512},
            run=run,
            measure={"n_samples": 512},
        )

    small = tmp_path / "small"
    vmc.run(square(4, n_steps=60, out=str(small)))
    built = vmc.build(square(6, n_steps=1, start_from=str(small)))
    energy = built.vmc.measure(built.first_state(), 4096)
    random = built.vmc.measure(built.vmc.init(), 4096)
    # All spins along x: -3 per site.
    assert energy.mean < -3 * 36 - 4 * energy.error
    assert energy.mean < random.mean - 10 * (energy.error + random.error)
    exact = -115.23270730
    assert energy.mean > exact - 4 * energy.error
    other = square(6, n_steps=1, start_from=str(small))
    wider = vmc.build(other.replace({"ansatz": {"channels": 6}}))
    with pytest.raises(JobError, match="can start a run on another lattice"):
        wider.first_state()

"""Excited states: penalties on the overlap with earlier runs."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import vmc
from tests.engine.helpers import MeshOf, flat, hamiltonian, heisenberg, made, matrix
from tests.engine.helpers import tfim as tfim_terms
from vmc import checkpoint, runlog
from vmc.driver import VMC
from vmc.errors import JobError
from vmc.moves import local_flips
from vmc.penalties import Accompanied, Penalty
from vmc.samplers import full, metropolis
from vmc.space import spins

N = 6
KEYS: dict[str, Any] = {
    "lattice": {"name": "chain", "size": [N]},
    "hamiltonian": {"name": "tfim"},
    "ansatz": {"name": "rbm", "alpha": 2},
    "sampler": {"name": "full"},
    "optimizer": {"name": "sr", "diag_shift": 1e-4},
    "run": {"n_steps": 200, "steps_per_dispatch": 50},
}
LEVELS = np.linalg.eigvalsh(matrix(spins(N), tfim_terms(N)))


def job(**sections: Any) -> vmc.Job:
    merged = {name: KEYS.get(name, {}) | keys for name, keys in sections.items()}
    return vmc.Job(**KEYS | merged)


def excited(*runs: Path, **sections: Any) -> vmc.Job:
    """A job whose psi is to be orthogonal to these runs."""
    keys = {"orthogonal_to": [str(run) for run in runs]} | sections.pop("run", {})
    return job(run=keys, **sections)


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "ground"
    result = vmc.run(job(run={"out": str(folder)}))
    assert result.energy is not None
    assert abs(result.energy.mean / LEVELS[0] - 1) < 1e-4
    return folder


@pytest.fixture(scope="module")
def first(ground: Path) -> vmc.Result:
    """The first excited state, by a full sum."""
    out = str(ground.parent / "first")
    return vmc.run(excited(ground, run={"out": out, "n_steps": 400}))


def test_the_next_state_is_the_first_excited_one(
    ground: Path, first: vmc.Result
) -> None:
    assert first.energy is not None
    assert abs(first.energy.mean / LEVELS[1] - 1) < 1e-3
    assert LEVELS[1] - LEVELS[0] > 10 * abs(first.energy.mean - LEVELS[1])
    # What was left is in the report and on disk, and explains the series.
    stored = runlog.read(ground.parent / "first").result
    assert stored is not None
    table = stored["observables"]["overlaps"]
    assert table["run"] == [str(ground)] and table["error"] == [0.0]
    assert -1e-9 < table["mean"][0] < 1e-3
    strength = first.built.job.run.penalty
    assert strength == 4.0 and not isinstance(strength, str)
    penalised = first.energy.mean + strength * table["mean"][0]
    np.testing.assert_allclose(first.series["energy"][-1], penalised, rtol=1e-5)
    assert first.series["energy"][0] > LEVELS[0] + 1
    assert stored["exact"] is None and stored["relative_error"] is None
    assert first.built.problem.dtype == "complex"
    assert any("an excited state has nodes" in text for text in stored["warnings"])


# ---- the penalised energy and its gradient --------------------------------------


def penalised(
    mesh: jax.sharding.Mesh, sampled: bool = False, optimizer: Any = None
) -> tuple[VMC, Penalty, Any]:
    """A complex psi, another complex phi in another sign gauge; parameters of psi."""
    space = spins(4) if sampled else spins(5, total_sz=0.5)
    wf, params = made("split", space, 0.2)
    phi, theirs = made("rbm-complex", space, 0.4)
    terms = tfim_terms(4) if sampled else heisenberg(5)
    ham = hamiltonian(space, terms)

    def sampler(wf: Any) -> Any:
        if not sampled:
            return full(wf, space, n_rows=-(-space.n_states // mesh.size) * mesh.size)
        sizes = {"n_chains": 16, "n_draws": 3, "n_devices": mesh.size}
        return metropolis(wf, space, local_flips(space), **sizes)

    penalty = Penalty(
        "phi",
        ham,
        phi,
        jax.tree.map(np.asarray, theirs),
        sampler(phi),
        1.7,
        np.resize([1, -1, -1], space.n_sites),
        3 if sampled else 0,
    )
    search = VMC(
        ham,
        wf,
        sampler(wf),
        optimizer or optax.sgd(0.01),
        mesh=mesh,
        burn_in=3 if sampled else 0,
        penalties=(penalty,),
    )
    return search, penalty, params


def dense_energy(
    params: Any, search: VMC, penalty: Penalty, h: np.ndarray
) -> jax.Array:
    """E + lambda |<psi|phi>|^2 on the full basis."""
    states = penalty.hamiltonian.space.all_states()
    psi = jnp.exp(search.wavefunction.log_psi(params, states))
    phi = jnp.exp(penalty.wavefunction.log_psi(penalty.params, states))
    assert penalty.signs is not None
    phi = phi * np.prod(penalty.signs[None] ** ((1 - states) // 2), axis=1)
    norm = jnp.vdot(psi, psi).real
    overlap = jnp.abs(jnp.vdot(phi, psi)) ** 2 / norm / jnp.vdot(phi, phi).real
    return jnp.vdot(psi, h @ psi).real / norm + penalty.strength * overlap


@pytest.mark.parametrize(
    "n_devices", [pytest.param(1, marks=pytest.mark.slow), 4], ids=str
)
def test_a_step_follows_the_gradient_of_the_penalised_energy(
    mesh_of: MeshOf, n_devices: int
) -> None:
    search, penalty, params = penalised(mesh_of(n_devices))
    h = matrix(spins(5, total_sz=0.5), heisenberg(5))
    args = (search, penalty, h)
    value, gradient = jax.value_and_grad(dense_energy)(params, *args)
    state, records = search.advance(search.init(params), 1)
    np.testing.assert_allclose(records["energy"], value, rtol=1e-12)
    moved = (flat(state.params) - flat(params)) / -0.01
    np.testing.assert_allclose(moved, flat(gradient), atol=1e-8)
    without = jax.grad(dense_energy)(
        params, search, dataclasses.replace(penalty, strength=0.0), h
    )
    assert np.abs(moved - flat(without)).max() > 1e-2, "the penalty does nothing"
    # The measurement knows H alone.
    alone = dense_energy(
        state.params, search, dataclasses.replace(penalty, strength=0.0), h
    )
    np.testing.assert_allclose(search.measure(state, 1).mean, alone, rtol=1e-12)


# ---- samples ---------------------------------------------------------------------


@pytest.mark.slow
def test_devices_share_all_walkers_and_a_checkpoint_has_them(
    mesh_of: MeshOf, tmp_path: Path
) -> None:
    found = []
    for n_devices in (1, 2):
        search, _, params = penalised(mesh_of(n_devices), sampled=True)
        state, records = search.advance(search.init(params), 3)
        assert isinstance(state.chains, Accompanied)
        found.append((records["energy"], *jax.tree.leaves(state.chains)))
    for one, two in zip(*found, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-10)
    path = checkpoint.save(tmp_path, state, job={}, provenance={}, series={})
    again = checkpoint.load(path, search.init(params))
    ends = [search.advance(x, 3) for x in (state, again)]
    np.testing.assert_array_equal(ends[0][1]["energy"], ends[1][1]["energy"])
    for one, two in zip(*(jax.tree.leaves(e[0]._replace(key=0)) for e in ends)):
        np.testing.assert_array_equal(one, two)


@pytest.mark.slow
def test_a_sampled_penalty_is_the_exact_one_on_average(mesh_of: MeshOf) -> None:
    still = optax.sgd(0.0)
    search, penalty, params = penalised(mesh_of(1), True, still)
    state, energies = search.init(params), []
    for _ in range(300):
        state, records = search.advance(state, 10)
        energies.extend(records["energy"])
    h = matrix(spins(4), tfim_terms(4))
    want = float(dense_energy(params, search, penalty, h))
    blocks = np.reshape(energies, (60, -1)).mean(axis=1)
    error = blocks.std(ddof=1) / np.sqrt(len(blocks))
    assert error < 0.02
    assert abs(blocks.mean() - want) < 4 * error


@pytest.mark.slow
def test_samples_find_the_first_excited_state(ground: Path) -> None:
    result = vmc.run(
        excited(
            ground,
            sampler={"name": "auto", "n_chains": 256, "n_samples": 1024},
            optimizer={"diag_shift": 1e-3},
            run={"n_steps": 500},
            measure={"n_samples": 1 << 14},
        )
    )
    assert result.energy is not None
    assert abs(result.energy.mean / LEVELS[1] - 1) < 1e-2
    table = result.report["observables"]["overlaps"]
    assert abs(table["mean"][0]) < 1e-2 and 0 < table["error"][0] < 1e-2


@pytest.mark.slow
def test_two_runs_give_the_second_excited_state(
    ground: Path, first: vmc.Result
) -> None:
    assert first.folder is not None
    result = vmc.run(excited(ground, first.folder, run={"n_steps": 600}))
    assert result.energy is not None
    assert abs(result.energy.mean / LEVELS[2] - 1) < 1e-3
    assert max(result.report["observables"]["overlaps"]["mean"]) < 1e-3


# ---- what cannot be penalised ----------------------------------------------------


def test_bad_input(ground: Path, tmp_path: Path) -> None:
    with pytest.raises(JobError, match="there is no run directory"):
        vmc.build(excited(tmp_path / "nothing"))
    with pytest.raises(JobError, match="has 6 sites .* this job 4"):
        vmc.build(excited(ground, lattice={"size": [4]}))
    with pytest.raises(JobError, match="is the folder of this run itself"):
        vmc.build(excited(ground, run={"out": str(ground)}))
    with pytest.raises(JobError, match="names the run .* twice"):
        vmc.build(excited(ground, ground))
    with pytest.raises(JobError, match="different sectors are orthogonal anyway"):
        vmc.build(excited(ground, hamiltonian={"name": "heisenberg", "total_sz": 1}))
    with pytest.raises(JobError, match="penalty goes with orthogonal_to"):
        job(run={"penalty": 1.0})
    with pytest.raises(JobError, match="positive and finite"):
        excited(ground, run={"penalty": -1.0})


def test_what_is_doubtful_is_said(ground: Path) -> None:
    other = excited(ground, hamiltonian={"h": 2.0}, ansatz={"dtype": "real"})
    warnings = "\n".join(vmc.build(other).warnings)
    assert "is of another Hamiltonian" in warnings
    assert "this psi is positive" in warnings

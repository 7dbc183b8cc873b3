"""The sampler that visits everything: no noise, on any mesh."""

import jax
import numpy as np
import optax
import pytest

from tests.engine.helpers import (
    MeshOf,
    amplitudes,
    hamiltonian,
    jacobian,
    made,
    matrix,
)
from vmc import samplers
from vmc.driver import VMC
from vmc.errors import JobError
from vmc.precondition import sr
from vmc.samplers import full
from vmc.space import spins

SHIFT, RATE = 1e-2, 0.1


def search(mesh: jax.sharding.Mesh, form: str = "dense") -> VMC:
    """10 states: four devices do not share them evenly."""
    space = spins(5, total_sz=0.5)
    wf, _ = made("rbm-complex", space)
    tx = optax.chain(sr(SHIFT, form=form), optax.scale_by_learning_rate(RATE))
    sampler = full(wf, space, n_rows=-(-space.n_states // mesh.size) * mesh.size)
    ham = hamiltonian(space, bonds())
    return VMC(ham, wf, sampler, tx, mesh=mesh, burn_in=0, seed=3)


def bonds() -> list:
    """A Heisenberg ring of five: frustrated."""
    ring = [(i, (i + 1) % 5) for i in range(5)]
    return [(0.25, {i: p, j: p}) for i, j in ring for p in "XYZ"]


@pytest.mark.parametrize(
    ("n_devices", "form"),
    [pytest.param(1, "dense", marks=pytest.mark.slow), (4, "kernel")],
)
def test_a_step_is_the_exact_natural_gradient(
    mesh_of: MeshOf, n_devices: int, form: str
) -> None:
    vmc = search(mesh_of(n_devices), form)
    state = vmc.init()
    space, wf = vmc.hamiltonian.space, vmc.wavefunction
    h, psi = matrix(space, bonds()), amplitudes(wf, state.params, space)
    p = np.abs(psi) ** 2
    eloc = h @ psi / psi
    energy = p @ eloc
    new, records = vmc.advance(state, 1)
    np.testing.assert_allclose(records["energy"], energy.real, rtol=1e-12)
    spread = p @ np.abs(eloc - energy) ** 2
    np.testing.assert_allclose(records["variance"], spread, rtol=1e-10)
    assert records["error"] < 1e-15 and records["acceptance"] == 1

    o = jacobian(wf, state.params, space.all_states())
    o = (o - p @ o) * np.sqrt(p)[:, None]
    s, force = o.conj().T @ o, o.conj().T @ ((eloc - energy) * np.sqrt(p))
    shift = SHIFT * np.trace(s).real / min(s.shape[0], vmc.sampler.n_chains)
    step = -RATE * np.linalg.solve(s + shift * np.eye(len(s)), force)
    moved = [
        (np.asarray(b) - np.asarray(a)).reshape(-1)
        for a, b in zip(jax.tree.leaves(state.params), jax.tree.leaves(new.params))
    ]
    np.testing.assert_allclose(np.concatenate(moved), step, atol=1e-10)


def test_the_measurement_is_the_expectation_value(mesh_of: MeshOf) -> None:
    vmc = search(mesh_of(4))
    state, _ = vmc.advance(vmc.init(), 5)
    space = vmc.hamiltonian.space
    h, psi = matrix(space, bonds()), amplitudes(vmc.wavefunction, state.params, space)
    found, energy = vmc.measure(state, 1), (psi.conj() @ h @ psi).real
    np.testing.assert_allclose(found.mean, energy, rtol=1e-12)
    assert found.error == 0
    want = np.linalg.norm(h @ psi - energy * psi) ** 2
    np.testing.assert_allclose(found.variance, want, rtol=1e-9)


def test_without_noise_the_energy_only_falls(mesh_of: MeshOf) -> None:
    vmc = search(mesh_of(1))
    state = vmc.init()
    energies = []
    for _ in range(6):
        state, records = vmc.advance(state, 10)
        energies.extend(records["energy"])
    assert np.all(np.diff(energies) < 1e-12)
    exact = np.linalg.eigvalsh(matrix(vmc.hamiltonian.space, bonds()))[0]
    assert 0 < energies[-1] / exact <= 1 + 1e-12
    assert energies[-1] - exact < 0.05 * (energies[0] - exact)


def test_what_is_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samplers, "FULL_STATES", 15)
    space = spins(4)
    wf, _ = made("rbm-real", space)
    with pytest.raises(JobError, match="there are 16; it takes at most 15"):
        full(wf, space)
    with pytest.raises(JobError, match="one draw, not 2"):
        full(wf, spins(4, total_sz=0)).with_draws(2)
    with pytest.raises(JobError, match="n_rows is 5: there are 6"):
        full(wf, spins(4, total_sz=0), n_rows=5)

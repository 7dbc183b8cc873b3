"""MARCH against dense NumPy on the full basis: its recursion, in both forms."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.engine.helpers import (
    MeshOf,
    amplitudes,
    flat,
    hamiltonian,
    jacobian,
    made,
    matrix,
    on_mesh,
    twisted,
)
from vmc.errors import JobError
from vmc.estimators import local_energies
from vmc.geometry import Geometry
from vmc.precondition import LEAST_CHANGE, march
from vmc.space import spins

SHIFT, MU, BETA = 1e-2, 0.8, 0.7


@functools.cache
def exact(kind: str) -> tuple[np.ndarray, np.ndarray]:
    """S and F of the normalised state, from derivatives of psi itself."""
    wf, params = made(kind, spins(4))
    psi, h = amplitudes(wf, params, spins(4)), matrix(spins(4), twisted(4))
    dpsi = psi[:, None] * jacobian(wf, params, spins(4).all_states())
    overlap, energy = psi.conj() @ dpsi, (psi.conj() @ h @ psi).real
    s = dpsi.conj().T @ dpsi - np.outer(overlap.conj(), overlap)
    force = dpsi.conj().T @ (h @ psi - energy * psi)
    real = not np.iscomplexobj(flat(params))
    return (s.real, force.real) if real else (s, force)


def reference(kind: str, n_steps: int, rank: int) -> list[np.ndarray]:
    """x = argmin |O x - eps|^2 + lambda |D (x - mu previous)|^2, by its equations."""
    s, force = exact(kind)
    previous, changes, out = np.zeros_like(force), np.zeros(len(force)), []
    for _ in range(n_steps):
        largest = changes.max()
        d2 = np.sqrt(changes / largest + LEAST_CHANGE) if largest else 1 + changes
        shift = SHIFT * np.sum(np.diag(s).real / d2) / rank
        penalty = shift * np.diag(d2)
        x = np.linalg.solve(s + penalty, force + MU * penalty @ previous)
        changes = BETA * changes + np.abs(x - previous) ** 2
        previous = x
        out.append(x)
    return out


@pytest.mark.parametrize(
    ("kind", "form", "n_devices"),
    [
        ("split", "kernel", 4),
        ("rbm-complex", "dense", 4),
        pytest.param("split", "dense", 1, marks=pytest.mark.slow),
        pytest.param("rbm-complex", "kernel", 1, marks=pytest.mark.slow),
        pytest.param("jastrow-complex", "kernel", 2, marks=pytest.mark.slow),
        pytest.param("rbm-real", "dense", 2, marks=pytest.mark.slow),
        pytest.param("rbm-real", "kernel", 4, marks=pytest.mark.slow),
    ],
)
def test_march_is_its_recursion(
    mesh_of: MeshOf, kind: str, form: Any, n_devices: int
) -> None:
    wf, params = made(kind, spins(4))
    states = spins(4).all_states()
    weights = np.abs(amplitudes(wf, params, spins(4))) ** 2
    ham, tx = (
        hamiltonian(spins(4), twisted(4)),
        march(SHIFT, momentum=MU, decay=BETA, form=form),
    )

    def run(ham: Any, params: Any, sigma: Any, weights: Any) -> Any:
        eloc = local_energies(wf, ham, params, sigma)
        state, out = tx.init(params), []
        for _ in range(3):
            scores = functools.partial(wf.scores, params, sigma)
            geometry = Geometry(scores, params, eloc, weights=weights)
            x, state = tx.update(params, state, geometry=geometry)
            out.append(x)
        return out, state, jnp.asarray(geometry.n_rows)

    out, state, n_rows = on_mesh(
        mesh_of(n_devices), run, (ham, params), (states, weights)
    )
    want = reference(kind, 3, min(len(flat(params)), int(n_rows)))
    for x, y in zip(out, want, strict=True):
        assert jax.tree.map(jnp.shape, x) == jax.tree.map(jnp.shape, params)
        # A spin times itself has no score: dense rounding over the smallest scale.
        np.testing.assert_allclose(flat(x), y, atol=1e-7 * np.abs(y).max())
    # The scale matters: without it the second step is another one.
    s, force = exact(kind)
    plain = SHIFT * np.trace(s).real / min(len(s), int(n_rows)) * np.eye(len(s))
    spring = np.linalg.solve(s + plain, force + MU * plain @ want[0])
    assert np.abs(spring - want[1]).max() > 1e-3 * np.abs(want[1]).max()
    np.testing.assert_array_equal(flat(state.previous), flat(out[-1]))


def test_arguments_of_march() -> None:
    for decay in (1.0, -0.1):
        with pytest.raises(JobError, match=f"decay is {decay}"):
            march(decay=decay)

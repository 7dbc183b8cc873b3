"""Random parameters that walkers cannot leave are made smaller; others are not."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import Array

from tests.engine.helpers import MeshOf, on_mesh, tfim
from tests.engine.test_driver import make, run, same_states
from vmc import starts
from vmc.base import Params, Problem, WaveFunction
from vmc.driver import VMC
from vmc.keys import root_key
from vmc.space import Spins, spins
from vmc.wavefunction import from_functions


def product(space: Spins, size: float) -> WaveFunction:
    """log psi = sum of a_i sigma_i, |a_i| = size."""

    def init(key: Array) -> Params:
        return {"a": size * jax.random.rademacher(key, (space.n_sites,), float)}

    def log_psi(params: Params, sigma: Array) -> Array:
        return sigma.astype(params["a"].dtype) @ params["a"]

    return from_functions(init, log_psi, problem=Problem(space), range="positive")


def exact(a: np.ndarray) -> float:
    """<ln p>_p - <ln p>_u; sigma_i has the mean tanh 2 a_i."""
    return float(np.sum(2 * a * np.tanh(2 * a)))


@pytest.mark.parametrize("n_devices", [1, 4])
def test_unevenness_of_a_product(mesh_of: MeshOf, n_devices: int) -> None:
    space, a = spins(6), np.array([0.1, -0.4, 0.2, 0.7, 0.0, 0.3])
    wf = product(space, 1.0)

    def go(key: Array, params: Params) -> Array:
        return starts.unevenness(wf, params, space, key, 8192 // n_devices)

    found = on_mesh(mesh_of(n_devices), go, (root_key(1), {"a": jnp.asarray(a)}), ())
    assert float(found) == pytest.approx(exact(a), rel=0.03)
    flat = on_mesh(mesh_of(n_devices), go, (root_key(1), {"a": jnp.zeros(6)}), ())
    assert float(flat) == pytest.approx(0, abs=1e-12)


def test_what_is_too_uneven() -> None:
    def uneven(found: float, before: float, n: int = 8) -> bool:
        return bool(starts.is_uneven(jnp.asarray(found), jnp.asarray(before), n))

    assert uneven(4.1, np.inf) and not uneven(3.9, np.inf)
    assert uneven(51, np.inf, 100) and not uneven(49, np.inf, 100)
    # It does not come down: scales do not matter here, and once is enough.
    assert uneven(30, 40) and not uneven(38, 40)
    # Nothing to look at, or no number.
    assert not uneven(30, 0) and not uneven(np.nan, np.inf) and not uneven(np.inf, 9e9)


def search(mesh: Any) -> VMC:
    space = spins(6)
    tx = optax.sgd(1e-3)
    return make(product(space, 3.0), space, tfim(6), tx, n_chains=64, mesh=mesh)


def test_a_run_from_a_peak(mesh_of: MeshOf) -> None:
    """J = 36, 18, 8.1 and then 2.8."""
    vmc = search(mesh_of(4))
    state, first = vmc.advance(vmc.init(), 2)
    # What is seen next does not depend on cuts.
    state, second = run(vmc, 4, state)
    shrunk = np.concatenate([first["shrunk"], second["shrunk"]])
    np.testing.assert_array_equal(shrunk, [1, 1, 1, 0, 0, 0])
    assert not np.any(second["rejected"])
    np.testing.assert_allclose(np.abs(state.params["a"]), 3 / 8, atol=0.1)
    assert state.control.healing.uneven == 0
    assert len(state.control.window) == 3
    whole, _ = run(vmc, 6)
    same_states(whole, state)
    # What a user gives stays.
    given = {"a": 3.0 * np.ones(6)}
    _, records = vmc.advance(vmc.init(given), 2)
    assert not np.any(records["shrunk"])


def test_parameters_that_ignore_the_seed_are_not_random() -> None:
    assert starts.are_random(product(spins(4), 1.0).init)
    assert starts.are_random(lambda key: key)
    assert not starts.are_random(lambda key: {"a": 3 * jnp.ones(4)})

    def unasked(key: jax.Array) -> jax.Array:
        jax.random.split(key)
        return jnp.ones(4)

    assert not starts.are_random(unasked)

"""Steps are shortened where they overshoot, and only there."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import Array, lax

from tests.engine.helpers import MeshOf, hamiltonian, made, matrix
from tests.engine.test_full import bonds
from vmc import damping
from vmc.damping import EASE, MOST, RAISE, RELAX, Damping, Slopes
from vmc.driver import VMC
from vmc.precondition import limit_kl, sr
from vmc.samplers import full
from vmc.space import spins

YES = jnp.asarray(True)


def begin(factor: float = 1.0) -> Damping:
    known = damping.start(jnp.zeros(3), np.float64)
    return jax.tree.map(jnp.asarray, known._replace(factor=np.asarray(factor)))


def see(after: Any, before: Any, variance: Any = 0.0) -> Slopes:
    return Slopes(*(jnp.asarray(x, float) for x in (after, variance, before)))


# ---- without noise ---------------------------------------------------------------


@pytest.mark.parametrize("product", [0.05, 0.45, 0.55, 1.0, 1.45, 1.55, 2.5])
def test_gains_on_a_quadratic_energy(product: float) -> None:
    """E = sum c_i x_i^2 / 2; one step along the gradient, of some eta c."""
    curvature, x = np.array([1.0, 1.0, 1.0]), np.array([1.0, -2.0, 0.5])

    def energy(x: np.ndarray) -> float:
        return float(np.sum(curvature * x**2) / 2)

    step = -product * x
    before = float(damping.slope({"x": curvature * x}, {"x": step}))
    after = float(damping.slope({"x": curvature * (x + step)}, {"x": step}))
    # What is promised, what is got.
    assert (before + after) / 2 == pytest.approx(energy(x + step) - energy(x))
    assert after / before == pytest.approx(1 - product)
    gain = (energy(x + step) - energy(x)) / before
    known = damping.learned(begin(10.0), see(0, before), jnp.asarray(x), YES, YES)
    assert float(known.factor) == 10.0, "there was no step before"
    known = damping.learned(known, see(after, 0), jnp.asarray(x), YES, YES)
    expected = 10 * RAISE if gain < 0.25 else 10 / (RELAX if gain > 0.75 else EASE)
    assert float(known.factor) == pytest.approx(expected)


def test_limits_and_gaps() -> None:
    x = jnp.zeros(3)

    def after(factor: float, slope: float, *flags: Array) -> Damping:
        known = damping.learned(begin(factor), see(0, -1.0), x, YES, flags[1])
        return damping.learned(known, see(slope, -1.0), x, flags[0], YES)

    no = jnp.asarray(False)
    assert after(MOST, 5.0, YES, YES).factor == MOST
    assert after(1.0, -1.0, YES, YES).factor == 1.0
    # A step that was taken back, and a point that is bad, say nothing.
    assert after(7.0, 5.0, YES, no).factor == 7.0
    assert after(7.0, 5.0, no, YES).factor == 7.0
    # Nor does an optimiser without scores.
    known = begin(7.0)
    for _ in range(3):
        known = damping.learned(known, see(np.nan, np.nan, np.nan), x, YES, YES)
    assert known.factor == 7.0
    turned = damping.slope({"x": jnp.asarray([1 + 2j])}, {"x": jnp.asarray([3 - 1j])})
    assert turned == pytest.approx(1), "Re F^H d"


# ---- with noise ------------------------------------------------------------------


@functools.partial(jax.jit, static_argnums=1)
def _descent(rate: Array, n_steps: int, start: Array) -> tuple[Array, Array]:
    """E = |x|^2 / 2 in 50 dimensions, S = 1/4, Var = 1, Ns = 100: factors, energies."""
    dims, size, metric = 50, 100, 0.25

    def body(carry: Any, key: Array) -> Any:
        x, known = carry
        # 2F; F has the covariance S Var / Ns.
        noise = 2 * jnp.sqrt(metric / size) * jax.random.normal(key, (dims,))
        gradient = x + noise
        step = -rate / known.factor * gradient
        last = x - known.last
        slopes = Slopes(
            jnp.sum(gradient * last),
            4 * metric / size * jnp.sum(last**2),
            jnp.sum(gradient * step),
        )
        known = damping.learned(known, slopes, x, YES, YES)
        return (x + step, known), (known.factor, jnp.sum(x**2) / 2)

    known = begin()._replace(last=start)
    keys = jax.random.split(jax.random.key(0), n_steps)
    return lax.scan(body, (start, known), keys)[1]


@pytest.mark.parametrize(("rate", "most"), [(0.02, 0), (0.3, 0), (0.7, 30)])
def test_noise_alone_hardly_raises_the_shift(rate: float, most: int) -> None:
    """From far away and then 10,000 steps at the floor of the noise."""
    factors, _ = _descent(jnp.asarray(rate), 10_000, 10.0 * jnp.ones(50))
    assert np.sum(np.diff(np.asarray(factors)) > 0) <= most
    assert np.mean(factors) < 1.3


def test_overshoot_is_stopped() -> None:
    """Steps that double what is left, and change its sign, converge all the same."""
    start = 0.1 * jnp.ones(50)
    factors, energies = _descent(jnp.asarray(3.0), 2000, start)
    assert np.max(energies) < 1e3 * energies[0]
    stable = 3.0 / np.asarray(factors[100:])
    assert np.mean(stable < 2) > 0.9 and np.median(stable) > 0.1
    _, floor = _descent(jnp.asarray(0.5), 2000, start)
    assert np.median(energies[100:]) < 5 * np.median(floor[100:])


# ---- in a run --------------------------------------------------------------------


def solver(mesh: Any, rate: float) -> VMC:
    """Full sums over a ring of 5 sites: no noise."""
    space = spins(5, total_sz=0.5)
    wf, _ = made("rbm-complex", space)
    links = sr(1e-3), optax.scale_by_learning_rate(rate), limit_kl(0.5)
    tx, ham = optax.chain(*links), hamiltonian(space, bonds())
    keys = {"burn_in": 0, "steps_per_dispatch": 1}
    return VMC(ham, wf, full(wf, space), tx, mesh=mesh, **keys)


def test_the_factor_raises_the_shift(mesh_of: MeshOf) -> None:
    vmc = solver(mesh_of(1), 0.01)
    state = vmc.init()

    def rows(factor: float, caution: float) -> dict[str, Array]:
        healing = state.control.healing
        known = healing.damping._replace(factor=jnp.asarray(factor))
        healing = healing._replace(damping=known, caution=jnp.asarray(caution))
        control = state.control._replace(healing=healing)
        # The state is donated to the step.
        changed = jax.tree.map(jnp.array, state._replace(control=control))
        return vmc.advance(changed, 1)[1]

    plain, damped = rows(1.0, 1.0), rows(4.0, 1.0)
    assert damped["diag_shift"][0] == pytest.approx(4 * plain["diag_shift"][0])
    assert damped["update_norm"][0] < 0.51 * plain["update_norm"][0]
    # What follows failures is a factor of its own.
    assert rows(4.0, 4.0)["diag_shift"][0] == pytest.approx(16 * plain["diag_shift"][0])


@pytest.mark.slow
def test_a_run_without_noise(mesh_of: MeshOf) -> None:
    """Slopes are derivatives of the exact energy; too large a rate comes down."""
    vmc = solver(mesh_of(1), 40.0)
    wf, space = vmc.wavefunction, spins(5, total_sz=0.5)
    h, states = matrix(space, bonds()), jnp.asarray(space.all_states())

    def energy(params: Any) -> Array:
        psi = jnp.exp(wf.log_psi(params, states))
        return (jnp.vdot(psi, h @ psi) / jnp.vdot(psi, psi)).real

    state, energies, raised = vmc.init(), [], 0
    for _ in range(60):
        new, records = vmc.advance(state, 1)
        energies.append(float(records["energy"][0]))
        known = new.control.healing.damping
        raised += float(known.factor) > float(state.control.healing.damping.factor)
        if not records["rejected"][0]:
            step = jax.tree.map(jnp.subtract, new.params, state.params)
            found = jax.jvp(energy, (state.params,), (step,))[1]
            np.testing.assert_allclose(known.slope, found, rtol=1e-6, atol=1e-10)
        state = new
    exact = np.linalg.eigvalsh(h)[0]
    assert raised >= 1
    # It lingers on plateaus: that it comes down is what damping is for.
    assert energies[-1] - exact < 0.1 * (energies[0] - exact)

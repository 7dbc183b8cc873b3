"""Bad steps are noticed, taken back and tried again; healthy runs never trip."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import Array, lax

from tests.engine.helpers import MeshOf, hamiltonian, on_mesh, tfim
from tests.engine.test_driver import make, run, same_states
from vmc import healing
from vmc.base import Params, Problem, VMCState, WaveFunction
from vmc.distributed import walker_mesh
from vmc.driver import VMC
from vmc.estimators import clipped
from vmc.healing import RETRIES, Seen
from vmc.records import COLUMNS, Records
from vmc.space import Spins, spins
from vmc.walkers import Drawn, cured
from vmc.wavefunction import from_functions


class Count(NamedTuple):
    count: Array


def product(space: Spins) -> WaveFunction:
    """log psi = sum of a_i sigma_i: quick to compile."""

    def init(key: Array) -> Params:
        return {"a": 0.1 * jnp.ones(space.n_sites)}

    def log_psi(params: Params, sigma: Array) -> Array:
        return sigma.astype(params["a"].dtype) @ params["a"]

    return from_functions(init, log_psi, problem=Problem(space), range="positive")


def kicked(at: tuple[int, ...], kick: np.ndarray) -> optax.GradientTransformation:
    """Gradient descent that jumps far away at some steps."""

    def update(updates: Params, state: Count, params: Any = None) -> Any:
        strikes = jnp.any(jnp.asarray(at) == state.count)
        move = jax.tree.map(
            lambda g: -0.02 * g + jnp.where(strikes, 1.0, 0.0) * kick, updates
        )
        return move, Count(state.count + 1)

    return optax.GradientTransformation(lambda p: Count(jnp.zeros((), int)), update)


#: Up and down in turn, which a ferromagnet does not like.
ALTERNATING = 30.0 * np.array([1.0, -1, 1, -1, 1, -1])


@functools.cache
def kicked_vmc(n_devices: int) -> VMC:
    space, mesh = spins(6), walker_mesh(jax.devices()[:n_devices])
    tx = kicked((4,), ALTERNATING)
    return make(product(space), space, tfim(6), tx, n_chains=64, mesh=mesh)


@functools.cache
def kicked_run(n_devices: int) -> tuple[list[VMCState], Records]:
    """States after every step, and the records."""
    vmc = kicked_vmc(n_devices)
    states, parts = [vmc.init()], []
    for _ in range(14):
        state, records = vmc.advance(states[-1], 1)
        states.append(state)
        parts.append(records)
    return states, {n: np.concatenate([p[n] for p in parts]) for n in COLUMNS}


def test_a_leap_is_taken_back() -> None:
    states, records = kicked_run(1)
    # The fifth step kicks; the samples of the sixth tell.
    np.testing.assert_array_equal(np.flatnonzero(records["rejected"]), [5])
    # Walkers that have not yet followed: psi is e^60 larger where they should be.
    assert records["energy"][5] < -1e6
    kick, back = states[5].params["a"] - states[4].params["a"], states[6]
    assert np.abs(kick).max() > 25
    np.testing.assert_array_equal(back.params["a"], states[4].params["a"])
    np.testing.assert_array_equal(back.chains, states[5].control.healing.chains)
    assert int(back.opt_state.count) == 6, "the schedules go on"
    # The retry is more careful, and care goes down again.
    caution = [float(s.control.healing.caution) for s in states]
    np.testing.assert_allclose(caution[5:8], [1, 4, 4])
    assert all(a > b for a, b in zip(caution[7:], caution[8:]))
    step = records["update_norm"][6] / records["grad_norm"][6]
    assert step == pytest.approx(0.02 / 2, rel=1e-12)
    # The window of R-hat leaves the bad step out.
    assert len(states[-1].control.window) == 13
    energies = np.delete(records["energy"], 5)
    assert np.all(np.diff(energies) < 1.5) and energies[-1] < energies[0]


def test_rejections_do_not_depend_on_cuts_or_devices() -> None:
    vmc, (states, records) = kicked_vmc(1), kicked_run(1)
    whole, joined = run(vmc, 14)
    same_states(whole, states[-1])
    for name in set(COLUMNS) - {"seconds"}:
        np.testing.assert_array_equal(joined[name], records[name], err_msg=name)
    # Between the bad step and its discovery the checkpoint knows the way back.
    host = jax.tree.map(
        lambda x: np.asarray(x) if isinstance(x, Array) else x,
        states[5]._replace(key=None),
    )._replace(key=states[5].key)
    same_states(run(vmc, 9, host)[0], whole)
    _, other = kicked_run(4)
    for name in set(COLUMNS) - {"seconds", "drift"}:
        np.testing.assert_allclose(
            other[name], records[name], rtol=1e-9, atol=1e-9, err_msg=name
        )


def test_the_count_of_a_schedule_is_set_and_that_of_moments_is_not() -> None:
    params = {"a": jnp.zeros(2)}
    plain = optax.adam(1e-3).init(params)
    same_states(healing.counted(plain, 7), plain)
    scheduled = optax.adam(optax.constant_schedule(1e-3)).init(params)
    moments, schedule = healing.counted(scheduled, np.int64(7))
    assert int(moments.count) == 0 and int(schedule.count) == 7
    assert schedule.count.dtype == scheduled[1].count.dtype


# ---- the threshold ---------------------------------------------------------------


@pytest.mark.parametrize("tail", ["normal", "heavy"])
def test_noise_alone_is_not_rejected(tail: str) -> None:
    """64 local energies a step, 40,000 steps without a rejection."""
    rng, size = np.random.default_rng(1), (40_000, 64)
    # Without a fourth moment, as near a node, or well-behaved.
    eloc = rng.standard_t(3, size) if tail == "heavy" else rng.normal(size=size)
    columns = (eloc.mean(1), eloc.var(1), eloc.var(1, ddof=1) / 64)

    def step(known: Any, row: Any) -> Any:
        seen = Seen(*row, jnp.asarray(0.4), jnp.asarray(True))
        good, proved = healing.is_good(known, seen, 64, 64 * 64)
        known = healing.remembered(known, seen, good)
        return healing.judged(known, good, good)[0], (good, proved)

    start = jax.tree.map(jnp.asarray, healing.start({}, (), (), np.float64))
    _, (good, proved) = jax.jit(lambda rows: lax.scan(step, start, rows))(columns)
    assert int(jnp.sum(~good)) == 0
    assert 0.9 < float(jnp.mean(proved)) < 1


def see(**changes: float) -> Seen:
    numbers = {"energy": -1.0, "variance": 1.0, "error2": 0.01, "acceptance": 0.4}
    numbers = {k: jnp.asarray(v) for k, v in (numbers | changes).items()}
    return Seen(**{"sound": jnp.asarray(True), **numbers})


@pytest.mark.parametrize(
    ("changes", "good"),
    [
        ({}, True),
        # 10 sqrt(1) + 6 sqrt(0.01) + 0.1 below -1 is -11.7.
        ({"energy": -11.6}, True),
        ({"energy": -11.8, "error2": 1e4}, False),
        # The ceiling is -1 + sqrt(1) + 4 sqrt(0.01) + 1e-3; 4 errors are added to it.
        ({"energy": 0.79}, True),
        ({"energy": 0.81}, False),
        ({"energy": 0.81, "error2": 0.011}, True),
        ({"energy": np.nan}, False),
        ({"variance": np.inf}, False),
        ({"acceptance": 0.01}, True),
        ({"acceptance": 0.007}, False),
        ({"sound": False}, False),
    ],
)
def test_what_is_bad(changes: Any, good: bool) -> None:
    known = healing.start({}, (), (), np.float64)
    known = healing.remembered(known, see(), jnp.asarray(True))
    assert bool(healing.is_good(known, see(**changes), 64, 10_000)[0]) == good
    if "acceptance" in changes:
        # Few moves or few accepted ones: chance.
        assert healing.is_good(known, see(**changes), 63, 10_000)[0]
        assert healing.is_good(known, see(**changes), 64, 2_000)[0]


def test_failures_in_a_row_end_the_run() -> None:
    known = healing.start({}, (), (), np.float64)
    yes, no = jnp.asarray(True), jnp.asarray(False)
    for failure in range(1, RETRIES + 1):
        known, goes_on = healing.judged(known, no, no)
        assert goes_on and int(known.failures) == failure
        # The old point again is no success; what it gives next may be.
        known, goes_on = healing.judged(known, yes, yes)
        assert goes_on and int(known.failures) == failure
    assert float(known.caution) == 4.0**RETRIES
    better, _ = healing.judged(known, yes, yes)
    assert int(better.failures) == 0 and better.caution < known.caution
    _, goes_on = healing.judged(known, no, no)
    assert not goes_on


# ---- walkers ---------------------------------------------------------------------


@pytest.mark.parametrize("n_devices", [1, 4])
def test_sick_walkers_become_copies_of_the_next(
    mesh_of: MeshOf, n_devices: int
) -> None:
    n, draws = 8, 2
    sigma = np.arange(n * draws * 3, dtype=np.int8).reshape(n * draws, 3)
    eloc = np.arange(n * draws) + 1j
    eloc[2 * draws + 1] = np.nan
    eloc[7 * draws] = np.inf
    log_psi = np.zeros(n)
    log_psi[3] = -np.inf
    chains = {"s": np.arange(n * 5).reshape(n, 5), "replicas": np.zeros((n, 2, 3))}

    def go(sigma: Array, eloc: Array, chains: Any, log_psi: Array) -> Any:
        drawn, energy, count = cured(Drawn(sigma, eloc, chains), log_psi)
        out = jax.tree.map(lambda x: lax.all_gather(x, "w", tiled=True), drawn)
        return out, energy, count

    drawn, energy, count = on_mesh(
        mesh_of(n_devices), go, (), (sigma, eloc, chains, log_psi)
    )
    donors = np.array([0, 1, 4, 4, 4, 5, 6, 0])
    rows = (donors[:, None] * draws + np.arange(draws)).ravel()
    np.testing.assert_array_equal(drawn.sigma, sigma[rows])
    np.testing.assert_array_equal(drawn.eloc, eloc[rows])
    np.testing.assert_array_equal(drawn.chains["s"], chains["s"][donors])
    np.testing.assert_allclose(energy, eloc[rows].mean(), rtol=1e-14)
    assert count == 3


def test_a_run_with_sick_walkers_goes_on(mesh_of: MeshOf) -> None:
    """psi is no number at one configuration: 9 of 256 have no local energy."""
    space = spins(8)
    wf = product(space)

    def log_psi(params: Params, sigma: Array) -> Array:
        out = wf.log_psi(params, sigma)
        return jnp.where(jnp.sum(sigma, axis=1) == -8, jnp.nan, out)

    sick = from_functions(wf.init, log_psi, problem=Problem(space), range="positive")
    vmc = make(sick, space, tfim(8), optax.sgd(0.0), n_chains=512, burn_in=2)
    state, records = run(vmc, 10)
    assert np.all(np.isfinite(records["energy"])) and not records["rejected"].any()
    assert 0 < np.mean(records["replaced"]) < 0.05 * 512
    # One in 2^8 cannot move away; it is a copy of another one after the first step.
    assert not np.any(np.sum(np.asarray(state.chains), axis=1) == -8)
    # The energy is that of the others.
    states = space.all_states()
    p = np.exp(2 * np.asarray(wf.log_psi(state.params, states)))
    eloc = hamiltonian(space, tfim(8)).diagonal(states) - sum(
        np.exp(-2 * 0.1 * states[:, i]) for i in range(8)
    )
    healthy = np.sum(states, axis=1) > -6
    want = np.sum((p * eloc)[healthy]) / np.sum(p[healthy])
    # Copies are no equilibrium; they are few.
    assert abs(np.mean(records["energy"]) - want) < 0.03 * abs(want)


# ---- outliers --------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["real", "complex"])
def test_outliers_are_moved_to_the_edge(mesh_of: MeshOf, kind: str) -> None:
    rng = np.random.default_rng(1)
    eloc = rng.normal(size=64) + (1j * rng.normal(size=64) if kind == "complex" else 0)
    eloc[5] += 1000
    weights = np.full(64, 1 / 64)
    out = on_mesh(
        mesh_of(4),
        lambda e, w: lax.all_gather(clipped(e, w, 3.0), "w", tiled=True),
        (),
        (eloc, weights),
    )
    lower = np.sort(eloc.real)[31] + (
        1j * np.sort(eloc.imag)[31] if kind == "complex" else 0
    )
    away = np.abs(eloc - lower)
    limit = 3 * np.sort(away)[31]
    np.testing.assert_allclose(np.abs(out - lower), np.minimum(away, limit))
    inside = away <= limit
    assert 1 <= np.sum(~inside) < 32
    np.testing.assert_array_equal(np.asarray(out)[inside], eloc[inside])


def test_clipping_leaves_the_reported_energy_alone() -> None:
    space = spins(6)
    runs = []
    for clip in (None, 1.0):
        vmc = make(
            product(space), space, tfim(6), optax.sgd(0.05), n_chains=64, clip=clip
        )
        runs.append(run(vmc, 1)[1])
    plain, bounded = runs
    for name in ("energy", "variance", "error"):
        np.testing.assert_allclose(bounded[name], plain[name], rtol=1e-12)
    assert abs(bounded["grad_norm"] / plain["grad_norm"] - 1) > 1e-2

"""Whole runs: exact energies, the same numbers on any mesh, failures that are loud."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import Array

from ansatze.rbm import rbm
from tests.engine.helpers import (
    Terms,
    amplitudes,
    flat,
    hamiltonian,
    heisenberg,
    made,
    matrix,
    tfim,
    twisted,
)
from vmc.base import Params, Problem, VMCState, WaveFunction
from vmc.distributed import walker_mesh
from vmc.driver import VMC
from vmc.errors import JobError, NumericalError
from vmc.moves import local_flips
from vmc.precondition import AutoShift, limit_kl, sr
from vmc.records import COLUMNS, Records
from vmc.samplers import metropolis
from vmc.space import Spins, spins
from vmc.wavefunction import from_functions

MAX_KL = 0.01


def natural(rate: float, shift: Any = 1e-3, **keys: Any) -> Any:
    steps = optax.scale_by_learning_rate(rate)
    return optax.chain(sr(shift, **keys), steps, limit_kl(MAX_KL))


def make(
    wf: WaveFunction, space: Spins, terms: Terms, optimizer: Any, **keys: Any
) -> VMC:
    ham = hamiltonian(space, terms)
    mesh = keys.pop("mesh", None) or walker_mesh(jax.devices()[:1])
    moves = local_flips(space) if space.total_sz is None else ham.moves
    sizes = {"n_chains": 128, "n_draws": 1}
    sizes = {name: keys.pop(name, default) for name, default in sizes.items()}
    sampler = metropolis(wf, space, moves, n_devices=mesh.size, **sizes)
    return VMC(ham, wf, sampler, optimizer, mesh=mesh, **{"seed": 2, **keys})


def run(
    vmc: VMC, n_steps: int, state: VMCState | None = None
) -> tuple[VMCState, Records]:
    """``n_steps`` steps and all records."""
    state = vmc.init() if state is None else state
    stop, parts = int(state.step) + n_steps, []
    while int(state.step) < stop:
        state, records = vmc.advance(state, stop - int(state.step))
        parts.append(records)
    return state, {name: np.concatenate([p[name] for p in parts]) for name in COLUMNS}


def same_states(one: VMCState, two: VMCState) -> None:
    """Bit for bit."""
    for x, y in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        np.testing.assert_array_equal(x, y)


# ---- exact energies ------------------------------------------------------------


class Done(NamedTuple):
    vmc: VMC
    space: Spins
    terms: Terms
    state: VMCState
    records: Records


@functools.cache
def trained(name: str) -> Done:
    keys: dict[str, Any] = {}
    n_steps = 60
    if name == "tfim":
        space, terms, dtype = spins(6), tfim(6), "real"
        tx, keys["n_draws"] = natural(0.05), 2
    elif name == "heisenberg":
        space, terms, dtype = spins(6, total_sz=0), heisenberg(6), "complex"
        tx = natural(0.2, form="kernel", momentum=0.8)
    else:
        space, terms, dtype = spins(4), twisted(4), "complex"
        tx, keys["n_draws"], n_steps = natural(0.05), 2, 150
    even = name == "heisenberg"
    problem = Problem(space, dtype, spin_flip=even)  # type: ignore[arg-type]
    wf = rbm(problem, alpha=2, init_scale=0.1)
    vmc = make(wf, space, terms, tx, learning_rate=0.05, **keys)
    return Done(vmc, space, terms, *run(vmc, n_steps))


@pytest.mark.parametrize(
    "name",
    [
        "tfim",
        pytest.param("heisenberg", marks=pytest.mark.slow),
        pytest.param("twisted", marks=pytest.mark.slow),
    ],
)
def test_ground_state_energies(name: str) -> None:
    vmc, space, terms, state, records = trained(name)
    h = matrix(space, terms)
    exact = float(np.linalg.eigvalsh(h)[0])
    before = jax.tree.map(lambda x: x, state)
    e = vmc.measure(state, 8192)
    same_states(state, before)
    assert e.n_samples == 8192 and e.r_hat < 1.3
    assert abs(e.mean - exact) < max(4 * e.error, 2e-3 * abs(exact))
    assert e.mean > exact - 4 * e.error - 1e-10, "below the exact energy"
    # The error bar is that of the frozen state: its energy on the full basis.
    psi = amplitudes(vmc.wavefunction, state.params, space)
    true = (psi.conj() @ h @ psi).real
    assert abs(e.mean - true) < 4 * e.error + 1e-10
    variance = np.linalg.norm(h @ psi - true * psi) ** 2
    np.testing.assert_allclose(e.variance, variance, rtol=0.25, atol=1e-10)
    # The run came from far away.
    assert records["energy"][0] > exact + 0.05 * abs(exact)
    assert np.all(records["energy"] > exact - 5 * records["error"] - 1e-10)


def test_the_records_of_a_run() -> None:
    records = trained("tfim").records
    assert tuple(records) == COLUMNS
    np.testing.assert_array_equal(records["step"], np.arange(1, 61))
    for name in COLUMNS:
        assert records[name].shape == (60,)
        # R-hat and tau look back four steps at least.
        assert np.all(np.isfinite(records[name][3:])), name
    assert np.all((records["acceptance"] > 0) & (records["acceptance"] <= 1))
    assert np.all(records["kl"] <= MAX_KL * (1 + 1e-12))
    assert np.max(records["kl"]) > 0.9 * MAX_KL, "the limit was never needed"
    assert np.all(records["drift"] < 1e-12)
    np.testing.assert_allclose(records["diag_shift"], 1e-3)
    np.testing.assert_allclose(records["learning_rate"], 0.05)
    assert records["r_hat"][-1] < 1.3 and 1 <= records["tau"][-1] < 10


def test_measurements_are_repeatable_and_go_on_to_an_error() -> None:
    vmc, _, _, state, _ = trained("tfim")
    one, two = vmc.measure(state, 1024), vmc.measure(state, 1000)
    assert one == two, "whole draws: 1000 is rounded up to 1024"
    seen = []
    error = 0.4 * one.error / abs(one.mean)
    long = vmc.measure(state, 1024, to_error=error, progress=seen.append)
    assert long.error <= error * abs(long.mean)
    assert long.n_samples >= 2048 and seen[-1] == long
    assert [e.n_samples for e in seen] == sorted(e.n_samples for e in seen)


# ---- reproducibility -----------------------------------------------------------


def test_a_run_does_not_depend_on_how_it_is_cut() -> None:
    vmc = trained("tfim").vmc
    whole, records = run(vmc, 20)
    part, first = run(vmc, 7)
    # A checkpoint holds host arrays.
    part = part._replace(
        params=jax.tree.map(np.asarray, part.params),
        opt_state=jax.tree.map(np.asarray, part.opt_state),
        chains=np.asarray(part.chains),
    )
    resumed, second = run(vmc, 13, part)
    same_states(resumed, whole)
    for name in set(COLUMNS) - {"seconds"}:
        joined = np.concatenate([first[name], second[name]])
        np.testing.assert_array_equal(joined, records[name], err_msg=name)


def test_seeds_differ() -> None:
    _, records = run(trained("tfim").vmc, 3)
    vmc = trained("tfim").vmc
    key = jax.random.key(99, impl="threefry2x32")
    _, other = run(vmc, 3, vmc.init()._replace(key=key))
    assert not np.any(records["energy"] == other["energy"])


@functools.cache
def trace_on(n_devices: int) -> Records:
    """Two draws, kernel form and a shift that follows the noise.

    20 chains: few devices hold a whole number of anything.
    """
    space = spins(4)
    wf, _ = made("rbm-real", space)
    auto = AutoShift(lambda count: jnp.asarray(1e-2), lambda count: 0.05, 2e-3)
    tx = natural(0.05, auto, form="kernel")
    mesh = walker_mesh(jax.devices()[:n_devices])
    keys = {"n_chains": 20, "n_draws": 2, "mesh": mesh, "burn_in": 0}
    return run(make(wf, space, twisted(4), tx, **keys), 15)[1]


@pytest.mark.parametrize("n_devices", [pytest.param(2, marks=pytest.mark.slow), 4])
def test_the_same_energies_on_any_mesh(n_devices: int) -> None:
    one, other = trace_on(1), trace_on(n_devices)
    shifts = np.diff(one["diag_shift"])
    assert np.any(shifts > 0) and np.any(shifts < 0), "the noise never mattered"
    for name in set(COLUMNS) - {"seconds", "drift"}:
        np.testing.assert_allclose(
            other[name], one[name], rtol=1e-10, atol=1e-10, err_msg=name
        )


# ---- nothing recompiles --------------------------------------------------------


def test_new_values_do_not_recompile(caplog: pytest.LogCaptureFixture) -> None:
    vmc, _, _, state, _ = trained("tfim")

    def double(x: Any) -> Any:
        return np.asarray(2 * x) if np.issubdtype(x.dtype, np.inexact) else x

    doubled = jax.tree.map(double, vmc.hamiltonian)
    params = jax.tree.map(lambda x: 0.9 * x, state.params)
    host = state._replace(
        params=jax.tree.map(np.asarray, params),
        opt_state=jax.tree.map(np.asarray, state.opt_state),
        chains=np.asarray(state.chains),
    )
    rows = []
    with jax.log_compiles():
        vmc.advance(state._replace(params=params), 3)
        vmc.advance(host, 7)
        for ham in (vmc.hamiltonian, doubled):
            carry = vmc._carry(vmc.advance(host, 1)[0])
            out = vmc._dispatch(ham, carry, state.key, np.array([3, 1], np.int32))
            rows.append(np.asarray(out[1]))
    compiled = [r.message for r in caplog.records if "XLA compilation" in r.message]
    assert compiled == []
    np.testing.assert_allclose(rows[1][0, 0], 2 * rows[0][0, 0], rtol=1e-12)


@pytest.mark.parametrize("n_devices", [1, 2])
def test_what_a_dispatch_returned_is_not_placed_again(
    n_devices: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = spins(4)
    wf, _ = made("rbm-real", space)
    mesh = walker_mesh(jax.devices()[:n_devices])
    vmc = make(wf, space, twisted(4), natural(0.05), n_chains=8, mesh=mesh, burn_in=0)
    state, _ = vmc.advance(vmc.init(), 1)
    placed = []
    put = jax.device_put
    monkeypatch.setattr(jax, "device_put", lambda x, *a: placed.append(x) or put(x, *a))
    vmc.advance(state, 2)
    assert [np.asarray(x).tolist() for x in placed] == [[1, 2]], "more than the numbers"


# ---- first-order optimisers ----------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", ["adam", "sgd"])
def test_first_order_optimisers_need_no_scores(name: str) -> None:
    space, terms = spins(4), twisted(4)
    wf = rbm(Problem(space), alpha=1, init_scale=0.1)

    def scores(params: Params, sigma: Array) -> Any:
        raise AssertionError("scores were traced")

    tx = optax.adam(0.03) if name == "adam" else optax.sgd(0.02)
    wf_without = wf._replace(scores=scores)
    vmc = make(wf_without, space, terms, tx, n_chains=512, burn_in=0)
    state, records = run(vmc, 60)
    h = matrix(space, terms)
    levels = np.linalg.eigvalsh(h)
    psi = amplitudes(wf, state.params, space)
    energy = (psi.conj() @ h @ psi).real
    # Complex parameters: a gradient that is not conjugated climbs or circles.
    assert energy < levels[0] + 0.1 * (levels[-1] - levels[0])
    assert energy < records["energy"][0] - 1
    assert np.all(np.isnan(records["kl"])) and np.all(np.isnan(records["condition"]))
    assert np.all(records["grad_norm"] > 0)
    if name == "sgd":
        np.testing.assert_allclose(
            records["update_norm"], 0.02 * records["grad_norm"], rtol=1e-12
        )


# ---- failures ------------------------------------------------------------------


def counting_up(space: Spins) -> tuple[WaveFunction, optax.GradientTransformation]:
    """A product state whose parameter rises by 1 per step, and nan beyond 2.5."""

    def init(key: Array) -> Params:
        return {"a": jnp.zeros(1)}

    def log_psi(params: Params, sigma: Array) -> Array:
        a = params["a"][0]
        return 0.01 * jnp.where(a > 2.5, jnp.nan, a) * jnp.sum(sigma, axis=1)

    wf = from_functions(init, log_psi, problem=Problem(space), range="positive")
    tx = optax.stateless(lambda updates, params: jax.tree.map(jnp.ones_like, updates))
    return wf, tx


def test_nan_keeps_the_last_good_state() -> None:
    """Every step is shorter than the one before it, and still one too many."""
    space = spins(3)
    wf, tx = counting_up(space)
    vmc = make(wf, space, tfim(3), tx, n_chains=16, burn_in=0, steps_per_dispatch=30)
    with pytest.raises(NumericalError) as caught:
        vmc.advance(vmc.init(), 30)
    error = caught.value
    for cause in ("step 19", "energy = nan", "learning_rate", "diag_shift"):
        assert cause in str(error)
    # 1, 2, 3 is bad; half a step to 2.5 is good, and whatever follows it is bad.
    bad = [4, 7, 9, 11, 13, 15, 17]
    np.testing.assert_array_equal(np.flatnonzero(error.records["rejected"]) + 1, bad)
    assert np.all(np.isnan(error.records["energy"]) == (error.records["rejected"] > 0))
    assert np.all(error.records["replaced"] == 16 * error.records["rejected"])
    assert int(error.state.step) == 18
    good, records = run(vmc, 18)
    known = good.control.healing
    assert float(known.params["a"][0]) == float(error.state.params["a"][0]) == 2.5
    np.testing.assert_array_equal(known.chains, error.state.chains)
    for name in set(COLUMNS) - {"seconds"}:
        np.testing.assert_array_equal(error.records[name], records[name])
    nowhere = good._replace(params={"a": np.full(1, 3.0)})
    with pytest.raises(NumericalError, match="not usable"):
        vmc.measure(nowhere, 64)


def test_an_update_that_is_not_finite_stops_the_run() -> None:
    space = spins(3)
    wf, _ = counting_up(space)

    def update(updates: Params, state: Array, params: Any = None) -> Any:
        bad = jnp.where(state == 2, jnp.inf, 0.1)
        return jax.tree.map(lambda g: 0 * g + bad, updates), state + 1

    tx = optax.GradientTransformation(lambda params: jnp.zeros((), int), update)
    vmc = make(wf, space, tfim(3), tx, n_chains=16, burn_in=0)
    with pytest.raises(NumericalError, match="step 9 .*update_norm = inf") as caught:
        vmc.advance(vmc.init(), 10)
    state = caught.value.state
    assert int(state.step) == 8 and int(state.opt_state) == 2
    np.testing.assert_allclose(state.params["a"], 0.2)
    rejected = caught.value.records["rejected"]
    np.testing.assert_array_equal(rejected, [0, 0, 1, 1, 1, 1, 1, 1])


def test_a_drifting_cache_is_an_error_not_a_wrong_energy() -> None:
    space = spins(3)
    wf, tx = counting_up(space)

    def wrong(params: Params, cache: Any, sigma: Array, move: Any) -> Any:
        ratio, pending = wf.try_move(params, cache, sigma, move)
        return ratio + 1e-4, pending

    vmc = make(wf._replace(try_move=wrong), space, tfim(3), tx, n_chains=16, burn_in=0)
    with pytest.raises(NumericalError, match="drifted by more than 1e-06"):
        vmc.advance(vmc.init(), 10)


def test_walkers_where_psi_is_zero_are_an_error() -> None:
    """Only the aligned states live, and random starts never reach them."""
    space = spins(4)

    def init(key: Array) -> Params:
        return {"a": jnp.zeros(1)}

    def log_psi(params: Params, sigma: Array) -> Array:
        alive = jnp.abs(jnp.sum(sigma, axis=1)) == 4
        return jnp.where(alive, params["a"][0], -jnp.inf)

    wf = from_functions(init, log_psi, problem=Problem(space), range="positive")
    vmc = make(wf, space, tfim(4), optax.sgd(0.1), n_chains=64)
    with pytest.raises(NumericalError, match="psi is (almost )?zero"):
        vmc.advance(vmc.init(), 10)


def test_float64_needs_64_bit_numbers() -> None:
    space = spins(3)
    wf, tx = counting_up(space)
    with jax.enable_x64(False):
        for precision in ("float64", "mixed"):
            with pytest.raises(JobError, match="jax_enable_x64"):
                make(wf, space, tfim(3), tx, precision=precision)


def test_arguments_that_make_no_sense() -> None:
    space = spins(3)
    wf, tx = counting_up(space)
    with pytest.raises(JobError, match='precision is "half"'):
        make(wf, space, tfim(3), tx, precision="half")
    sampler = metropolis(wf, space, local_flips(space), n_chains=6)
    ham, mesh = hamiltonian(space, tfim(3)), walker_mesh(jax.devices())
    with pytest.raises(JobError, match="4 and 8"):
        VMC(ham, wf, sampler, tx, mesh=mesh)
    vmc = make(wf, space, tfim(3), tx, n_chains=16)
    for n_steps in (0, -1):
        with pytest.raises(JobError, match="n_steps"):
            vmc.advance(vmc.init(), n_steps)
    with pytest.raises(JobError, match="steps_per_dispatch"):
        make(wf, space, tfim(3), tx, n_chains=16, steps_per_dispatch=0)


# ---- single precision ----------------------------------------------------------


@functools.cache
def four_steps(precision: str) -> tuple[VMCState, Records]:
    """From one start, so that the same random numbers make the same samples."""
    space, of_psi = spins(4), "float64" if precision == "float64" else "float32"
    wf = rbm(Problem(space, precision=of_psi), alpha=1, init_scale=0.1)
    tx = natural(0.05, 1e-2)
    vmc = make(wf, space, twisted(4), tx, precision=precision, burn_in=0)
    start = made("rbm-complex", space, 0.1, "float32", alpha=1)[1]
    state = vmc.init()
    cast = jax.tree.map(lambda x, y: y.astype(x.dtype), state.params, start)
    return run(vmc, 4, state._replace(params=cast))


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["mixed", "float32"])
def test_lower_precisions_agree(precision: str) -> None:
    _, want = four_steps("float64")
    state, got = four_steps(precision)
    assert {x.dtype.name for x in jax.tree.leaves(state.params)} == {"complex64"}
    for name in ("energy", "variance", "grad_norm", "acceptance", "diag_shift"):
        np.testing.assert_allclose(got[name], want[name], rtol=2e-3, err_msg=name)


@pytest.mark.slow
def test_float32_runs_without_64_bit_numbers() -> None:
    with jax.enable_x64(False):
        space = spins(4)
        wf = rbm(Problem(space, precision="float32"), alpha=1, init_scale=0.1)
        vmc = make(wf, space, tfim(4), natural(0.05, 1e-2), precision="float32")
        state, records = run(vmc, 30)
        e = vmc.measure(state, 1024)
        params = flat(state.params)
    assert params.dtype == np.complex64
    exact = np.linalg.eigvalsh(matrix(space, tfim(4)))[0]
    assert abs(e.mean - exact) < max(4 * e.error, 0.01 * abs(exact))
    assert np.all(records["drift"] < 1e-4)

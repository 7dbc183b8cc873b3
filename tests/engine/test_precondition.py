"""Natural gradients against dense NumPy and against exact imaginary time."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import Array
from jax.sharding import Mesh

from ansatze.rbm import rbm
from tests.engine.helpers import (
    MeshOf,
    amplitudes,
    flat,
    hamiltonian,
    jacobian,
    matrix,
    on_mesh,
    program,
    split_rbm,
    twisted,
)
from vmc.base import Params, Problem, WaveFunction
from vmc.errors import JobError
from vmc.estimators import local_energies
from vmc.geometry import Geometry
from vmc.precondition import AutoShift, Form, SRState, limit_kl, minsr, spring, sr
from vmc.space import spins

SHIFT = 1e-2
#: dtypes of parameters, scores and local energies.
KINDS = {
    "real": ("r", "r", "r"),
    "stacked": ("r", "c", "c"),
    "holomorphic": ("c", "c", "c"),
    "complex-real-scores": ("c", "r", "c"),
}


def draw(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    re, im = rng.normal(size=(2, *shape))
    return re + 1j * im if dtype == "c" else re


class Data:
    """Made-up dense scores of two leaves, and what NumPy makes of them."""

    def __init__(self, kind: str, n_samples: int, seed: int = 1) -> None:
        rng = np.random.default_rng(seed)
        of_params, of_scores, of_energy = KINDS[kind]
        self.params = {
            "a": draw(rng, (3,), of_params),
            "b": draw(rng, (2, 4), of_params),
        }
        rows = 0.5 + draw(rng, (n_samples, 11), of_scores)
        self.scores = {"a": (rows[:, None, :3],), "b": (rows[:, None, 3:],)}
        self.eloc = draw(rng, (n_samples,), of_energy)
        o = (rows - rows.mean(0)) / math.sqrt(n_samples)
        eps = (self.eloc - self.eloc.mean()) / math.sqrt(n_samples)
        if of_params == "r":
            o, eps = (
                np.concatenate([o.real, o.imag]),
                np.concatenate([eps.real, eps.imag]),
            )
        self.s, self.force = o.conj().T @ o, o.conj().T @ eps
        stacked = of_params == "r" and of_scores == "c"
        self.rank = min(11, n_samples * (1 + stacked))
        self.variance = np.mean(np.abs(self.eloc - self.eloc.mean()) ** 2)

    @property
    def mean_eigenvalue(self) -> float:
        """Of the eigenvalues of S that may differ from 0."""
        return np.trace(self.s).real / self.rank

    def solve(self, relative: float, extra: Any = 0) -> np.ndarray:
        shift = relative * self.mean_eigenvalue
        return np.linalg.solve(self.s + shift * np.eye(11), self.force + shift * extra)


Update = Callable[[Any, Data], tuple[Params, Any]]


def updater(tx: optax.GradientTransformation, mesh: Mesh, given: Any = None) -> Update:
    """(state, data) -> (update, state), compiled once; ``given`` is the gradient."""

    def run(params: Params, state: Any, scores: Any, eloc: Array) -> Any:
        geometry = Geometry(lambda: scores, params, eloc)
        gradient = params if given is None else given
        return optax.with_extra_args_support(tx).update(
            gradient, state, params, geometry=geometry
        )

    compiled = program(mesh, run, 2, 2)

    def call(state: Any, data: Data) -> tuple[Params, Any]:
        if state is None:
            state = tx.init(jax.tree.map(jnp.asarray, data.params))
        return compiled(data.params, state, data.scores, data.eloc)

    return call


@pytest.mark.parametrize(
    ("kind", "n_samples"), [(kind, 8) for kind in KINDS] + [("stacked", 24)]
)
def test_dense_and_kernel_are_the_same(
    mesh_of: MeshOf, kind: str, n_samples: int
) -> None:
    data = Data(kind, n_samples)
    want = data.solve(SHIFT)
    for form in ("dense", "kernel"):
        x, state = updater(sr(SHIFT, form=form), mesh_of(4))(None, data)
        np.testing.assert_allclose(flat(x), want, atol=1e-10 * np.abs(want).max())
        assert jax.tree.map(jnp.shape, x) == {"a": (3,), "b": (2, 4)}
        assert flat(x).dtype == data.force.dtype
        assert int(state.count) == 1
        np.testing.assert_allclose(state.diag_shift, SHIFT)
        assert 1 <= float(state.condition) < 1e4


@pytest.mark.parametrize(
    ("kind", "solver", "form"),
    [
        ("stacked", "eigh", "auto"),
        ("holomorphic", "cg", "dense"),
        ("stacked", "cg", "kernel"),
    ],
)
def test_solvers_agree(mesh_of: MeshOf, kind: str, solver: str, form: Form) -> None:
    data = Data(kind, 24)
    want = data.solve(SHIFT)
    x, state = updater(sr(SHIFT, solver=solver, form=form), mesh_of(4))(None, data)
    np.testing.assert_allclose(flat(x), want, atol=1e-7 * np.abs(want).max())
    if solver == "eigh":
        values = np.linalg.eigvalsh(data.s) + SHIFT * data.mean_eigenvalue
        np.testing.assert_allclose(state.condition, values[-1] / values[0])
        assert state.rank == 11


def test_the_cheaper_form_is_chosen(mesh_of: MeshOf) -> None:
    """Seen by the order of the matrix that the state reports."""
    for kind, n_samples, order in [
        ("real", 8, 8),
        ("stacked", 8, 11),
    ]:
        _, state = updater(sr(SHIFT), mesh_of(1))(None, Data(kind, n_samples))
        assert int(state.rank) == order, (kind, n_samples)
    _, state = updater(minsr(SHIFT), mesh_of(1))(None, Data("real", 24))
    assert int(state.rank) == 24


@pytest.mark.parametrize(
    ("kind", "form"), [("stacked", "kernel"), ("holomorphic", "dense")]
)
def test_spring_is_its_recursion(mesh_of: MeshOf, kind: str, form: Any) -> None:
    """phi_k = argmin |O phi - eps|^2 + shift |phi - mu phi_(k-1)|^2."""
    mu, state, previous = 0.8, None, np.zeros(11)
    update = updater(sr(SHIFT, form=form, momentum=mu), mesh_of(2))
    for step in range(3):
        data = Data(kind, 16, seed=step)
        x, state = update(state, data)
        previous = data.solve(SHIFT, mu * previous)
        np.testing.assert_allclose(
            flat(x), previous, atol=1e-10 * np.abs(previous).max()
        )


def test_spring_is_sr_with_momentum(mesh_of: MeshOf) -> None:
    data = Data("real", 16)
    update, plain = updater(spring(SHIFT), mesh_of(1)), updater(sr(SHIFT), mesh_of(1))
    first, state = update(None, data)
    np.testing.assert_allclose(flat(first), flat(plain(None, data)[0]), atol=1e-14)
    second, _ = update(state, data)
    np.testing.assert_allclose(flat(second), data.solve(SHIFT, 0.9 * flat(first)))


def test_shift_schedules_count_steps(mesh_of: MeshOf) -> None:
    def schedule(count: Array) -> Array:
        return 0.1 * 0.5**count

    data, state = Data("real", 16), None
    update = updater(sr(schedule), mesh_of(1))
    for step in range(3):
        x, state = update(state, data)
        np.testing.assert_allclose(flat(x), data.solve(0.1 * 0.5**step), rtol=1e-9)


@pytest.mark.parametrize("kind", ["stacked", "holomorphic"])
def test_limit_kl(mesh_of: MeshOf, kind: str) -> None:
    data = Data(kind, 16)
    d = np.random.default_rng(3).normal(size=11)
    step = {"a": d[:3], "b": d[3:].reshape(2, 4)}
    kl = 2 * (d @ data.s @ d).real
    for limit in (0.01 * kl, 100 * kl):
        out, state = updater(limit_kl(limit), mesh_of(2), step)(None, data)
        factor = min(1.0, math.sqrt(limit / kl))
        np.testing.assert_allclose(flat(out), factor * d, rtol=1e-12)
        np.testing.assert_allclose(state.kl, min(limit, kl), rtol=1e-12)
    assert factor == 1, "a short step is left alone"


def test_limit_kl_leaves_no_step_alone(mesh_of: MeshOf) -> None:
    none = {"a": np.zeros(3), "b": np.zeros((2, 4))}
    out, state = updater(limit_kl(0.02), mesh_of(1), none)(None, Data("real", 16))
    assert not np.any(flat(out)) and state.kl == 0


def test_the_kl_divergence_is_that_of_the_probabilities(mesh_of: MeshOf) -> None:
    """2 d^T S d against sum p ln p/p' of a positive wave function."""
    wf, params, sigma = exact_samples("real")
    rng = np.random.default_rng(5)
    d = jax.tree.map(lambda x: 1e-4 * rng.normal(size=x.shape), params)

    def run(params, d, sigma):
        scores = jax.tree.map(jnp.asarray, wf.scores(params, sigma))
        geometry = Geometry(lambda: scores, params, jnp.zeros(sigma.shape[0]))
        return 2 * geometry.distance2(d)

    kl = on_mesh(mesh_of(2), run, (params, d), (sigma,))
    p = amplitudes(wf, params, spins(4)) ** 2
    moved = amplitudes(wf, jax.tree.map(jnp.add, params, d), spins(4)) ** 2
    np.testing.assert_allclose(kl, np.sum(p * np.log(p / moved)), rtol=1e-3)


# ---- exact samples -------------------------------------------------------------


def exact_samples(kind: str) -> tuple[WaveFunction, Params, np.ndarray]:
    """An RBM with integer |psi|^2: every state as often as its probability says.

    One hidden unit per bond with |cosh theta|^2 = 2 if the spins are aligned, else 1;
    the imaginary visible biases change phases only.  82 samples, twice.
    """
    n, w = 4, math.acosh(math.sqrt(2)) / 2
    weights = w * (np.eye(n) + np.roll(np.eye(n), 1, axis=0))
    phases = np.array([0.3, -0.5, 0.8, 0.1])
    zero = np.zeros(n)
    if kind == "real":
        wf = rbm(Problem(spins(n), "real"), alpha=1)
        params = {"W": weights, "a": zero, "b": zero}
    elif kind == "holomorphic":
        wf = rbm(Problem(spins(n)), alpha=1)
        params = {"W": weights + 0j, "a": 1j * phases, "b": zero + 0j}
    else:
        wf = split_rbm(spins(n))
        params = {
            "re": {"W": weights, "a": zero, "b": zero},
            "im": {"W": 0 * weights, "a": phases, "b": zero},
        }
    states = spins(n).all_states()
    aligned = np.sum(states == np.roll(states, -1, axis=1), axis=1)
    return wf, params, np.repeat(states, 2 * 2**aligned, axis=0)


@pytest.mark.parametrize("kind", ["real", "holomorphic", "split"])
def test_sr_is_projected_imaginary_time(mesh_of: MeshOf, kind: str) -> None:
    wf, params, sigma = exact_samples(kind)
    space, terms = spins(4), twisted(4)
    psi, h = amplitudes(wf, params, space), matrix(spins(4), terms)
    real = kind != "holomorphic"
    # The metric and the force from derivatives of psi itself.
    dpsi = psi[:, None] * jacobian(wf, params, space.all_states())
    overlap = psi.conj() @ dpsi
    energy = (psi.conj() @ h @ psi).real
    s = dpsi.conj().T @ dpsi - np.outer(overlap.conj(), overlap)
    force = dpsi.conj().T @ (h @ psi - energy * psi)
    if real:
        s, force = s.real, force.real
    shift = SHIFT * np.trace(s).real / len(s)
    want = np.linalg.solve(s + shift * np.eye(len(s)), force)

    ham, tx = hamiltonian(space, terms), sr(SHIFT)

    def run(ham, params, sigma):
        eloc = local_energies(wf, ham, params, sigma)
        geometry = Geometry(lambda: wf.scores(params, sigma), params, eloc)
        return tx.update(params, tx.init(params), geometry=geometry)[0], geometry.energy

    x, mean = on_mesh(mesh_of(4), run, (ham, params), (sigma,))
    np.testing.assert_allclose(mean, energy, atol=1e-12)
    np.testing.assert_allclose(flat(x), want, atol=1e-10)
    # E(theta - eta x) = E - 2 eta Re x^H F + O(eta^2).
    eta = 1e-5
    moved = jax.tree.map(lambda p, d: p - eta * d, params, x)
    psi = amplitudes(wf, moved, space)
    slope = ((psi.conj() @ h @ psi).real - energy) / eta
    np.testing.assert_allclose(slope, -2 * np.vdot(want, force).real, rtol=1e-3)
    assert slope < -1e-2


# ---- automatic shift -----------------------------------------------------------


def test_auto_shift_rises_with_noise_and_falls_without(mesh_of: MeshOf) -> None:
    data = Data("holomorphic", 16)
    eta = 0.05
    values = np.linalg.eigvalsh(data.s)
    lam = SHIFT * data.mean_eigenvalue
    d_eff = np.sum(values / (values + lam))
    noise = 2 * eta**2 * d_eff * data.variance / 16

    def auto(budget: float) -> tuple[Update, SRState]:
        tx = sr(AutoShift(lambda count: jnp.asarray(SHIFT), lambda c: eta, budget))
        return updater(tx, mesh_of(2)), tx.init(jax.tree.map(jnp.asarray, data.params))

    # The trace is estimated by one random vector: far budgets on either side.
    tight, state = auto(noise / 30)
    boosts, shifts = [], []
    for _ in range(3):
        x, state = tight(state, data)
        boosts.append(float(state.boost))
        shifts.append(float(state.diag_shift))
    np.testing.assert_allclose(boosts, [1.5, 1.5**2, 1.5**3])
    np.testing.assert_allclose(shifts, SHIFT * np.array([1, 1.5, 1.5**2]))
    np.testing.assert_allclose(flat(x), data.solve(shifts[-1]), rtol=1e-8)
    loose, _ = auto(noise * 30)
    _, lowered = loose(state, data)
    np.testing.assert_allclose(lowered.boost, 1.5**3 / 1.1)
    _, floor = loose(state._replace(boost=jnp.asarray(1.05)), data)
    assert floor.boost == 1
    _, cap = tight(state._replace(boost=jnp.asarray(9e3)), data)
    assert cap.boost == 1e4 and cap.diag_shift == 1, "never above Tr S / P"


@pytest.mark.parametrize(
    ("kind", "form"),
    [("real", "dense"), ("stacked", "kernel"), ("holomorphic", "kernel")],
)
def test_d_eff_estimates_the_trace(mesh_of: MeshOf, kind: str, form: Any) -> None:
    """Scores with S = identity leave the random vector no freedom."""
    data = Data(kind, 16)
    rows = np.zeros((16, 11), complex if kind != "real" else float)
    # Two samples each, +1 and -1, span one direction: S = diag(1/8, ..., 0, ...).
    for k in range(8):
        rows[2 * k, k], rows[2 * k + 1, k] = 1, -1
    data.scores = {"a": (rows[:, None, :3],), "b": (rows[:, None, 3:],)}
    _, state = updater(sr(0.1, form=form), mesh_of(1))(None, data)
    shift = 0.1 * (8 / 8) / 11
    np.testing.assert_allclose(state.d_eff, 8 * (1 / 8) / (1 / 8 + shift), rtol=1e-10)


# ---- what is refused -----------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: sr(0.0), "diag_shift is 0.0"),
        (lambda: sr(-1e-3), "diag_shift is -0.001"),
        (lambda: sr(1e-3, momentum=1.0), "momentum is 1.0"),
        (lambda: sr(1e-3, momentum=-0.1), "momentum is -0.1"),
        (lambda: sr(1e-3, form="diagonal"), 'form is "diagonal"'),  # type: ignore
        (lambda: sr(1e-3, solver="lu"), 'solver "lu" is unknown'),
        (lambda: limit_kl(0.0), "max_kl is 0.0"),
        (lambda: sr(math.nan), "diag_shift is nan"),
        (lambda: limit_kl(math.nan), "max_kl is nan"),
    ],
)
def test_arguments_out_of_range(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(JobError, match=message):
        make()

"""Autoregressive nets: norm, draws, sectors, symmetry, gradients, jobs."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest
from scipy.stats import chisquare

import vmc
from ansatze import ANSATZE
from ansatze.scaled import LOG_ZERO
from tests.ansatze.cases import quick_jit, words
from tests.contracts.test_ansatze import random_params
from vmc import sampling
from vmc.base import Problem, WaveFunction
from vmc.errors import JobError
from vmc.sectors import Charge
from vmc.space import Spins, spins

FAMILIES = ("arnn_dense", "arnn_conv", "arnn_rnn")
RING = [(i, (i + 1) % 6) for i in range(6)]
TRANSLATIONS = np.array([np.roll(np.arange(6), -g) for g in range(6)])


def on_grid(space: Spins, *shape: int, wraps: bool = True, **keys: Any) -> Problem:
    return Problem(space, shape=shape, periodic=(wraps,) * len(shape), **keys)


def chain(space: Spins, **keys: Any) -> Problem:
    return on_grid(space, space.n_sites, **keys)


PROBLEMS: dict[str, Callable[[], Problem]] = {
    "free": lambda: chain(spins(10)),
    "positive": lambda: chain(spins(10, total_sz=1), dtype="real"),
    "sector": lambda: chain(spins(10, total_sz=0)),
    "grid": lambda: on_grid(spins(12, total_sz=1), 3, 4),
    "open": lambda: on_grid(spins(8, total_sz=0), 4, 2, wraps=False),
    "spin 1": lambda: chain(spins(6, spin=1, total_sz=-1)),
    "mixed": lambda: chain(spins(4, spin=[1, 0.5, 1.5, 0.5], total_sz=0.5)),
    "unequal": lambda: chain(spins(4, spin=[1, 0.5, 1.5, 0.5])),
    "blockade": lambda: chain(spins(6, blockade=RING)),
    "charges": lambda: on_grid(
        spins(6, charges=[Charge((1, 0, 2, 1, 0, 1), 1, 3)], total_sz=0), 2, 3
    ),
    "one site": lambda: chain(spins(1)),
    "odd": lambda: chain(spins(6), spin_flip=True, flip_character=-1),
    "even": lambda: on_grid(spins(8, total_sz=0), 2, 4, spin_flip=True),
    "ring": lambda: chain(spins(6, total_sz=0), symmetry=TRANSLATIONS, spin_flip=True),
    "positive ring": lambda: chain(
        spins(6), symmetry=TRANSLATIONS, spin_flip=True, dtype="real"
    ),
}
#: One of each kind: a sector on a grid, a group, sites of different size.
FAST = (("arnn_dense", "ring"), ("arnn_conv", "grid"), ("arnn_rnn", "mixed"))


def built(name: str, problem: Problem, **keys: Any) -> tuple[WaveFunction, Any]:
    wf = ANSATZE[name](problem, **{"features": 3, **keys})
    return wf, random_params(wf)


def drawn(wf: WaveFunction, params: Any, problem: Problem, n: int) -> tuple:
    """Log psi of the whole free space, draws, ln p of these, and log psi of these."""
    assert wf.exact is not None
    states = Spins(problem.space.local_dims).all_states()
    rows = quick_jit(wf.exact.sample)(params, words(problem, n))
    sigma, log_prob = map(np.asarray, rows)
    everything = np.concatenate([states, sigma])
    log_psi = np.asarray(quick_jit(wf.log_psi)(params, everything))
    return states, log_psi[: len(states)], sigma, log_prob, log_psi[len(states) :]


def code_of(sigma: np.ndarray, dims: tuple[int, ...]) -> np.ndarray:
    index = (np.array(dims) - 1 - sigma.astype(np.int64)) // 2
    return np.ravel_multi_index(tuple(index.T), dims)


def fits(codes: np.ndarray, p: np.ndarray) -> float:
    """p-value of counts against probabilities; rare states are counted together."""
    counts, want = np.bincount(codes, minlength=len(p)), p * len(codes)
    often = want > 5
    counts = np.append(counts[often], counts[~often].sum())
    want = np.append(want[often], want[~often].sum())
    kept = want > 0
    assert np.all(counts[~kept] == 0)
    return chisquare(counts[kept], want[kept]).pvalue if kept.sum() > 1 else 1.0


CASES = [
    pytest.param(
        name,
        kind,
        id=f"{name}-{kind}",
        marks=() if (name, kind) in FAST else pytest.mark.slow,
    )
    for name in FAMILIES
    for kind in PROBLEMS
]


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_norm_and_draws(name: str, kind: str) -> None:
    """All configurations, also those outside the sector, against independent draws."""
    problem = PROBLEMS[kind]()
    space = problem.space
    wf, params = built(name, problem)
    assert wf.exact is not None and wf.exact.log_norm is not None
    assert wf.exact.log_norm(params) == 0
    n = 20_000 if (name, kind) in FAST else 100_000
    states, log_psi, sigma, log_prob, again = drawn(wf, params, problem, n)
    p = np.exp(2 * log_psi.real)
    assert abs(p.sum() - 1) < 1e-12
    codes = code_of(states, space.local_dims)
    inside = np.isin(codes, code_of(space.all_states(), space.local_dims))
    assert np.all(log_psi.real[~inside] == LOG_ZERO) and np.all(p[~inside] == 0)
    assert np.all(p[inside] > 0)
    np.testing.assert_allclose(log_prob, 2 * again.real, atol=1e-12)
    assert sigma.dtype == np.int8
    assert fits(code_of(sigma, space.local_dims), p) > 1e-3
    # Neighbouring draws know nothing of each other.
    same = np.mean(np.all(sigma[1:] == sigma[:-1], axis=1))
    error = np.sqrt(np.sum(p**2) / len(sigma))
    assert abs(same - np.sum(p**2)) < 5 * error + 1e-12
    check_images(problem, log_psi, states)


def check_images(problem: Problem, log_psi: np.ndarray, states: np.ndarray) -> None:
    """psi of images is psi times the character, with the symmetries asked for only."""
    dims = problem.space.local_dims
    inside = np.isfinite(log_psi) & (log_psi.real > LOG_ZERO / 2)
    psi = np.where(inside, np.exp(log_psi), 0)

    def ratio(images: np.ndarray) -> bool:
        moved = psi[np.argsort(code_of(states, dims))][code_of(images, dims)]
        return bool(np.allclose(moved, factor * psi, atol=1e-12))

    factor = problem.flip_character if problem.spin_flip else 1
    if not problem.space.twice_sz and not problem.space.has_rules:  # type: ignore
        assert ratio(-states) == problem.spin_flip
    factor = 1
    if len(set(dims)) == 1 and len(dims) == 6 and problem.space.is_free:  # type: ignore
        assert ratio(states[:, TRANSLATIONS[1]]) == (problem.symmetry is not None)


@pytest.mark.parametrize(
    "name",
    ["arnn_rnn", *(pytest.param(n, marks=pytest.mark.slow) for n in FAMILIES[:2])],
)
def test_the_start_is_nearly_uniform_over_the_sector(name: str) -> None:
    space = spins(10, total_sz=2)
    wf = ANSATZE[name](chain(space, dtype="real"))
    params = quick_jit(wf.init)(jax.random.key(1))
    log_psi = np.asarray(quick_jit(wf.log_psi)(params, space.all_states()))
    assert 0 < np.max(np.abs(log_psi + 0.5 * np.log(space.n_states))) < 1.5


@pytest.mark.parametrize(
    ("name", "scale"),
    [
        ("arnn_dense", 12.0),
        pytest.param("arnn_conv", 12.0, marks=pytest.mark.slow),
        pytest.param("arnn_rnn", 40.0, marks=pytest.mark.slow),
    ],
)
def test_a_peak_is_moved_to_every_image(name: str, scale: float) -> None:
    """The element of the group knows nothing of the state that was drawn."""
    problem = PROBLEMS["positive ring"]()
    wf, params = built(name, problem)
    assert wf.exact is not None and wf.exact.sample is not None
    params = jax.tree.map(lambda x: scale * x, params)
    sigma, _ = quick_jit(wf.exact.sample)(params, words(problem, 50_000))
    codes = code_of(np.asarray(sigma), problem.space.local_dims)
    top = np.asarray(sigma)[np.argmax(np.bincount(codes)[codes])]
    images = np.concatenate([top[TRANSLATIONS], -top[TRANSLATIONS]])
    orbit = np.unique(code_of(images, problem.space.local_dims))
    counts = np.bincount(codes, minlength=64)[orbit]
    assert len(orbit) > 1 and counts.sum() > 15_000, "no peak: take a larger scale"
    assert chisquare(counts).pvalue > 1e-3


# ---- gradients -----------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["arnn_dense", *(pytest.param(n, marks=pytest.mark.slow) for n in FAMILIES[1:])],
)
def test_forbidden_states_have_no_gradient(name: str) -> None:
    """Finite everywhere, and sum_s p(s) d ln p(s) = 0 where many are forbidden."""
    problem = chain(spins(6, spin=0.5, total_sz=2))
    wf, params = built(name, problem, features=2)
    rows = Spins(problem.space.local_dims).all_states()
    p = np.exp(2 * np.asarray(quick_jit(wf.log_psi)(params, rows)).real)
    for (scores,) in jax.tree.leaves(
        quick_jit(wf.scores)(params, rows), is_leaf=lambda x: isinstance(x, tuple)
    ):
        scores = np.asarray(scores)[:, 0]
        assert np.all(np.isfinite(scores))
        np.testing.assert_allclose(p @ scores.real, 0, atol=1e-14)


# ---- jobs ----------------------------------------------------------------------


def job(ansatz: Any, **sections: Any) -> vmc.Job:
    keys = {"lattice": {"name": "chain", "size": [6]}}
    keys["hamiltonian"] = {"name": "heisenberg"}
    return vmc.Job(**keys | {"ansatz": ansatz} | sections)


def test_jobs_draw_directly_also_in_a_sector() -> None:
    made = vmc.build(job({"name": "arnn_conv", "features": 2}))
    assert made.job.sampler.name == "direct"
    assert made.job.hamiltonian.total_sz == 0
    resolved = made.job.ansatz
    assert resolved is not None and resolved.keys["depth"] == 2
    # The ground state of this ring has momentum pi; it is asked for by name only.
    assert made.problem.symmetry is None and made.problem.spin_flip
    table = {"momentum": [3]}
    named = vmc.build(job({"name": "arnn_dense", "features": 2, "symmetry": table}))
    assert named.job.sampler.name == "direct"
    with pytest.raises(JobError, match='exchange.*Use name = "direct"'):
        vmc.build(job({"name": "arnn_conv"}, sampler={"name": "exchange"}))
    rows = sampling.proposals("exchange", made.hamiltonian, made.system.lattice)
    assert rows.n_moves == 6, "in Python a chain of exchanges can still be built"


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_ground_state_of_a_chain(name: str) -> None:
    size = {"name": "chain", "size": [10]}
    short = {"n_chains": 512, "n_samples": 512}
    made = job({"name": name}, lattice=size, sampler=short, run={"n_steps": 60})
    result = vmc.run(made)
    assert abs(result.report["relative_error"]) < 2e-3
    np.testing.assert_array_equal(result.series["acceptance"], 1)


LATTICES = {
    "cells": Problem(spins(6), shape=(3,), periodic=(True,)),
    "cube": on_grid(spins(8), 2, 2, 2),
}
WRONG = {
    "features": ("arnn_conv", chain(spins(6)), {"features": 0}, "features is 0"),
    "depth": ("arnn_rnn", chain(spins(6)), {"depth": 0}, "depth is 0"),
    "kernel": ("arnn_conv", chain(spins(6)), {"kernel_size": 1}, "kernel_size is 1"),
    "cells": ("arnn_rnn", LATTICES["cells"], {}, "one site per cell"),
    "cube": ("arnn_conv", LATTICES["cube"], {}, "Use arnn_dense"),
    "flip": (
        "arnn_dense",
        chain(spins(6, total_sz=1), spin_flip=True),
        {},
        "leaves the sector",
    ),
    "momentum": (
        "arnn_dense",
        chain(spins(6), symmetry=TRANSLATIONS, characters=(-1.0) ** np.arange(6)),
        {},
        "cannot have these quantum numbers",
    ),
    "odd spin 1": (
        "arnn_dense",
        chain(spins(4, spin=1), spin_flip=True, flip_character=-1),
        {},
        "cannot have these quantum numbers",
    ),
    "odd and positive": (
        "arnn_dense",
        chain(spins(6), spin_flip=True, flip_character=-1, dtype="real"),
        {},
        'dtype = "complex"',
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_bad_input(case: str) -> None:
    name, problem, keys, message = WRONG[case]
    with pytest.raises(JobError, match=message):
        ANSATZE[name](problem, **keys)


def test_conditions_on_sites_are_refused() -> None:
    problem = chain(spins(4))
    wf, params = built("arnn_dense", problem)
    assert wf.exact is not None
    for call in (wf.exact.sample, wf.exact.log_norm):
        assert call is not None
        rows = (words(problem, 2),) if call is wf.exact.sample else ()
        with pytest.raises(JobError, match="cannot be drawn exactly"):
            call(params, *rows, allowed=np.ones((4, 2), bool))

"""Sizes that change: from an earlier run, and on schedule during a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import vmc
from vmc.errors import JobError
from vmc.jobfile import read_toml

KEYS: dict[str, Any] = {
    "lattice": {"name": "chain", "size": [6], "periodic": False},
    "hamiltonian": {"name": "tfim"},
    "ansatz": {"name": "mps", "bond_dimension": 2},
    "sampler": {"n_chains": 64, "n_samples": 128},
    "run": {"n_steps": 9, "steps_per_dispatch": 4},
    "measure": {"n_samples": 128},
}
GROW = [
    {"at": 3, "keys": {"bond_dimension": 3}},
    {"at": 6, "keys": {"bond_dimension": 4}},
]


def job(**sections: Any) -> vmc.Job:
    merged = {name: KEYS.get(name, {}) | keys for name, keys in sections.items()}
    return vmc.Job(**KEYS | merged)


def density(built: Any, params: Any) -> np.ndarray:
    states = built.hamiltonian.space.all_states()
    p = np.exp(2 * np.asarray(built.wavefunction.log_psi(params, states)).real)
    return p / p.sum()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any, list]:
    """A run that grows twice, its result and its states."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    infos = []
    result = vmc.run(job(run={"grow": GROW, "out": str(folder)}), callback=infos.append)
    return folder, result, infos


@pytest.mark.slow
def test_a_run_grows_on_schedule(whole: tuple[Path, Any, list]) -> None:
    folder, result, infos = whole
    sizes = {
        info.step: info.state.params["left"].shape[0]
        for info in infos
        if info.phase == "steps"
    }
    # Where else the host looks depends on how fast the machine is.
    assert {3, 6, 9} <= set(sizes)
    assert all(size == 2 + (step >= 3) + (step >= 6) for step, size in sizes.items())
    np.testing.assert_array_equal(result.series["step"], np.arange(1, 10))
    assert np.all(np.isfinite(result.series["energy"]))
    assert result.report["n_parameters"] == 6 * 2 * 16 + 8
    loaded = vmc.load(folder)
    assert loaded.params["left"].shape == (4,)
    assert density(loaded, loaded.params).shape == (64,)
    # The schedule of the learning rate goes on: it falls in the last third only.
    rate = result.series["learning_rate"]
    np.testing.assert_allclose(rate[:6], rate[0])
    step = result.series["update_norm"]
    assert np.all(step > 0)


def test_psi_and_walkers_are_kept_at_the_change() -> None:
    built = vmc.build(job(run={"grow": GROW}))
    state = built.vmc.advance(built.vmc.init(), 3)[0]
    later = built.at(3)
    assert built.at(2) is built and later.at(5) is later
    grown = later.taken_over(built, state)
    np.testing.assert_array_equal(grown.chains, state.chains)
    states = built.hamiltonian.space.all_states()
    before = built.wavefunction.log_psi(state.params, states)
    after = later.wavefunction.log_psi(grown.params, states)
    np.testing.assert_allclose(after, before, rtol=0, atol=1e-12)


@pytest.mark.parametrize("stop_at", [3, 4, 8])
@pytest.mark.slow
def test_an_interrupted_run_resumes_bit_for_bit(
    whole: tuple[Path, Any, list], tmp_path: Path, stop_at: int
) -> None:
    folder = tmp_path / "part"
    session = vmc.iterate(job(run={"grow": GROW, "out": str(folder)}))
    for info in session:
        if info.step == stop_at:
            break
    session.close()
    assert vmc.load(folder).params["left"].shape == (3 if stop_at < 6 else 4,)
    result = vmc.resume(folder).run()
    _, want, _ = whole
    for name, column in want.series.items():
        if name != "seconds":
            np.testing.assert_array_equal(result.series[name], column, err_msg=name)
    for one, other in zip(
        jax.tree.leaves(result.state.params), jax.tree.leaves(want.state.params)
    ):
        np.testing.assert_array_equal(one, other)
    assert result.energy == want.energy


@pytest.mark.parametrize(
    ("ansatz", "exact"),
    [
        ({"name": "mps", "bond_dimension": 6}, True),
        ({"name": "mps", "bond_dimension": 3}, False),
        ({"name": "cp", "rank": 8}, False),
    ],
)
@pytest.mark.slow
def test_a_run_starts_from_other_sizes(
    whole: tuple[Path, Any, list], ansatz: dict, exact: bool
) -> None:
    """Grown exactly, truncated, or (another family) fitted to samples."""
    folder, result, _ = whole
    later = vmc.build(
        vmc.Job(
            **KEYS
            | {"ansatz": ansatz, "run": {"start_from": str(folder), "n_steps": 1}}
        )
    )
    want = density(result.built, result.state.params)
    got = density(later, later.first_state().params)
    overlap = np.sum(np.sqrt(got * want))
    assert overlap > (1 - 1e-12 if exact else 0.99)


@pytest.mark.parametrize(
    ("run", "ansatz", "message"),
    [
        ({"grow": GROW[::-1]}, {}, r"at` are \[6, 3\]; they must increase"),
        ({"grow": GROW, "n_steps": 6}, {}, "stay below n_steps = 6"),
        ({"grow": [{"att": 3, "keys": {}}]}, {}, "unknown key 'att'.*'at'"),
        (
            {"grow": [{"at": 1, "keys": {"bond_dimensio": 3}}]},
            {},
            r"run.grow.0.keys\] unknown key 'bond_dimensio'.*bond_dimension",
        ),
        (
            {"grow": [{"at": 1, "keys": {"bond_dimension": 1}}]},
            {},
            "does not enlarge mps",
        ),
        (
            {"grow": [{"at": 1, "keys": {"periodic": True}}]},
            {},
            "nothing else may change",
        ),
        ({"grow": [{"at": 1, "keys": {"dtype": "real"}}]}, {}, "dtype cannot change"),
    ],
)
def test_schedules_that_are_refused(run: dict, ansatz: dict, message: str) -> None:
    with pytest.raises(JobError, match=message):
        vmc.build(job(run=run, ansatz=ansatz))


@pytest.mark.slow
def test_the_schedule_is_recorded(tmp_path: Path) -> None:
    path = tmp_path / "job.toml"
    path.write_text(vmc.build(job(run={"grow": GROW})).job.to_toml())
    assert read_toml(path)["run"]["grow"] == GROW
    assert vmc.Job.load(path).run.grow[1].keys == {"bond_dimension": 4}

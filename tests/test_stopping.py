"""Runs that end their steps early, and at the same step when they are resumed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vmc
from vmc.errors import JobError
from vmc.stopping import enough

KEYS: dict[str, Any] = {
    "lattice": {"name": "chain", "size": [6]},
    "hamiltonian": {"name": "tfim"},
    "ansatz": {"name": "rbm", "alpha": 1},
    "sampler": {"n_chains": 64, "n_samples": 64},
    "measure": {"n_samples": 256},
}


def job(**run: Any) -> vmc.Job:
    return vmc.Job(**KEYS, run={"n_steps": 400, "steps_per_dispatch": 10, **run})


def series(energy: np.ndarray, variance: float = 1.0) -> dict[str, np.ndarray]:
    n = len(energy)
    return {
        "step": np.arange(1, n + 1),
        "energy": energy,
        "variance": np.full(n, variance),
        "rejected": np.zeros(n),
    }


def test_the_rules() -> None:
    rng = np.random.default_rng(0)
    flat = -7.0 + 0.01 * rng.normal(size=200)
    falling = flat - 0.002 * np.arange(200)
    where = {"n_sites": 6, "e_infinity": -1.0}
    plateau, score = job(stop_at={"plateau": 100}), job(stop_at={"v_score": 1e-2})
    assert enough(plateau, series(flat + 1e-4 * np.arange(200)), **where)
    assert enough(plateau, series(falling), **where) is None
    assert enough(plateau, series(flat[:90]), **where) is None
    # 6 * 0.06 / 36 is 0.01.
    assert enough(score, series(flat, 0.0596), **where)
    assert enough(score, series(flat, 0.0604), **where) is None
    assert enough(score, series(flat[:10], 0.01), **where) is None
    # Only at steps at which every run looks, and after the last change.
    assert enough(score, series(flat[:199], 0.01), **where) is None
    grown = job(stop_at={"v_score": 1}, grow=[{"at": 300, "n_samples": 128}])
    assert enough(grown, series(flat, 0.01), **where) is None
    # What was rejected does not count, and older runs did not know the word.
    bad = series(flat, 0.01)
    bad["variance"][-5:], bad["rejected"][-5:] = 1e9, 1
    assert enough(score, bad, **where)
    del bad["rejected"]
    assert enough(score, bad, **where) is None
    assert enough(score, {}, **where) is None


def test_half_of_flat_runs_are_seen_and_few_falling_ones() -> None:
    rng = np.random.default_rng(1)
    rule, where = job(stop_at={"plateau": 100}), {"n_sites": 6, "e_infinity": 0.0}
    noise = 0.01 * rng.normal(size=(200, 100))
    slope = -0.0005 * np.arange(100)  # by five standard errors from half to half
    seen = [
        np.mean([enough(rule, series(-7 + e), **where) is not None for e in rows])
        for rows in (noise, noise + slope)
    ]
    assert seen[0] > 0.7 and seen[1] < 0.01


@pytest.mark.parametrize(
    ("run", "message"),
    [
        ({"stop_at": {"plateau": 10}}, "plateau = 10: expected a number of steps"),
        ({"stop_at": {"v_score": 0}}, "v_score = 0: expected a positive number"),
        ({"grow": [{"at": 3}]}, "give keys, n_samples or both"),
        ({"grow": [{"at": 3, "n_samples": 100}]}, "no multiple of the 64 walkers"),
    ],
)
def test_what_is_refused(run: dict[str, Any], message: str) -> None:
    with pytest.raises(JobError, match=message):
        vmc.build(job(**run))


@pytest.mark.slow
def test_a_resumed_run_stops_at_the_same_step(tmp_path: Path) -> None:
    keys = {"stop_at": {"v_score": 2e-2}}
    whole = vmc.run(job(**keys, out=str(tmp_path / "whole")))
    n_steps = len(whole.series["step"])
    assert whole.status == "done" and 20 <= n_steps < 400 and n_steps % 10 == 0
    assert whole.report["n_steps"] == n_steps and whole.energy is not None
    assert "enough steps: V-score" in (tmp_path / "whole" / "run.log").read_text()

    def leave(info: Any) -> None:
        if info.step >= 15:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        vmc.run(job(**keys, out=str(tmp_path / "cut")), callback=leave)
    resumed = vmc.resume(tmp_path / "cut").run()
    assert len(resumed.series["step"]) == n_steps
    np.testing.assert_array_equal(resumed.series["energy"], whole.series["energy"])
    # It is done: nothing more happens unless the rule changes.
    again = vmc.resume(tmp_path / "cut", more_steps=10).run()
    assert len(again.series["step"]) == n_steps


@pytest.mark.slow
def test_samples_grow_during_a_run() -> None:
    grow = [{"at": 10, "n_samples": 1024}]
    result = vmc.run(job(n_steps=20, grow=grow))
    assert result.built.job.sampler.n_samples == 1024
    error = result.series["error"]
    assert np.mean(error[10:]) < 0.5 * np.mean(error[5:10])
    assert result.series["step"].tolist() == list(range(1, 21))

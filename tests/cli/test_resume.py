"""What a run that goes on may change, and what it keeps."""

import os
import shutil
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.cli.conftest import Outcome, invoke
from vmc import runlog
from vmc.signals import MARGIN, queue_limit


@pytest.fixture
def done(whole: tuple[Path, Outcome], tmp_path: Path) -> Path:
    """A copy of a finished run of 30 steps."""
    return Path(shutil.copytree(whole[0], tmp_path / "copy"))


def test_more_steps_with_another_optimizer(done: Path) -> None:
    before = runlog.read(done).series
    outcome = invoke(
        "resume", str(done), "--steps", "10", "--json",
        *("--set", "optimizer.name=adam", "--set", "sampler.n_samples=64"),
    )  # fmt: skip
    assert outcome.code == 0 and outcome.json["n_steps"] == 40
    file = runlog.read(done)
    np.testing.assert_array_equal(file.series["step"], range(1, 41))
    np.testing.assert_array_equal(file.series["energy"][:30], before["energy"])
    assert np.isnan(file.series["kl"][30:]).all()  # Adam's
    (event,) = file.provenance["trail"]
    assert event["step"] == 30
    changed = event["changed"]
    assert changed["run.n_steps"] == 40 and changed["optimizer.name"] == "adam"
    assert changed["sampler.n_samples"] == 64
    assert file.job["optimizer"]["name"] == "adam"


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ("ansatz.alpha=2", "keeps its ansatz.alpha"),
        ("sampler.n_chains=64", "keeps its sampler.n_chains"),
        ("optimizer.learning_rat=1", "did you mean 'learning_rate'"),
    ],
)
def test_what_may_not_change(done: Path, item: str, message: str) -> None:
    outcome = invoke("resume", str(done), "--steps", "1", "--set", item)
    assert outcome.code == 2 and message in outcome.err


def lose(run: Path, status: str) -> None:
    """As it is after a node died before the first checkpoint."""
    for path in run.glob("checkpoint-*"):
        path.unlink()
    with h5py.File(run / "run.h5", "r+") as file:
        assert file.attrs["status"] == "done"
        file.attrs["status"] = status


def test_a_run_that_was_lost_before_its_first_checkpoint(done: Path) -> None:
    before = runlog.read(done).series
    lose(done, "running")
    outcome = invoke("resume", str(done))
    assert outcome.code == 2 and "if it is running elsewhere" in outcome.err
    long_ago = time.time() - 60
    os.utime(done / "run.h5", (long_ago, long_ago))
    outcome = invoke("resume", str(done), "--json")
    assert outcome.code == 0 and outcome.json["n_steps"] == 30
    assert "begins again at step 0" in outcome.err
    after = runlog.read(done).series
    np.testing.assert_array_equal(after["energy"], before["energy"])
    assert (done / "run.h5.lost").exists()


def test_a_run_that_was_stopped_before_its_first_checkpoint(done: Path) -> None:
    lose(done, "stopped")
    outcome = invoke("resume", str(done), "--json")
    assert outcome.code == 0 and "begins again at step 0" in outcome.err


def test_the_queue_ends_a_run_in_time() -> None:
    assert queue_limit({}) == np.inf
    assert queue_limit({"SLURM_JOB_END_TIME": "soon"}) == np.inf
    left = queue_limit({"SLURM_JOB_END_TIME": str(int(time.time()) + 600)})
    assert 600 - MARGIN - 2 <= left <= 600 - MARGIN
    assert queue_limit({"SLURM_JOB_END_TIME": "1"}) == 0

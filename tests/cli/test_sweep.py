"""``vmc sweep`` on a tiny job: points that really run, stop, go on and fail."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import pytest

from tests.cli.conftest import Outcome, invoke
from tests.mpi.ranks import environment, mpirun, ranks
from vmc import checkpoint, runlog

JobFile = Callable[[], Path]

H = "hamiltonian.h"
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def processes(compiled_once: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs as processes of their own find the package and what is compiled already."""
    cache = str(jax.config.jax_compilation_cache_dir)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", cache)
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "table.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def same_series(one: Path, other: Path) -> None:
    a, b = runlog.read(one), runlog.read(other)
    for name in a.series.keys() - {"seconds"}:
        np.testing.assert_array_equal(a.series[name], b.series[name], err_msg=name)
    assert a.result is not None and b.result is not None
    assert a.result["energy"] == b.result["energy"]


def test_a_dry_run_lists_and_writes_nothing(job_file: JobFile) -> None:
    job = job_file()
    outcome = invoke(
        "sweep", job, "--grid", f"{H}=0.5:1.5:0.5", "--seeds", "2", "--dry-run"
    )
    assert outcome.code == 0
    lines = outcome.out.splitlines()
    assert len(lines) == 7 and lines[0].split() == ["point", "name", "status"]
    assert lines[-1].split() == ["5", "h=1.5,seed=2", "waiting"]
    assert [p.name for p in Path.cwd().iterdir()] == ["job.toml"]
    points = invoke(
        "sweep", job, "--grid", f"{H}=1,2", "--chain", H, "--dry-run", "--json"
    ).json["points"]
    assert points[1]["after"] == "h=1,seed=1" and points[1]["overrides"][0] == f"{H}=2"


def test_a_point_is_the_run_of_the_same_job(
    whole: tuple[Path, Outcome], job_file: JobFile
) -> None:
    job = job_file()
    grid = ("--grid", f"{H}=1.0,1.1")
    prepared = invoke("sweep", job, *grid, "--out", "s", "--prepare")
    assert prepared.code == 0 and "--task N" in prepared.err
    outcome = invoke("sweep", "s", "--task", "0", "--json")
    assert outcome.code == 0 and outcome.json["energy"] == whole[1].json["energy"]
    same_series(whole[0], Path("s/h=1.0,seed=1"))
    again = invoke("sweep", "s", "--task", "0", "--json")
    assert "is done already" in again.err and again.json["energy"]
    table = invoke("sweep", "s", "--table", "--json").json
    assert [r["status"] for r in table["rows"]] == ["done", "waiting"]
    assert table["rows"][0]["energy"] == outcome.json["energy"]["mean"]
    assert rows(Path("s"))[0]["exact"] == repr(outcome.json["exact"]["energy"])


def test_a_chain_hands_its_parameters_on(
    compiled_once: None, job_file: JobFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("--grid", f"{H}=1.0,1.001", "--chain", H, "--out", "s")
    assert invoke("sweep", job_file(), *options, "--prepare").code == 0
    early = invoke("sweep", "s", "--task", "1")
    assert early.code == 2 and "h=1.0,seed=1, which is waiting" in early.err
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "0")
    assert invoke("sweep", "s", "--array").code == 0
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "1")
    assert invoke("sweep", "s", "--array").code == 0
    first, second = (runlog.read(f"s/h={h},seed=1") for h in ("1.0", "1.001"))
    # From a random start the variance is ten times larger.
    assert first.series["variance"][0] > 5 * second.series["variance"][0]
    assert second.job["run"]["start_from"] == str(Path("s/h=1.0,seed=1").resolve())
    assert invoke("sweep", "s", "--array").code == 0  # done
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "2")
    assert "has the points 0 to 1" in invoke("sweep", "s", "--array").err
    monkeypatch.delenv("SLURM_ARRAY_TASK_ID")
    assert "set in the tasks of a Slurm array" in invoke("sweep", "s", "--array").err


def test_a_sweep_goes_on_and_failures_are_in_the_table(
    job_file: JobFile, processes: None
) -> None:
    # The field of a list has one value per site: of one alone nothing can be built.
    options = ("--grid", f"{H}=0.8,[1.0]", "--seeds", "2", "--out", "s")
    job = job_file()
    assert invoke("sweep", job, *options, "--prepare").code == 0
    assert invoke("sweep", "s", "--task", "0").code == 0
    first = Path("s/h=0.8,seed=1")
    before = {p.name: p.stat().st_mtime_ns for p in first.iterdir()}
    outcome = invoke("sweep", job, *options, "--jobs", "3", "--json")
    assert outcome.code == 1
    assert {p.name: p.stat().st_mtime_ns for p in first.iterdir()} == before
    assert runlog.read(first).provenance["trail"] == []
    table = rows(Path("s"))
    assert [r["status"] for r in table] == ["done", "done", "failed", "failed"]
    assert [r["seed"] for r in table] == ["1", "2", "1", "2"]
    assert all("h" in r["message"] and "6" in r["message"] for r in table[2:])
    assert "h=0.8,seed=1: done (before)" in outcome.err
    assert not list(Path("s").glob("*lost*"))
    other = runlog.read("s/h=0.8,seed=2").result
    assert other is not None and float(table[1]["energy"]) == other["energy"]["mean"]
    assert table[0]["energy"] != table[1]["energy"]
    (mean,) = outcome.json["averages"]
    assert mean["n_runs"] == 2
    assert mean["energy"] == pytest.approx(
        (float(table[0]["energy"]) + float(table[1]["energy"])) / 2
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--grid", "hamiltonian.hh=1"), "did you mean 'h'?"),
        (("--grid", f"{H}=1", "--table", "--dry-run"), "exclude each other"),
        (("--grid", f"{H}=1", "--table"), "--prepare"),
        (("--grid", f"{H}=1", "--task", "0", "--plot"), "go with the whole sweep"),
        (("--grid", f"{H}=1", "--out", "."), "holds no sweep"),
        ((), "nothing to sweep"),
    ],
)
def test_bad_options(job_file: JobFile, options: tuple[str, ...], message: str) -> None:
    outcome = invoke("sweep", job_file(), *options)
    assert outcome.code == 2 and message in outcome.err and outcome.out == ""
    assert [p.name for p in Path.cwd().iterdir()] == ["job.toml"]


def test_a_folder_takes_no_grid(job_file: JobFile) -> None:
    options = ("--grid", f"{H}=1", "--out", "s", "--prepare")
    assert invoke("sweep", job_file(), *options).code == 0
    refused = invoke("sweep", "s", "--grid", f"{H}=2")
    assert refused.code == 2 and "give the job file instead" in refused.err
    refused = invoke("sweep", job_file(), "--grid", f"{H}=2", "--out", "s")
    assert refused.code == 2 and "holds another sweep" in refused.err
    assert (
        "at least 3"
        in invoke(
            "sweep", job_file(), "--grid", "lattice.size=6,8", "--out", "t", "--prepare"
        ).err
        + invoke("sweep", "t", "--table", "--extrapolate").err
    )


def test_several_ranks_are_refused(
    job_file: JobFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "2")
    monkeypatch.setenv("OMPI_COMM_WORLD_RANK", "0")
    outcome = invoke("sweep", job_file(), "--grid", f"{H}=1,2")
    assert outcome.code == 2 and "mpirun -n R vmc sweep SWEEP --task N" in outcome.err
    assert not Path("sweeps").exists()


def start(*arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "vmc", "sweep", *arguments])


def saved(folder: Path) -> bool:
    return folder.is_dir() and bool(checkpoint.paths(folder))


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_sweep_that_is_stopped_goes_on_bit_for_bit(
    job_file: JobFile, processes: None, number: signal.Signals
) -> None:
    long = ("run.n_steps=1500", "run.checkpoint_minutes=0.001")
    options = [x for item in long for x in ("--set", item)]
    options += ["--grid", f"{H}=0.9,1.1,1.3", "--jobs", "2"]
    job = str(job_file())
    going = start(job, *options, "--out", "s")
    points = [Path(f"s/h={h},seed=1") for h in (0.9, 1.1, 1.3)]
    wait_for(lambda: all(map(saved, points[:2])))
    going.send_signal(number)
    code = going.wait(timeout=120)
    if number == signal.SIGTERM:
        assert code == 75
        states = [runlog.read(p).status for p in points[:2]]
        assert states == ["stopped", "stopped"] and not points[2].exists()
    else:
        # Its runs outlive the sweep, and nobody else touches them meanwhile.
        assert code == -signal.SIGKILL
        again = start("s")
        assert again.wait(timeout=240) == 0
        wait_for(lambda: all(runlog.read(p).status == "done" for p in points))
        assert all(runlog.read(p).provenance["trail"] == [] for p in points)
    assert start("s").wait(timeout=240) == 0
    table = rows(Path("s"))
    assert [r["status"] for r in table] == ["done"] * 3
    assert start(job, *options, "--out", "whole").wait(timeout=240) == 0
    for point in points:
        same_series(point, Path("whole") / point.name)


@pytest.mark.slow
@pytest.mark.mpi
@pytest.mark.skipif(mpirun() is None, reason="there is no mpirun here")
def test_a_point_on_several_ranks(
    whole: tuple[Path, Outcome], job_file: JobFile, processes: None
) -> None:
    options = ("--grid", f"{H}=1.0,[1.0]", "--out", "s", "--prepare")
    assert invoke("sweep", job_file(), *options).code == 0
    vmc = [sys.executable, "-m", "vmc", "sweep", "s"]
    kept = environment(
        JAX_COMPILATION_CACHE_DIR=os.environ["JAX_COMPILATION_CACHE_DIR"]
    )

    def run(*more: str) -> subprocess.CompletedProcess[str]:
        command = ranks(2, [*vmc, *more])
        return subprocess.run(
            command, env=kept, capture_output=True, text=True, timeout=240
        )

    good = run("--task", "0")
    assert good.returncode == 0, good.stderr
    assert "2 ranks (Open MPI)" in good.stderr
    bad = run("--task", "1")
    assert bad.returncode != 0
    one, two = (runlog.read(p) for p in (whole[0], Path("s/h=1.0,seed=1")))
    np.testing.assert_allclose(
        one.series["energy"], two.series["energy"], rtol=0, atol=1e-9
    )
    table = invoke("sweep", "s", "--table", "--json").json["rows"]
    assert [r["status"] for r in table] == ["done", "failed"]
    assert "2 ranks" in Path("s/logs/h=1.0,seed=1.log").read_text()
    refused = run()
    assert refused.returncode != 0 and "processes of their own" in refused.stderr

"""Cells that really run: in this process, and a suite that is killed half way."""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jax
import psutil
import pytest

from tests.cli.conftest import Outcome, invoke
from vmc import bench, bench_pace, runlog
from vmc.assembly import build
from vmc.bench_ansatze import SIZES
from vmc.bench_cell import run_cell, sized
from vmc.bench_problems import Problem, find
from vmc.bench_results import empty
from vmc.bench_suite import Cell, Suite, plan
from vmc.errors import JobError
from vmc.job import Job
from vmc.jobfile import to_toml
from vmc.signals import ORPHANED, REASONS, StopFlag

ROOT = Path(__file__).resolve().parents[2]
#: E0 of four spins in a ring, h = J = 1: -sqrt(4 + 2 sqrt 2) * 2.
EXACT = -2 * math.sqrt(4 + 2 * math.sqrt(2))
RING = {
    "label": "ring",
    "lattice": {"name": "chain", "size": [4]},
    "hamiltonian": {"name": "tfim"},
    "reference": {"energy": EXACT, "source": "on paper"},
    "rule": {"pass_relative_error": 0.1, "time_limit_minutes": 5.0},
}
SMALL = {
    "sampler": {"n_chains": 32, "n_samples": 32},
    "measure": {"n_samples": 1024},
    "optimizer": {"name": "sr"},
    "run": {"checkpoint_minutes": 1e-6, "n_steps": 20},
}


def one_cell(**keys: Any) -> Cell:
    tables: dict[str, Any] = {"name": "s", "problems": [RING], "ansatze": ["rbm"]}
    (cell,) = plan(Suite(**(tables | {"settings": SMALL} | keys)), Path()).cells
    return cell


def test_a_budget_of_seconds_ends_the_steps_and_then_measures(
    compiled_once: None, tmp_path: Path
) -> None:
    budget = {"seconds": 0.5, "max_steps": 3000}
    cell = one_cell(budget=budget, entropy=[1, 2])
    folder = tmp_path / cell.name
    folder.parent.mkdir(parents=True)
    # As if the trial had been on a far faster machine: the planned steps do not fit.
    job = Job(**cell.job)
    pace = {"seconds_per_step": 1e-6, "start_seconds": 0.0}
    pace["fingerprint"] = bench_pace.fingerprint(job, cell.extras["budget"])  # pyright: ignore
    (folder.parent / bench_pace.FILE).write_text(json.dumps(pace))

    spec = json.loads(json.dumps(cell.spec()))
    done = run_cell(spec, folder, began=time.time(), stop=StopFlag())
    result = json.loads((folder / "result.json").read_text())
    assert done.status == "done" and done.built.job.run.n_steps == 3000
    assert 10 <= result["n_steps"] < 3000
    assert result["seconds"] > result["optimise_seconds"] >= 0.5
    assert result["measure_seconds"] > 0
    assert result["compile_seconds"] < result["optimise_seconds"]
    assert result["series"]["steps"][-1] == result["n_steps"]
    times = result["series"]["seconds"]
    assert times == sorted(times) and times[-1] <= result["optimise_seconds"] + 1e-3
    assert result["relative_error"] == pytest.approx(
        (result["energy"] - EXACT) / abs(EXACT), rel=1e-9
    )
    assert set(result) == set(empty(Problem(**spec["problem"]), "rbm", 1, "done"))
    assert result["fingerprint"] == cell.fingerprint
    assert [row["sites"] for row in result["entropy"]] == [1, 2]
    assert all(row["measured_error"] is not None for row in result["entropy"])
    assert "host" not in result["machine"] and str(tmp_path) not in json.dumps(result)

    # Killed before the result was written: the budget is spent, only the measurement
    # is left, and it is the same one.
    (folder / "result.json").unlink()
    again = run_cell(spec, folder, began=time.time(), stop=StopFlag())
    assert again.report["n_steps"] == result["n_steps"]
    assert again.report["energy"]["mean"] == result["energy"]
    second = json.loads((folder / "result.json").read_text())
    assert second["seconds"] > result["optimise_seconds"]


@pytest.mark.parametrize(
    ("budget", "n_steps"),
    [
        (None, None),
        (
            {"seconds": 10.0, "samples": None, "max_steps": 5000},
            70,
        ),  # (9 - 1 - 1) / 0.1
        ({"seconds": 10.0, "samples": None, "max_steps": 50}, 50),
        ({"seconds": 2.5, "samples": None, "max_steps": 50}, None),
    ],
)
def test_steps_that_fit(budget: Any, n_steps: int | None, tmp_path: Path) -> None:
    job = Job(**one_cell().job)
    if budget is not None:
        pace = {"seconds_per_step": 0.0999, "start_seconds": 1.0}
        known = pace | {"fingerprint": bench_pace.fingerprint(job, budget)}
        (tmp_path / bench_pace.FILE).write_text(json.dumps(known))
    if budget is not None and n_steps is None:
        with pytest.raises(JobError, match=r"holds 2 steps: 1\.0 s pass"):
            bench_pace.steps_of(job, budget, tmp_path, 1.0)
        return
    assert bench_pace.steps_of(job, budget, tmp_path, 1.0) == n_steps


def test_the_cells_that_never_ran_are_in_the_tables(tmp_path: Path) -> None:
    tables: dict[str, Any] = {"name": "s", "problems": [RING], "ansatze": ["rbm"]}
    made = plan(Suite(**tables), tmp_path)
    suite, results = bench.write_tables(made, tmp_path)
    assert [r["status"] for r in results] == ["missing"]
    assert results[0]["error"] == "not run yet" and results[0]["passed"] is None
    assert bench.read(tmp_path) == (suite, results)
    assert suite["verdicts"][0]["passed"] is None
    assert suite["verdicts"][0]["why"] == "not all seeds are done"
    header, row = (tmp_path / "results.csv").read_text().splitlines()
    assert header.startswith("format,schema,problem,ansatz,seed,status")
    assert ",ring,rbm,1,missing," in row
    listed = invoke("bench", "list", "--json").json
    assert listed["heis_chain_8_P"]["reference"]["kind"] == "exact"


def test_bad_input_has_code_2(tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    path.write_text('name = "s"\nproblems = ["heis_chain_8_Q"]\nansatze = ["rbm"]\n')
    outcome = invoke("bench", path)
    assert outcome.code == 2 and "did you mean 'heis_chain_8_P'" in outcome.err
    assert not (tmp_path / "bench").exists(), "nothing is written"
    outcome = invoke("bench", "compare", tmp_path, tmp_path)
    assert outcome.code == 2 and "no suite folder" in outcome.err


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(SIZES))
def test_families_are_sized_alike(name: str) -> None:
    """Near 400 parameters, as near as the family's steps allow."""
    problem = find("heis_chain_12_P")
    tables = {"lattice": problem.lattice, "hamiltonian": problem.hamiltonian}
    job = sized(Job(**tables, ansatz={"name": name}), 400)  # pyright: ignore
    n_parameters = build(job).vmc.n_parameters
    assert 400 / 1.6 < n_parameters < 400 * 1.6, (job.ansatz, n_parameters)


# ---- a suite in processes of its own -------------------------------------------------

TINY = {
    "name": "tiny",
    "seeds": 2,
    "problems": [{k: v for k, v in RING.items() if k != "rule"}],
    "ansatze": [
        "rbm",
        {"label": "bad", "ansatz": {"name": "convac", "channels": [1, 2, 3, 4, 5]}},
    ],
    "budget": {"samples": 32000},
    "settings": SMALL,
}


@pytest.fixture
def processes(compiled_once: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    cache = str(jax.config.jax_compilation_cache_dir)
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", cache)
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")


def suite(out: str, *more: str) -> Outcome:
    return invoke("bench", "tiny.toml", "--out", out, "--json", *more)


def kill_half_way(out: Path, everything: bool) -> None:
    """Start the suite; kill all of it when seed 1 is done and seed 2 has begun."""
    words = [sys.executable, "-m", "vmc", "bench", "tiny.toml", "--out", str(out)]
    process = subprocess.Popen(words, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list(out.glob("ring/rbm/seed2/checkpoint-*.h5")):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.002)
    children = psutil.Process(process.pid).children(recursive=True)
    for one in (process.pid, *(child.pid for child in children if everything)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(one, signal.SIGKILL)
    process.wait()
    if everything:
        psutil.wait_procs(children, timeout=30)


CELL = """
import sys, time
from pathlib import Path
from vmc.signals import StopFlag

flag, end = StopFlag(), time.monotonic() + 60
Path("ready").touch()
while not flag.requested and time.monotonic() < end:
    time.sleep(0.01)
Path("part").write_text(f"{flag.code} {flag.reason}")
Path("part").rename("reason")
"""
SUITE = """
import os, subprocess, sys
parent = str(os.getpid()) if sys.argv[2] == "me" else sys.argv[2]
env = os.environ | {"VMC_PARENT": parent}
subprocess.run([sys.executable, "-c", sys.argv[1]], env=env)
"""


@pytest.mark.parametrize(("parent", "ends"), [("me", True), ("1", False)])
def test_cells_do_not_outlive_their_suite(
    parent: str, ends: bool, tmp_path: Path
) -> None:
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", SUITE, CELL, parent]
    suite = subprocess.Popen(command, cwd=tmp_path, env=env)

    def there(name: str, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while not (tmp_path / name).exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        return (tmp_path / name).exists()

    assert there("ready", 60) and not (tmp_path / "reason").exists()
    (cell,) = psutil.Process(suite.pid).children()
    suite.kill()
    suite.wait()
    if ends:
        assert there("reason", 30)
        said = (tmp_path / "reason").read_text()
        assert said == f"{REASONS.index(ORPHANED)} {ORPHANED}"
    else:  # it was not started by a suite
        assert not there("reason", 0.5) and cell.is_running()
        cell.kill()


@pytest.mark.slow
@pytest.mark.parametrize("everything", [True, False])
def test_killed_half_way_and_started_again(processes: None, everything: bool) -> None:
    """The suite and its cells, or the suite alone: they end, and then go on."""
    Path("tiny.toml").write_text(to_toml(TINY))
    whole = suite("whole")
    assert whole.code == 1, "one cell fails, the others are done"
    table = {(r["ansatz"], r["seed"]): r for r in whole.json["results"]}
    assert [r["status"] for r in table.values()] == ["done", "failed"] * 2
    assert "channels = [1, 2, 3" in table["bad", 1]["error"]
    assert table["rbm", 1]["n_steps"] == 1000

    kill_half_way(Path("killed"), everything)
    kept = Path("killed/ring/rbm/seed1/result.json")
    before = (kept.stat().st_mtime_ns, kept.read_text())
    assert not Path("killed/ring/rbm/seed2/result.json").exists()
    status = runlog.read(Path("killed/ring/rbm/seed2")).status
    assert status in ({"running"} if everything else {"running", "stopped"})
    again = suite("killed")
    assert (kept.stat().st_mtime_ns, kept.read_text()) == before, "not run again"
    for result in again.json["results"]:
        assert result["energy"] == table[result["ansatz"], result["seed"]]["energy"]
    log = Path("killed/logs/ring/rbm/seed1.log").read_text()
    assert log.count("=== ") == 1
    trail = runlog.read(Path("killed/ring/rbm/seed2")).provenance["trail"]
    assert [event["event"] for event in trail] == ["resumed"]
    assert invoke("bench", "compare", "whole", "killed", "--factor", "99").code == 0

    # Other settings: everything is stale, nothing is used or run.
    other = ("--set", "measure.n_samples=2048", "--only", "rbm")
    stale = suite("killed", *other)
    marked = [r for r in stale.json["results"] if r["ansatz"] == "rbm"]
    assert [r["status"] for r in marked] == ["stale"] * 2
    assert "measure.n_samples = 1024 (now 2048)" in marked[0]["stale_because"]
    assert "--rerun-stale" in stale.err
    assert (kept.stat().st_mtime_ns, kept.read_text()) == before
    new = suite("killed", *other, "--rerun-stale").json["results"]
    marked = [r for r in new if r["ansatz"] == "rbm"]
    assert [r["status"] for r in marked] == ["done"] * 2
    assert Path("killed/ring/rbm/seed1.stale-1/result.json").read_text() == before[1]

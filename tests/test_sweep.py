"""Sweeps without a run: grids, names, tables, fits, stand-ins for the processes."""

from __future__ import annotations

import csv
import json
import math
import os
import signal
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.cli.conftest import TINY
from vmc import runlog, sweep_run
from vmc.errors import JobError
from vmc.job import Job
from vmc.signals import StopFlag
from vmc.sweep import Sweep, load, merge, save
from vmc.sweep_fit import doubts, extrapolate, fit_sizes
from vmc.sweep_grid import labels, name_of, parse
from vmc.sweep_plan import plan
from vmc.sweep_state import (
    State,
    begin_attempt,
    claim,
    last_error,
    log_path,
    look,
    make_room,
)
from vmc.sweep_table import averages, collect, row, write_csv

H = "hamiltonian.h"
DISORDER = "hamiltonian.disorder_seed"


# ---- grids ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("0.5:1.5:0.1", [0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3, 1.4, 1.5]),
        ("0:9:1", list(range(10))),
        ("1:0:-0.25", [1.0, 0.75, 0.5, 0.25, 0.0]),
        ("1e-3:3e-3:1e-3", [0.001, 0.002, 0.003]),
        ("0:1:0.4", [0.0, 0.4, 0.8]),
        ("2:2:1", [2]),
        ("8,12,16", [8, 12, 16]),
        ("[4,4],[6,6]", [[4, 4], [6, 6]]),
        ("0.01,0.02", [0.01, 0.02]),
        ("rbm,mps", ["rbm", "mps"]),
        ('"a,b",my.py:build', ["a,b", "my.py:build"]),
        ('{init = 0.1, end = 0.01},"auto"', [{"init": 0.1, "end": 0.01}, "auto"]),
        ("true,1", [True, 1]),
    ],
)
def test_values_of_a_grid(text: str, values: list[Any]) -> None:
    key, found = parse(f" a.b = {text}")
    assert key == "a.b" and found == values
    assert [type(v) for v in found] == [type(v) for v in values]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.b", "expected section.key=VALUES"),
        ("a..b=1", "expected section.key=VALUES"),
        ("a.b=", "a value is missing"),
        ("a.b=1,,2", "a value is missing"),
        ("a.b=1:2", "START:STOP:STEP with the end included, as 1:2:1"),
        ("a.b=1:2:-0.5", "did you mean 1:2:0.5"),
        ("a.b=2:1:1", "did you mean 2:1:-1"),
        ("a.b=1:2:0", "no value lies between"),
        ("a.b=0:1:1e-9", "more than 10000 values"),
        ("a.b=0:1:1e-99", "more than 10000 values"),
        ("a.b=0.5,1,0.50", "the value 0.5 comes twice"),
    ],
)
def test_bad_grids(text: str, message: str) -> None:
    with pytest.raises(JobError, match=message.replace(".", r"\.")):
        parse(text)


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({H: 0.5}, "h=0.5,seed=1"),
        ({"lattice.size": [4, 6], H: 1}, "size=4x6,h=1,seed=1"),
        ({"lattice.name": "chain", "ansatz.name": "rbm"}, None),
        ({}, "seed=1"),
        ({DISORDER: 3, "hamiltonian.seed": 2}, "disorder_seed=3,hamiltonian.seed=2"),
    ],
)
def test_names_of_points(values: dict[str, Any], name: str | None) -> None:
    name = name or "lattice.name=chain,ansatz.name=rbm,seed=1"
    assert name_of(values, 1).startswith(name)


def test_names_are_safe_for_file_systems() -> None:
    wild = ["../x", "a/b", "a b", "ä", "x" * 500, "", {"init": 0.1}, "a:b", "."]
    names = [name_of({"a.b": value}, 1) for value in wild]
    assert len({n.lower() for n in names}) == len(wild)
    for name in names:
        assert set(name) <= set(
            "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._=,+~-"
        )
        assert len(name) <= 160 and not name.startswith(".")
    long = {f"ansatz.key_{n}": 0.123456 for n in range(20)}
    assert len(name_of(long, 1)) <= 160 and name_of(long, 1) != name_of(long, 2)
    assert labels(["seed", "a.seed"]) == {"seed": "seed", "a.seed": "a.seed"}


# ---- plans ---------------------------------------------------------------------------


@pytest.fixture
def job(tmp_path: Path) -> Job:
    path = tmp_path / "job.toml"
    path.write_text(TINY)
    return Job.load(path)


@pytest.fixture
def made(job: Job, tmp_path: Path) -> Sweep:
    """Four points, on disk."""
    found = plan(job, [f"{H}=0.5,1.0"], folder=tmp_path / "out", n_seeds=2)
    save(found)
    return found


def test_points_are_all_combinations(job: Job, tmp_path: Path) -> None:
    grids = [f"{H}=0.5:1:0.5", "lattice.size=6,8"]
    found = plan(job, grids, folder=tmp_path / "out", n_seeds=2)
    names = [p.name for p in found.points]
    assert names[:3] == ["h=0.5,size=6,seed=1", "h=0.5,size=6,seed=2", names[2]]
    assert len(set(names)) == 8 and names[-1] == "h=1.0,size=8,seed=2"
    last = found.job_of(found.points[-1])
    assert last.hamiltonian.keys["h"] == 1.0 and last.seed == 2
    assert last.lattice is not None and last.lattice.size == [8]
    assert last.run.out == str(tmp_path / "out" / names[-1])
    assert last.run.n_steps == 30  # of the base job


@pytest.mark.parametrize(
    ("grids", "message"),
    [
        (["hamiltonian.hh=1,2"], "unknown key 'hh' for 'tfim'; did you mean 'h'"),
        (["hamiltonia.h=1,2"], "unknown key 'hamiltonia'; did you mean 'hamiltonian'"),
        (["optimizer.learnin_rate=1"], "did you mean 'learning_rate'"),
        (["ansatz.alpha=1,x"], "alpha=x.*expected int"),
        (["lattice.sizes=6"], "unknown key 'sizes'"),
        (["lattice.name=chian"], "did you mean 'chain'"),
        (["sampler.n_chains=32,0"], "n_chains=0.*expected an integer >= 1"),
        ([f"{H}=1", f"{H}=2"], "has a grid already"),
        (["run.out=a,b"], "own folder"),
        (["seed=1,2", "--seeds"], "once"),
        ([], "nothing to sweep"),
        ([f"{H}=1,2", "--chain=hamiltonian.J"], "did you mean 'hamiltonian.h'"),
        ([f"{H}=1", f"--chain={H}"], "several values"),
    ],
)
def test_bad_sweeps_are_refused_before_anything_runs(
    job: Job, tmp_path: Path, grids: list[str], message: str
) -> None:
    options: dict[str, Any] = {"n_seeds": 2} if "--seeds" in grids else {}
    for text in grids:
        if text.startswith("--chain="):
            options["chain"] = text.partition("=")[2]
    grids = [text for text in grids if not text.startswith("--")]
    with pytest.raises(JobError, match=f"(?s){message}"):
        plan(job, grids, folder=tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_paths_do_not_depend_on_the_place_of_the_job_file(
    job: Job, tmp_path: Path
) -> None:
    (tmp_path / "mine.py").write_text("def build(n_sites: int = 4): ...\n")
    custom = job.replace({"run": {"start_from": "earlier"}})
    grids = ["hamiltonian.name=mine.py:build,tfim"]
    found = plan(custom, grids, folder=tmp_path / "out")
    point = found.points[0]
    assert point.values["hamiltonian.name"] == "mine.py:build"
    assert found.job_of(point).hamiltonian.name == f"{tmp_path}/mine.py:build"
    assert found.job_of(point).run.start_from == str(tmp_path / "earlier")


def test_a_chain_starts_from_its_neighbour(job: Job, tmp_path: Path) -> None:
    grids = [f"{H}=1.0,0.8,0.6", "ansatz.alpha=1,2"]
    found = plan(job, grids, folder=tmp_path / "out", n_seeds=2, chain=H)
    after = {p.name: p.after for p in found.points}
    assert after["h=1.0,alpha=2,seed=1"] is None
    assert after["h=0.6,alpha=2,seed=2"] == "h=0.8,alpha=2,seed=2"
    point = found.point("h=0.8,alpha=1,seed=2")
    start = tmp_path / "out" / "h=1.0,alpha=1,seed=2"
    assert found.job_of(point).run.start_from == str(start)


# ---- on disk -------------------------------------------------------------------------


def test_a_sweep_is_read_back(made: Sweep) -> None:
    again = load(made.folder)
    assert again.points == made.points and again.grid == made.grid
    assert [again.job_of(p) for p in again.points] == [
        made.job_of(p) for p in made.points
    ]
    content = json.loads((made.folder / "sweep.json").read_text())
    assert content["format"] == "vmc-sweep" and content["schema"] == 1
    assert "[hamiltonian]" in content["job"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "damaged"),
        ("[]", "damaged"),
        ('{"format": "x"}', "damaged or no sweep"),
        ('{"format": "vmc-sweep", "schema": 2}', "newer than 1"),
    ],
)
def test_foreign_sweep_files(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(JobError, match="not the folder of a sweep"):
        load(tmp_path)
    (tmp_path / "sweep.json").write_text(text)
    with pytest.raises(JobError, match=message):
        load(tmp_path)


def test_points_may_be_added_and_keep_their_numbers(made: Sweep, job: Job) -> None:
    more = plan(job, [f"{H}=0.5,0.75,1.0"], folder=made.folder, n_seeds=3)
    both = merge(load(made.folder), more)
    assert both.points[:4] == made.points
    assert [p.number for p in both.points] == list(range(9))
    order = [(p.values[H], p.seed) for p in both.in_order()]
    assert order == sorted(order)
    save(both)
    assert load(made.folder).points == both.points


@pytest.mark.parametrize(
    ("grids", "changes", "message"),
    [
        ([f"{H}=0.5"], {}, "it has the points h=1.0,seed=1; h=1.0,seed=2"),
        ([f"{H}=0.5,1.0"], {"run": {"n_steps": 31}}, "run.n_steps is 30 there, 31"),
        ([f"{H}=0.5,1.0"], {"hamiltonian": {"J": 2.0}}, "hamiltonian.J is not set the"),
        (
            [f"{H}=0.5,1.0", "ansatz.alpha=1"],
            {},
            "there, hamiltonian.h, ansatz.alpha here",
        ),
    ],
)
def test_another_sweep_in_the_same_folder_is_refused(
    made: Sweep, job: Job, grids: list[str], changes: dict[str, Any], message: str
) -> None:
    new = plan(job.replace(changes), grids, folder=made.folder, n_seeds=2)
    with pytest.raises(JobError, match=message):
        merge(made, new)


def test_a_chain_grows_at_its_end_only(job: Job, tmp_path: Path) -> None:
    def chain(values: str) -> Sweep:
        return plan(job, [f"{H}={values}"], folder=tmp_path / "out", chain=H)

    old = chain("0.5,1.0")
    assert merge(old, chain("0.5,1.0,1.5")).points[2].after == "h=1.0,seed=1"
    for values in ("0.5,0.75,1.0", "0.1,0.5,1.0"):
        with pytest.raises(JobError, match="at its end"):
            merge(old, chain(values))


# ---- states --------------------------------------------------------------------------


def test_one_point_is_run_by_one_process(made: Sweep) -> None:
    point = made.points[0]
    assert look(made, point).status == "waiting"
    first = claim(made, point)
    assert first is not None and first.state.status == "waiting"
    assert look(made, point).status == "running" and claim(made, point) is None
    first.log.close()
    assert look(made, point).status == "waiting"


def test_only_the_error_of_the_last_attempt_counts(made: Sweep) -> None:
    point = made.points[0]
    claimed = claim(made, point)
    assert claimed is not None
    begin_attempt(claimed.log, "run")
    claimed.log.write(b"warning: w\nerror: first\n  more of it\n")
    claimed.log.flush()
    claimed.log.close()
    assert look(made, point) == State("failed", message="first\n  more of it")
    again = claim(made, point)
    assert again is not None
    begin_attempt(again.log, "run")
    again.log.close()
    assert look(made, point).status == "waiting"


@pytest.mark.parametrize("rows", [0, 3])
def test_data_without_a_checkpoint_are_kept(made: Sweep, job: Job, rows: int) -> None:
    point = made.points[0]
    folder = made.folder_of(point)
    folder.mkdir()
    (folder / "run.log").write_text("started\n")
    log = runlog.RunLog.create(folder, job, {})
    if rows:
        log.append({"step": np.arange(rows), "energy": np.zeros(rows)})
        log.flush(force=True)
    assert look(made, point)[:2] == ("interrupted", False)
    kept = make_room(folder)
    assert not folder.exists()
    assert kept == (folder.with_name(f"{folder.name}.lost-1") if rows else None)
    if kept:
        assert len(runlog.read(kept).series["step"]) == 3


def test_foreign_folders_are_left_alone(made: Sweep) -> None:
    folder = made.folder_of(made.points[0])
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(JobError, match="is in the way"):
        make_room(folder)
    assert (folder / "notes.txt").read_text() == "mine"


# ---- stand-ins for the runs ----------------------------------------------------------

#: Notes how it was called; a signal ends it as a run that has saved.
STAND_IN = """#!/bin/bash
echo "$OPENBLAS_NUM_THREADS $*" >> {folder}/calls
trap 'echo saved; exit 75' TERM USR1 INT
{body}
"""


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], Path]:
    """body -> the file with the calls of a program that takes the place of a run."""

    def make(body: str) -> Path:
        path = tmp_path / "stand-in"
        path.write_text(STAND_IN.format(folder=tmp_path, body=body))
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setattr(sweep_run.sys, "executable", str(path))
        return tmp_path / "calls"

    return make


def test_failures_do_not_stop_the_others(
    made: Sweep, stand_in: Callable[[str], Path]
) -> None:
    body = """case "$*" in
        *seed=2*h=1.0* | *h=1.0*seed=2*) kill -9 $$ ;;
        *h=0.5*seed=1*) echo 'error: no such thing' >&2; exit 2 ;;
        *h=0.5*) echo Traceback; echo 'ValueError: oh'; exit 1 ;;
    esac"""
    calls = stand_in(body)
    told: list[tuple[str, str]] = []
    runner = sweep_run.Runner(made, tell=lambda p, what, _: told.append((p.name, what)))
    assert runner.run(made.points)
    lines = calls.read_text().splitlines()
    assert len(lines) == 4
    assert "-m vmc run" in lines[0] and lines[0].endswith("--quiet")
    messages = [last_error(log_path(made, p)) for p in made.points]
    assert messages == [
        "no such thing",
        "exit code 1: ValueError: oh",
        "",
        "killed by SIGKILL (out of memory?)",
    ]
    rows = collect(made)
    assert [r["status"] for r in rows] == ["failed", "failed", "waiting", "failed"]
    assert rows[0]["message"] == "no such thing"
    assert told[0] == (made.points[0].name, "started")


def test_points_of_a_broken_chain_wait(
    job: Job, tmp_path: Path, stand_in: Callable[[str], Path]
) -> None:
    made = plan(job, [f"{H}=0.5,1.0,1.5"], folder=tmp_path / "out", chain=H)
    save(made)
    calls = stand_in("echo 'error: bad'; exit 2")
    assert sweep_run.Runner(made, jobs=3).run(made.points)
    assert len(calls.read_text().splitlines()) == 1
    rows = collect(made)
    assert [r["status"] for r in rows] == ["failed", "waiting", "waiting"]
    assert rows[1]["message"] == "it starts from h=0.5,seed=1: failed"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_signals_are_passed_on(
    made: Sweep, stand_in: Callable[[str], Path], number: signal.Signals
) -> None:
    calls = stand_in(f"echo $$ >> {made.folder}/pids; while true; do sleep 0.02; done")
    stop = StopFlag()
    pids = made.folder / "pids"

    def ask() -> None:
        while not pids.exists() or len(pids.read_text().split()) < 2:
            time.sleep(0.01)
        stop.stop(number.name)

    thread = threading.Thread(target=ask)
    thread.start()
    runner = sweep_run.Runner(
        made, jobs=2, stop=stop, environment=lambda p: {"OPENBLAS_NUM_THREADS": "7"}
    )
    assert not runner.run(made.points)
    thread.join()
    lines = calls.read_text().splitlines()
    assert len(lines) == 2 and all(line.startswith("7 ") for line in lines)
    for pid in pids.read_text().split():
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid), 0)
    assert all(look(made, p).status == "waiting" for p in made.points)


def test_no_point_starts_at_the_end_of_the_batch_job(
    made: Sweep, stand_in: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = stand_in("exit 0")
    monkeypatch.setenv("SLURM_JOB_END_TIME", str(int(time.time()) + 30))
    stop = StopFlag()
    assert not sweep_run.Runner(made, stop=stop).run(made.points)
    assert stop.reason == "the time limit" and not calls.exists()


# ---- tables --------------------------------------------------------------------------


def done(values: dict[str, Any], seed: int, mean: float, error: float | None) -> dict:
    energy = {"mean": mean, "error": error, "variance": 0.1}
    report = {"energy": energy, "energy_per_site": mean / 4, "n_sites": 4}
    return row("x", values, seed, State("done", False, report, 2.0))


def test_seeds_are_averaged_with_the_larger_error() -> None:
    rows = [done({H: 1.0}, n, e, 0.3) for n, e in enumerate([-1.0, -1.1, -0.9])]
    rows += [done({H: 2.0}, n, e, 0.01) for n, e in enumerate([-1.0, -1.2])]
    rows.append(done({H: 3.0}, 1, -5.0, 0.2))
    rows.append(row("x", {H: 1.0}, 9, State("failed", message="no")))
    first, second, third = averages(rows, [H])
    assert first["n_runs"] == 3 and first["energy"] == pytest.approx(-1.0)
    assert first["statistical"] == pytest.approx(0.3 / math.sqrt(3))
    assert first["scatter"] == pytest.approx(0.1 / math.sqrt(3))
    assert first["error"] == first["statistical"]
    # Standard deviation sqrt(2) 0.1, over sqrt(2).
    assert second["error"] == second["scatter"] == pytest.approx(0.1)
    assert second["energy_per_site"] == pytest.approx(-1.1 / 4)
    assert second["error_per_site"] == pytest.approx(0.1 / 4)
    assert third["scatter"] is None and third["error"] == pytest.approx(0.2)


def test_disorder_gives_sample_to_sample_errors() -> None:
    # Each sample is the mean of its two seeds first.
    energies = {0: (-1.0, -1.2), 1: (-2.0, -2.2), 2: (-3.0, -3.2)}
    rows = [
        done({H: 1.0, DISORDER: sample}, seed, e, 0.02)
        for sample, both in energies.items()
        for seed, e in enumerate(both)
    ]
    (mean,) = averages(rows, [H, DISORDER])
    assert mean["n_disorder"] == 3 and mean["n_runs"] == 6
    assert mean["energy"] == pytest.approx(-2.1) and DISORDER not in mean
    assert mean["error"] == pytest.approx(1 / math.sqrt(3))
    assert mean["statistical"] == pytest.approx(0.02 / math.sqrt(6))
    (alone,) = averages(rows[:2], [H, DISORDER])
    assert alone["error"] is None and alone["error_per_site"] is None


def test_csv_keeps_all_digits(tmp_path: Path) -> None:
    rows = [done({"lattice.size": [4, 4]}, 1, -1 / 3, 0.1)]
    rows.append(row("y", {"lattice.size": [6, 6]}, 1, State("failed", message="a\nb,")))
    write_csv(tmp_path / "t.csv", rows)
    with (tmp_path / "t.csv").open(newline="") as file:
        first, second = csv.DictReader(file)
    assert float(first["energy"]) == -1 / 3 and first["lattice.size"] == "[4, 4]"
    assert second["energy"] == "" and second["message"] == "a\nb,"


# ---- fits ----------------------------------------------------------------------------


@pytest.mark.parametrize("power", [1.0, 2.0, 0.5])
def test_a_fit_gives_back_what_was_put_in(power: float) -> None:
    sizes = [8, 12, 16, 32]
    energies = [-1.25 + 0.7 / n**power for n in sizes]
    for errors in ([1e-3, 2e-3, 1e-3, 5e-4], [0.0] * 4):
        fit = fit_sizes(sizes, energies, errors, power)
        assert fit.e_inf == pytest.approx(-1.25, abs=1e-13)
        assert fit.slope == pytest.approx(0.7, abs=1e-11)
        assert fit.dof == 2
    assert fit.chi2_per_dof is None and fit.e_inf_error < 1e-13


def test_errors_of_a_fit_cover_the_truth() -> None:
    rng = np.random.default_rng(11)
    sizes, errors = [6, 8, 12, 20, 40], np.array([1e-3, 8e-4, 2e-3, 5e-4, 1e-3])
    truth = -0.4431 - 0.3 / np.array(sizes) ** 2
    noise = errors * rng.standard_normal((3000, len(sizes)))
    fits = [fit_sizes(sizes, list(truth + n), list(errors), 2.0) for n in noise]
    pulls = np.array([(f.e_inf + 0.4431) / f.e_inf_error for f in fits])
    slopes = np.array([(f.slope + 0.3) / f.slope_error for f in fits])
    for found in (pulls, slopes):
        # Standard errors of these three at 3000 draws: 0.0085, 0.018, 0.013.
        assert np.mean(np.abs(found) < 1) == pytest.approx(0.6827, abs=0.035)
        assert np.mean(found) == pytest.approx(0, abs=0.08)
        assert np.std(found) == pytest.approx(1, abs=0.055)
    chi2 = np.array([f.chi2_per_dof for f in fits], float)
    assert np.mean(chi2) == pytest.approx(1, abs=0.06)
    chances = np.array([f.chance for f in fits], float)
    assert np.mean(chances < 0.1) == pytest.approx(0.1, abs=0.025)


def test_the_critical_ising_chain_extrapolates_to_its_exact_energy() -> None:
    # Ring of N sites at h = J = 1: E0 = -2 / sin(pi / 2N); E0 / N -> -4 / pi.
    sizes = [32, 48, 64, 96]
    means = [
        {
            "lattice.size": n,
            "n_sites": n,
            "energy_per_site": -2 / math.sin(math.pi / (2 * n)) / n,
            "error_per_site": 1e-6,
        }
        for n in sizes
    ]
    (good,) = extrapolate(means, ["lattice.size"], 2.0)
    assert good["e_inf"] == pytest.approx(-4 / math.pi, abs=2 * good["e_inf_error"])
    assert good["slope"] == pytest.approx(-math.pi / 6, rel=1e-2)
    assert not doubts([good])
    (bad,) = extrapolate(means, ["lattice.size"], 1.0)
    (warning,) = doubts([bad])
    assert "too small" in warning and abs(bad["e_inf"] + 4 / math.pi) > 1e-5


def test_fits_need_three_sizes_with_errors() -> None:
    with pytest.raises(JobError, match="at least 3 .*there are 2: N = 4, 8"):
        fit_sizes([4, 8], [-1.0, -1.1], [0.1, 0.1])
    with pytest.raises(JobError, match="N = 4 have no error bar"):
        fit_sizes([4, 8, 16], [-1.0, -1.1, -1.2], [0.0, 0.1, 0.1])
    with pytest.raises(JobError, match="lattice.size is not in the grid"):
        extrapolate([], [H])
    with pytest.raises(JobError, match="at least 3"):
        extrapolate([], ["lattice.size"])
    rows = [
        done({"lattice.size": n, DISORDER: 0}, 1, -1.0 * n, 0.1) for n in (4, 8, 16)
    ]
    keys = ["lattice.size", DISORDER]
    with pytest.raises(JobError, match="only one disorder sample"):
        extrapolate(averages(rows, keys), keys)


# ---- pictures ------------------------------------------------------------------------


def test_without_matplotlib_the_error_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from vmc.sweep_plot import require

    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    with pytest.raises(JobError, match=r"pip install 'nqs-vmc\[plots\]'"):
        require()


@pytest.mark.parametrize("fitted", [False, True])
def test_a_picture_is_drawn(tmp_path: Path, fitted: bool) -> None:
    pytest.importorskip("matplotlib")
    from vmc.sweep_plot import draw

    keys = ["ansatz.name", "lattice.size"]
    means = [
        {
            "ansatz.name": name,
            "lattice.size": [n, n],
            "n_sites": n * n,
            "energy_per_site": -1 + shift / n**2,
            "error_per_site": 0.01,
        }
        for name, shift in (("rbm", 0.5), ("mps", 0.7))
        for n in (2, 3, 4)
    ]
    fits = extrapolate(means, keys) if fitted else []
    draw(tmp_path / "table.png", means, keys, fits=fits)
    assert (tmp_path / "table.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(JobError, match="no point of the sweep is done"):
        draw(tmp_path / "none.png", [], keys)

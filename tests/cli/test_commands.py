"""The commands on a tiny job, end to end: run, stop, resume, show, measure, list."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import vmc
from tests.cli.conftest import TINY, Outcome, invoke, loaded
from vmc import checkpoint, runlog
from vmc.cli import console, environment, report
from vmc.signals import SIGNALS, StopFlag

#: Columns that differ between two equal runs.
WALL = {"seconds"}


def same_numbers(one: Path, other: Path) -> None:
    """Two runs agree bit for bit: series, parameters, measurement."""
    a, b = runlog.read(one), runlog.read(other)
    assert a.series.keys() == b.series.keys()
    for name in a.series.keys() - WALL:
        assert np.array_equal(a.series[name], b.series[name], equal_nan=True), name
    assert a.result is not None and b.result is not None
    assert a.result["energy"] == b.result["energy"]
    with h5py.File(one / "run.h5") as f, h5py.File(other / "run.h5") as g:
        assert np.array_equal(f["parameters/W"][()], g["parameters/W"][()])  # type: ignore


def interrupt_at(
    monkeypatch: pytest.MonkeyPatch, step: int, act: Callable[[], None]
) -> None:
    """Do something after the dispatch that reaches a step."""

    @contextlib.contextmanager
    def progress(n_sites: int, *, quiet: bool = False) -> Iterator[Any]:
        yield lambda info: act() if info.phase == "steps" and info.step >= step else 0

    monkeypatch.setattr("vmc.cli.progress.progress", progress)


def test_the_report_of_a_run(whole: tuple[Path, Outcome]) -> None:
    folder, outcome = whole
    assert outcome.code == 0
    report = outcome.json
    energy = report["energy"]
    assert set(energy) >= {"mean", "error", "variance", "tau", "r_hat", "n_samples"}
    assert energy["n_samples"] == 1024
    exact = report["exact"]
    relative = (energy["mean"] - exact["energy"]) / abs(exact["energy"])
    assert report["relative_error"] == pytest.approx(relative)
    assert -4 * energy["error"] < energy["mean"] - exact["energy"] < 0.1
    assert report["n_sites"] == 6 and report["n_steps"] == 30
    assert report["n_parameters"] == 6 and report["status"] == "done"
    e_infinity = 0.0
    score = 6 * energy["variance"] / (energy["mean"] - e_infinity) ** 2
    assert report["v_score"] == pytest.approx(score)
    assert "step" in outcome.err and "E/N" in outcome.err
    shown = invoke("show", folder, "--json").json
    assert {k: shown[k] for k in report if k != "run"} == {
        k: v for k, v in report.items() if k != "run"
    }
    assert "relative error" in invoke("show", folder).out


def test_exact_energy_agrees_with_ed(whole: tuple[Path, Outcome]) -> None:
    folder, outcome = whole
    levels = invoke("ed", folder.parent / "job.toml", "--json").json
    assert levels["energies"][0] == pytest.approx(outcome.json["exact"]["energy"])
    assert (
        levels["energies"] == sorted(levels["energies"]) and levels["dimension"] == 64
    )


def test_the_series(whole: tuple[Path, Outcome]) -> None:
    folder, _ = whole
    series = invoke("show", folder, "--series", "--json").json
    assert series["step"] == list(range(1, 31))
    assert set(series) >= {
        *("step", "energy", "error", "variance", "acceptance", "seconds")
    }
    assert all(len(values) == 30 for values in series.values())
    assert invoke("show", folder, "--series").out.splitlines()[-1].split()[0] == "30"


def test_the_stored_job_is_resolved_and_runs_again(
    whole: tuple[Path, Outcome], tmp_path: Path
) -> None:
    folder, _ = whole
    resolved = invoke("show", folder, "--job").out
    assert '"auto"' not in resolved.replace('diag_shift = "auto"', "").replace(
        'solver = "auto"', ""
    )
    (tmp_path / "again.toml").write_text(resolved)
    arguments = ("run", "again.toml", "--out", "again", "--quiet")
    assert invoke(*arguments).code == 0
    same_numbers(folder, tmp_path / "again")


def test_provenance_names_no_host(whole: tuple[Path, Outcome]) -> None:
    import platform

    where = runlog.read(whole[0]).provenance
    assert {"started", "seed", "packages", "host", "version"} <= where.keys()
    assert where["host"]["n_devices"] == 4
    assert platform.node() not in str(where["host"])


@pytest.mark.parametrize("number", SIGNALS)
def test_signals_set_a_flag(number: signal.Signals) -> None:
    stop = StopFlag()
    stop.install()
    assert not stop.requested
    os.kill(os.getpid(), number)
    assert stop.reason == number.name
    if number == signal.SIGINT:
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)


def test_a_stopped_run_resumes_bit_for_bit(
    whole: tuple[Path, Outcome],
    job_file: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    number = signal.SIGTERM
    with monkeypatch.context() as patch:
        interrupt_at(patch, 11, lambda: os.kill(os.getpid(), number))
        outcome = invoke("run", job_file(TINY), "--out", "part", "--json")
    assert outcome.code == 75
    assert outcome.json["energy"] is None and outcome.json["status"] == "stopped"
    assert f"stopped by {number.name}" in outcome.err
    assert "vmc resume part" in outcome.err
    stopped_at = outcome.json["n_steps"]
    assert 11 <= stopped_at < 30
    assert invoke("show", "part", "--json").json["n_steps"] == stopped_at
    resumed = invoke("resume", "part", "--json")
    assert resumed.code == 0 and resumed.json["status"] == "done"
    same_numbers(whole[0], Path("part"))
    trail = runlog.read("part").provenance["trail"]
    assert [event["step"] for event in trail] == [stopped_at]


def test_a_killed_run_is_rebuilt_from_its_checkpoint(
    whole: tuple[Path, Outcome],
    job_file: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Killed in the middle of a write: run.h5 is cut, a newer checkpoint too."""

    def die() -> None:
        files = {p.name: p.read_bytes() for p in Path("part").iterdir()}
        Path("killed").mkdir()
        for name, content in files.items():
            (Path("killed") / name).write_bytes(content)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        interrupt_at(patch, 25, die)
        arguments = ("--set", "run.out=part", "--set", "run.checkpoint_minutes=1e-9")
        invoke("run", job_file(TINY), *arguments)
    newest, older = checkpoint.paths(Path("killed"))
    newest.write_bytes(newest.read_bytes()[:4000])
    (Path("killed") / "run.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    (Path("killed") / "checkpoint-1.h5.tmp.99").write_bytes(b"half")
    assert invoke("show", "killed", "--json").json["status"] == "damaged"
    assert invoke("resume", "killed").code == 0
    same_numbers(whole[0], Path("killed"))
    names = {p.name for p in Path("killed").iterdir()}
    assert newest.name + ".damaged" in names and not any(".tmp." in n for n in names)
    assert older.name != newest.name


def test_max_time_stops_and_saves(
    compiled_once: None, job_file: Callable[[str], Path]
) -> None:
    outcome = invoke("run", job_file(TINY), "--max-time", "0.001", "--json")
    assert outcome.code == 75 and "stopped by the time limit" in outcome.err
    assert outcome.json["n_steps"] == 0 and outcome.json["run"] == "runs/job"
    assert [p.name for p in checkpoint.paths(Path("runs/job"))] == [
        "checkpoint-00000000.h5"
    ]
    assert "0 of 30" in invoke("show", "runs/job").err


def test_resuming_a_finished_run_prints_its_result(
    whole: tuple[Path, Outcome],
) -> None:
    before = (whole[0] / "run.h5").read_bytes()
    outcome = invoke("resume", whole[0], "--json")
    assert outcome.code == 0 and outcome.json["energy"] == whole[1].json["energy"]
    assert (whole[0] / "run.h5").read_bytes() == before


def test_measuring_again(whole: tuple[Path, Outcome]) -> None:
    again = invoke("measure", whole[0], "--json").json
    assert again["energy"] == whole[1].json["energy"]
    more = invoke("measure", whole[0], "--n-samples", "4096", "--json").json
    assert more["energy"]["n_samples"] == 4096
    assert more["energy"]["error"] < again["energy"]["error"]


def test_a_numerical_failure_keeps_the_last_good_state(
    compiled_once: None,
    job_file: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from vmc.driver import VMC

    advance = VMC.advance

    def fail(self: VMC, state: Any, n_steps: int) -> Any:
        """The driver's way to say that step 6 went wrong."""
        state, records = advance(self, state, 5)
        raise vmc.NumericalError("a smaller learning_rate", state, records)

    monkeypatch.setattr(VMC, "advance", fail)
    outcome = invoke("run", job_file(TINY), "--set", "run.out=bad")
    assert outcome.code == 3
    assert "learning_rate" in outcome.err and "bad" in outcome.err
    file = runlog.read("bad")
    assert file.status == "failed" and file.series["step"].tolist() == [1, 2, 3, 4, 5]
    assert np.all(np.isfinite(file.series["energy"]))
    assert [p.name for p in checkpoint.paths(Path("bad"))] == ["checkpoint-00000005.h5"]


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (-1.273239, 0.00012, "-1.27324(12)"),
        (-1.273239, 0.000996, "-1.2732(10)"),
        (-20.4, 1.5, "-20.4(15)"),
        (-20.4, 99.7, "-20(100)"),
        (-20.4, 1234.0, "-20(1234)"),
        (-20.4, float("nan"), "-20.4"),
        (-20.4, 0.0, "-20.4"),
        (-0.27333475827602726, 4.9e-17, "-0.2733347583"),
    ],
)
def test_numbers_with_errors(value: float, error: float, text: str) -> None:
    assert console.with_error(value, error) == text


def test_check_says_what_will_happen(job_file: Callable[[str], Path]) -> None:
    facts = invoke("check", job_file(TINY), "--json").json
    sizes = facts["sizes"]
    assert (sizes["n_sites"], sizes["dimension"], sizes["n_parameters"]) == (6, 64, 6)
    assert facts["memory"]["total"] > 0 and facts["warnings"] == []
    assert "momentum = [0]" in facts["job"]
    assert "n_parameters" in invoke("check", job_file(TINY)).out
    assert not Path("runs").exists()


def test_check_for_other_devices(job_file: Callable[[str], Path]) -> None:
    here = invoke("check", job_file(TINY), "--json", "--devices", "1").json
    there = invoke("check", job_file(TINY), "--json", "--devices", "16").json
    assert there["sizes"]["n_devices"] == 16
    assert there["memory"]["scores"] == here["memory"]["scores"] // 16
    refused = invoke("check", job_file(TINY), "--devices", "3")
    assert refused.code == 2 and "30 and 33" in refused.err


def test_list_names_everything_with_keys() -> None:
    listed = invoke("list", "--json").json
    kinds = {"lattice", "hamiltonian", "ansatz", "sampler", "optimizer", "observable"}
    assert set(listed) == kinds
    assert listed["hamiltonian"]["tfim"]["keys"]["h"] == 1.0
    assert listed["hamiltonian"]["tfim"]["summary"].startswith("H = -J sum")
    assert "alpha" in listed["ansatz"]["rbm"]["keys"]
    assert "rbm" in invoke("list", "ansatz").out
    assert invoke("list", "anzatz").code == 2


def test_the_python_api_gives_the_same_numbers(whole: tuple[Path, Outcome]) -> None:
    job = vmc.Job.load(whole[0].parent / "job.toml")
    seen = [info.step for info in vmc.iterate(job)]
    assert seen[-1] == 30 and seen == sorted(seen)
    assert not Path("runs").exists()
    run = vmc.load(whole[0])
    assert run.status == "done" and run.chains.shape == (32, 6)
    assert set(np.unique(run.chains)) <= {-1, 1}
    log_psi = run.wavefunction.log_psi(run.params, run.chains)
    assert log_psi.shape == (32,) and bool(np.all(np.isfinite(np.asarray(log_psi))))
    assert run.hamiltonian.diagonal(run.chains).shape == (32,)


def test_callbacks_may_stop_a_run(whole: tuple[Path, Outcome]) -> None:
    def stop(info: vmc.Info) -> None:
        if info.phase == "steps" and info.step >= 10:
            raise vmc.StopRun

    result = vmc.run(whole[0].parent / "job.toml", callback=stop)
    assert result.status == "done" and result.report["n_steps"] < 30
    assert result.energy is not None and result.energy.n_samples == 1024
    assert len(result.series["step"]) == result.report["n_steps"]


def test_leaving_the_loop_saves_the_run(whole: tuple[Path, Outcome]) -> None:
    job = vmc.Job.load(whole[0].parent / "job.toml")
    for info in vmc.iterate(job, out="left"):
        if info.step >= 10:
            break
    assert vmc.load("left").status == "stopped"
    assert vmc.resume("left").run().status == "done"
    same_numbers(whole[0], Path("left"))


@pytest.mark.parametrize("dtype", ["real", "complex"])
def test_the_headline_counts_parameters_by_their_type(dtype: str) -> None:
    """Real parameters may give a psi of either sign, whose logarithm is complex."""
    ansatz = {"name": "mps", "bond_dimension": 2, "dtype": dtype}
    chain, model = {"name": "chain", "size": [4]}, {"name": "tfim"}
    job = vmc.Job(lattice=chain, hamiltonian=model, ansatz=ansatz)
    text = report.headline(vmc.build(job), Path("run"))
    assert f" {dtype} parameters, " in text


def test_help_and_refusals_load_nothing_heavy() -> None:
    use = (
        "try:\n    app(['run', 'missing.toml'])\n"
        "except SystemExit as error:\n    assert error.code == 2"
    )
    heavy = {"jax", "numpy", "scipy", "flax", "optax", "h5py", "networkx"}
    assert not loaded(use) & heavy


@pytest.mark.parametrize(
    ("user", "n_samples", "recorded", "expected"),
    [
        (None, 1000, None, "1"),
        (None, None, None, "1"),
        (None, 100000, None, None),
        ("3", 100000, None, "3"),
        ("3", None, "2", "2"),
    ],
)
def test_openblas_threads(
    monkeypatch: pytest.MonkeyPatch,
    user: str | None,
    n_samples: int | None,
    recorded: str | None,
    expected: str | None,
) -> None:
    monkeypatch.setenv(environment.THREADS, user or "")
    if user is None:
        monkeypatch.delenv(environment.THREADS)
    environment.set_threads(n_samples, recorded)
    cores = str(min(8, len(os.sched_getaffinity(0))))
    assert os.environ[environment.THREADS] == (expected or cores)


def test_the_command_line_looks_for_cyclic_garbage_rarely() -> None:
    code = (
        "import gc, sys; from vmc.cli import main; sys.argv = ['vmc', 'list']\n"
        "try: main.main()\n"
        "except SystemExit: print('threshold', gc.get_threshold()[0])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"threshold {environment.NEW_OBJECTS}" in done.stdout

"""The written record: run.log, and runs on disks, clocks and names that misbehave."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import vmc
import vmc.driver
from tests.cli.conftest import TINY, compiled_once  # noqa: F401
from vmc import checkpoint, journal, runlog, runs
from vmc.journal import Journal
from vmc.session import Info, Session

ROOT = Path(__file__).resolve().parents[1]
LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC  (.+)")


@pytest.fixture
def job(tmp_path: Path) -> vmc.Job:
    """The tiny job, with a checkpoint after every dispatch."""
    (tmp_path / "job.toml").write_text(TINY)
    return vmc.Job.load(tmp_path / "job.toml", ["run.checkpoint_minutes=1e-9"])


def begin(job: vmc.Job, out: Path, callback: Callable[[Info], None]) -> Session:
    session = runs.start(job, out=out)
    session.callback = callback
    return session


def at(step: int, act: Callable[[], Any]) -> Callable[[Info], None]:
    """A callback that does something once, when a step is reached."""
    done: list[Any] = []

    def callback(info: Info) -> None:
        if info.phase == "steps" and info.step >= step and not done:
            done.append(act())

    return callback


def messages(folder: Path) -> list[str]:
    """The log without its times; every line has one."""
    found = [LINE.fullmatch(x) for x in (folder / "run.log").read_text().splitlines()]
    assert all(found)
    return [match[1] for match in found if match]


def stop() -> None:
    raise vmc.StopRun


def test_lines_of_the_log(tmp_path: Path) -> None:
    trouble: list[tuple[str, str]] = []
    log = Journal(tmp_path / "run.log", lambda *what: trouble.append(what))
    log.write("ampère läuft \udcc3\udca4 \udce4")
    log.write("first\nsecond\n")
    text = (tmp_path / "run.log").read_text(encoding="utf-8")
    one, two, three = text.splitlines()
    assert one.endswith(" UTC  ampère läuft ä \ufffd")
    assert two.endswith(" UTC  first") and three == "    second"
    assert not trouble
    Journal(None, lambda *what: trouble.append(what)).write("nowhere")
    assert not trouble


def test_a_log_that_cannot_be_written(tmp_path: Path) -> None:
    """The warning is itself a line of the log: that may not go round in circles."""
    trouble: list[str] = []

    def ring(kind: str, message: str) -> None:
        trouble.append(message)
        log.write(f"warning: {message}")

    log = Journal(tmp_path / "gone" / "run.log", ring)
    log.write("one")
    log.sign_of_life()
    assert trouble == [f"{log.path} cannot be written (No such file or directory)"]


@pytest.mark.usefixtures("compiled_once")
@pytest.mark.slow
def test_the_log_of_a_run_that_is_stopped_and_resumed(
    job: vmc.Job, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    session = begin(job, out, lambda info: None)
    session.callback = at(10, lambda: session.stop.stop("SIGTERM"))
    stopped = session.run().report["n_steps"]
    first = messages(out)
    assert re.fullmatch(r"started: nqs-vmc \S+, JAX \d+\.\d+\.\d+", first[0])
    assert first[1] == (
        "job: 6 sites, rbm with 6 parameters, 32 walkers (local), spring, 30 steps, "
        "seed 1"
    )
    assert first[2].startswith("layout: 1 process, 4 devices (cpu), 8 walkers per")
    saved = [x for x in first if x.startswith("checkpoint of step ")]
    assert (
        len(saved) == len(set(saved)) and saved[-1] == f"checkpoint of step {stopped}"
    )
    assert first[-1].startswith(f"stopped by SIGTERM, step {stopped}; ")
    runs.resume(out, stuck_minutes=7.0).run()
    text = messages(out)
    assert text[: len(first)] == first
    rest = text[len(first) :]
    assert rest[0].startswith(f"resumed at step {stopped}: nqs-vmc")
    assert rest[1].startswith("changed: ") and "run.stuck_minutes = 7.0" in rest[1]
    assert rest[-2] == "step 30: the final measurement begins"
    assert re.match(
        r"done: energy -7\.\d+ \+- 0\.0\d+, -1\.\d+ per site; \d+ s", rest[-1]
    )


@pytest.mark.usefixtures("compiled_once")
@pytest.mark.parametrize(
    ("error", "lines"),
    [
        (vmc.NumericalError("step 1 went wrong"), ["failed: step 1 went wrong"]),
        (RuntimeError("of my own"), ["failed: RuntimeError: of my own", "left after"]),
        (KeyboardInterrupt(), ["left after step 0"]),
    ],
)
def test_a_failure_is_in_the_log(
    job: vmc.Job,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    lines: list[str],
) -> None:
    def fail(*args: Any) -> Any:
        raise error

    monkeypatch.setattr("vmc.driver.VMC.advance", fail)
    with pytest.raises(type(error)):
        begin(job, tmp_path / "run", lambda info: None).run()
    said = [x for x in messages(tmp_path / "run")[3:] if "checkpoint" not in x]
    assert len(said) == len(lines)
    assert all(x.startswith(line) for x, line in zip(said, lines, strict=True))


@pytest.mark.usefixtures("compiled_once")
def test_an_alarm_reaches_stderr_the_log_and_the_report(
    job: vmc.Job,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    advance = vmc.driver.VMC.advance

    def stuck(self: Any, state: Any, n_steps: int) -> Any:
        state, records = advance(self, state, n_steps)
        still = records["step"] > 5
        return state, records | {"acceptance": np.where(still, 0.0, 0.5)}

    monkeypatch.setattr("vmc.driver.VMC.advance", stuck)
    session = begin(job, tmp_path / "run", lambda info: None)
    result = session.run()
    assert capsys.readouterr().err.count("warning: acceptance fell below 0.001") == 1
    (text,) = result.report["warnings"]
    assert "(first at step 25, in 6 of 30 steps, lowest 0): the walkers" in text
    assert session.warnings == [text]
    said = [x for x in messages(tmp_path / "run") if "warning: acceptance fell" in x]
    assert len(said) == 1 and said[0].endswith("drawn from directly")
    monkeypatch.undo()
    again = runs.resume(tmp_path / "run", n_steps=30)
    assert again.warnings == [text]  # of the part that is over
    assert capsys.readouterr().err == ""


def full(*args: Any) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.usefixtures("compiled_once")
@pytest.mark.parametrize(
    "policy", [pytest.param("go_on", marks=pytest.mark.slow), "stop"]
)
def test_a_disk_that_is_full_for_a_while(
    job: vmc.Job,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    policy: str,
) -> None:
    job = job.replace({"run": {"on_full_disk": policy}})
    kept: dict[str, bytes] = {}

    def fill() -> None:
        session._save()
        kept.update(
            {p.name: p.read_bytes() for p in checkpoint.paths(tmp_path / "run")}
        )
        monkeypatch.setattr(journal, "check_room", full)
        monkeypatch.setattr(runlog, "reserve", full)
        monkeypatch.setattr(runlog, "FLUSH_SECONDS", 0.0)

    def look(info: Info) -> None:
        filled(info)
        if info.step >= 20:
            found = {p.name: p.read_bytes() for p in checkpoint.paths(tmp_path / "run")}
            assert found == kept or not kept
            if policy == "go_on":
                kept.clear()
                monkeypatch.undo()

    filled = at(10, fill)
    session = begin(job, tmp_path / "run", look)
    result = session.run()
    said = capsys.readouterr().err
    assert said.count("could not be written (No space left on device)") == 1
    assert said.count("run.h5 cannot be extended (No space left on device)") == 1
    (text,) = (w for w in session.warnings if "checkpoint of" in w)
    assert "the previous one is untouched" in text
    assert text.endswith("times)") or policy == "go_on"
    if policy == "stop":
        assert (result.status, result.reason) == ("stopped", "a full disk")
        assert 10 < result.report["n_steps"] < 30
        assert messages(tmp_path / "run")[-1].startswith("stopped by a full disk, step")
        monkeypatch.undo()
        result = runs.resume(tmp_path / "run").run()
    assert result.status == "done"
    found = runlog.read(tmp_path / "run")
    assert found.status == "done" and found.series["step"].tolist() == [*range(1, 31)]


REAL = """
import resource, sys
from pathlib import Path
import jax
jax.config.update("jax_enable_x64", True)
from vmc import checkpoint, runs
from vmc.job import Job

job = Job.load("job.toml", ["run.checkpoint_minutes=1e-9"])
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
session = runs.start(job, out="run")

def callback(info):
    if info.phase == "steps" and 10 <= info.step < 20:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), hard))
    if info.phase == "steps" and info.step >= int(sys.argv[2]):
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

session.callback = callback
result = session.run()
print(result.status, result.energy.n_samples)
print(*session.warnings, sep=chr(10))
"""


@pytest.mark.usefixtures("compiled_once")
@pytest.mark.parametrize(
    ("limit", "until", "n_rows"),
    [
        (20000, 20, 30),
        pytest.param(120000, 20, 30, marks=pytest.mark.slow),
        pytest.param(3000, 99, None, marks=pytest.mark.slow),
    ],
)
def test_writes_that_the_system_refuses(
    tmp_path: Path, limit: int, until: int, n_rows: int | None
) -> None:
    """HDF5 crashes the process if it meets such a disk: it must never get there."""
    (tmp_path / "job.toml").write_text(TINY)
    done = subprocess.run(
        [sys.executable, "-c", REAL, str(limit), str(until)],
        cwd=tmp_path,
        env=alone(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    status, *warnings = done.stdout.splitlines()
    assert status == "done 1024"
    (text,) = (w for w in warnings if "checkpoint of step" in w)
    assert "could not be written (File too large)" in text
    assert "Traceback" not in done.stderr
    found = runlog.read(tmp_path / "run")
    if n_rows is None:
        assert found.status == "running" and len(found.series["step"]) <= 10
        assert any("could not be completed" in w for w in warnings)
    else:
        assert found.status == "done" and len(found.series["step"]) == n_rows
    assert not list((tmp_path / "run").glob("*.tmp.*"))
    for path in checkpoint.paths(tmp_path / "run"):
        assert checkpoint.peek(path).step <= 30


def alone(**more: str) -> dict[str, str]:
    """Environment of a process of its own, with the compiled programs of this one."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("LC_", "LANG"))}
    cache = {
        "JAX_COMPILATION_CACHE_DIR": str(jax.config.jax_compilation_cache_dir),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    return kept | cache | {"PYTHONPATH": str(ROOT)} | more


@pytest.mark.usefixtures("compiled_once")
def test_a_folder_that_is_removed_during_the_run(
    job: vmc.Job, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    session = begin(job, out, at(10, lambda: shutil.rmtree(out)))
    result = session.run()
    assert result.status == "done" and result.energy is not None
    said = capsys.readouterr().err
    for what in ("run.log cannot be written", "checkpoint of step", "be completed"):
        assert said.count(what) == 1 and sum(what in w for w in session.warnings) == 1


@pytest.mark.usefixtures("compiled_once")
def test_a_clock_that_goes_backwards(
    job: vmc.Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Limits and intervals follow the monotonic clock, whatever the date becomes."""
    now = [time.time()]

    def backwards() -> float:
        now[0] -= 3600
        return now[0]

    monkeypatch.setattr(time, "time", backwards)
    saved: list[int] = []
    job = job.replace({"run": {"max_time": "00:10:00"}})
    session = begin(
        job,
        tmp_path / "run",
        lambda info: saved.append(len(checkpoint.paths(tmp_path / "run"))),
    )
    result = session.run()
    assert result.status == "done" and result.report["seconds"] > 0
    assert max(saved) == checkpoint.KEPT
    later = time.monotonic() + 600
    monkeypatch.setattr(time, "monotonic", lambda: later)
    session._look_at_clock()
    assert session.stop.reason == "the time limit"


SCRIPT = """
import sys
from vmc.cli.main import app
app(["run", sys.argv[1], "--set", "run.out=" + sys.argv[2]], standalone_mode=False)
app(["show", sys.argv[2]], standalone_mode=False)
"""


@pytest.mark.usefixtures("compiled_once")
@pytest.mark.parametrize(
    "variables",
    [
        {"LC_ALL": "C"},
        # No UTF-8 mode either: names of files are bytes that have no characters.
        pytest.param(
            {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
            marks=pytest.mark.slow,
        ),
        pytest.param({"LC_ALL": "de_DE"}, marks=pytest.mark.slow),
    ],
)
def test_names_and_numbers_in_any_locale(
    tmp_path: Path, variables: dict[str, str]
) -> None:
    folder = tmp_path / "läufe"
    folder.mkdir()
    (folder / "größe.toml").write_text(TINY)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, "läufe/größe.toml", "läufe/ä"],
        cwd=tmp_path,
        env=alone(**variables),
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    assert done.stdout.count(b"energy per site  -1.") == 2
    found = runlog.read(folder / "ä")
    assert found.status == "done" and np.isfinite(found.series["energy"]).all()
    assert (folder / "ä" / "run.log").read_text(encoding="utf-8").count("done: ") == 1


def test_a_file_system_that_became_read_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_only(*args: Any, **keys: Any) -> None:
        raise OSError(30, "Read-only file system")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "mkdir", read_only)
        with pytest.raises(vmc.JobError, match="Read-only file system.*--out PATH"):
            runlog.make_folder(None, "job")
    (tmp_path / "run").mkdir()
    monkeypatch.setattr(Path, "touch", read_only)
    job = vmc.Job(hamiltonian={"name": "tfim"})
    with pytest.raises(vmc.JobError, match="cannot write into .*Read-only"):
        runlog.RunLog.create(tmp_path / "run", job, {})
    assert not list((tmp_path / "run").iterdir())


def test_room_is_checked_without_a_trace(tmp_path: Path) -> None:
    journal.check_room(tmp_path, [np.zeros(1000), 1])
    assert not list(tmp_path.iterdir())
    huge = np.broadcast_to(np.zeros(1), (1 << 50,))  # 8 PiB of nothing
    with pytest.raises(OSError) as caught:
        journal.check_room(tmp_path, [huge])
    assert caught.value.errno in (27, 28)
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").write_bytes(b"abc")
    journal.reserve(tmp_path / "file", 5000)
    assert (tmp_path / "file").stat().st_size == 5003
    assert (tmp_path / "file").read_bytes()[:3] == b"abc"

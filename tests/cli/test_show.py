"""``vmc show``: following a run, exporting it, and saying what to do next."""

from __future__ import annotations

import builtins
import os
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import vmc
from tests.cli.conftest import TINY, Outcome, invoke, loaded
from vmc import runlog
from vmc.cli import follow
from vmc.records import COLUMNS

JOB = vmc.Job(hamiltonian={"name": "tfim"}, run={"n_steps": 40})
WHERE = {"n_sites": 10, "n_parameters": 3, "started": "2026-01-01T00:00:00+00:00"}

REPORT: dict[str, Any] = {
    "status": "done",
    "energy": {"mean": -12.5, "error": 0.01, "variance": 0.2, "tau": 1.5}
    | {"r_hat": 1.001, "n_samples": 64, "ess": 40.0},
    "energy_per_site": -1.25,
    "v_score": 1e-3,
    "exact": None,
    "relative_error": None,
    "n_sites": 10,
    "n_parameters": 3,
    "n_steps": 40,
    "seconds": 7.0,
    "warnings": ["mind the gap"],
}


def rows(first: int, n: int) -> dict[str, np.ndarray]:
    """Steps whose energy tells their number; the first ten compile."""
    step = np.arange(first, first + n)
    columns: dict[str, np.ndarray] = dict.fromkeys(COLUMNS, np.full(n, 0.25))
    columns |= dict.fromkeys(("rejected", "replaced", "shrunk"), np.zeros(n))
    return columns | {
        "step": step,
        "energy": -step / 10,
        "error": np.full(n, 0.0123),
        "kl": np.full(n, np.nan),
        "seconds": np.where(step <= 10, 3.0, 0.5),
    }


def new_log(folder: Path = Path("run"), **more: Any) -> runlog.RunLog:
    folder.mkdir()
    return runlog.RunLog.create(folder, JOB, {**WHERE, "trail": [], **more})


def write(log: runlog.RunLog, first: int, n: int) -> None:
    log.append(rows(first, n))
    log.flush(force=True)


def following(*steps: Callable[[], Any]) -> Outcome:
    """Follow ./run while somebody writes to it, a little after each look."""

    def work() -> None:
        for step in steps:
            time.sleep(0.2)
            step()

    writer = threading.Thread(target=work)
    writer.start()
    try:
        return invoke("show", "run", "--follow", "--every", "0.02", "--patience", "9")
    finally:
        writer.join()


def test_following_a_run_to_its_end() -> None:
    log = new_log()
    write(log, 1, 10)
    outcome = following(
        lambda: write(log, 11, 10),
        lambda: write(log, 21, 20),
        lambda: log.close("done", result=REPORT),
    )
    assert outcome.code == 0
    lines = outcome.err.splitlines()
    assert lines[0] == (
        "step 10/40  E/N -0.1000(12)  var/N 2.50e-02  acc 0.25  R-hat 0.250"
    )
    assert lines[1].startswith("step 20/40  E/N -0.2000(12)  var/N 2.50e-02  acc 0.25")
    assert lines[1].endswith("2 steps/s  left 0:00:10")
    assert lines[2].startswith("step 40/40") and lines[2].endswith("left 0:00:00")
    assert lines[3] == "all steps are done; the final measurement goes on"
    assert lines[4:] == ["warning: mind the gap"]
    assert "energy per site  -1.2500(10)" in outcome.out


def test_following_over_a_resumption() -> None:
    """The series is cut back to the checkpoint; a stop ends the watch."""
    log = new_log()
    write(log, 1, 30)
    event = {"event": "resumed", "step": 15}
    later: list[runlog.RunLog] = []

    def resume() -> None:
        kept = {name: values[:15] for name, values in log.series.items()}
        where = {**WHERE, "trail": [event]}
        later.append(runlog.RunLog.rewrite(Path("run"), JOB, where, kept))
        write(later[0], 16, 4)

    outcome = following(resume, lambda: later[0].close("stopped"))
    lines = outcome.err.splitlines()
    assert [x.split("  ")[0] for x in lines[:3]] == [
        "step 30/40",
        "resumed at step 15",
        "step 19/40",
    ]
    assert "run is stopped: step 19 of 40" in outcome.err
    assert outcome.err.endswith("go on with: vmc resume run\n") and outcome.code == 0


def test_a_writer_that_vanished(monkeypatch: pytest.MonkeyPatch) -> None:
    write(new_log(), 1, 12)
    arguments = ("show", "run", "--follow", "--every", "0.01", "--patience", "0.3")
    began = time.monotonic()
    # A slow step is waited for longer.
    monkeypatch.setattr(follow, "SLOW", 2.0)
    outcome = invoke(*arguments)
    assert outcome.code == 0 and time.monotonic() - began > 2 * 0.5
    assert "may be gone without a word" in outcome.err
    assert "vmc resume run" in outcome.err and "step 12 of 40" in outcome.err
    monkeypatch.setattr(follow, "SLOW", 0.0)
    os.utime("run/run.h5", (1e9, 1e9))
    assert "run was last written" in invoke(*arguments).err


def test_signs_of_life_are_waited_for() -> None:
    """During the final measurement nothing is written but the log's time."""
    log = new_log()
    write(log, 1, 40)
    touch = Path("run/run.log").touch
    done = threading.Thread(
        target=lambda: [
            *(touch() or time.sleep(0.1) for _ in range(8)),
            log.close("done", result=REPORT),
        ]
    )
    done.start()
    outcome = invoke("show", "run", "--follow", "--every", "0.01", "--patience", "0.4")
    done.join()
    assert "gone" not in outcome.err and "energy per site" in outcome.out


def test_an_interrupt_ends_the_watch_quietly(monkeypatch: pytest.MonkeyPatch) -> None:
    write(new_log(), 1, 12)

    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(follow.time, "sleep", interrupt)
    outcome = invoke("show", "run", "--follow")
    assert outcome.code == 0 and outcome.out == ""
    assert outcome.err.startswith("step 12/40") and len(outcome.err.splitlines()) == 1


def test_a_file_in_the_middle_of_a_write_is_read_later() -> None:
    log = new_log()
    write(log, 1, 12)

    def damage() -> None:
        content = Path("run/run.h5").read_bytes()
        Path("run/run.h5").write_bytes(content[:3000])
        time.sleep(0.2)
        Path("run/run.h5").write_bytes(content)

    outcome = following(damage, lambda: log.close("stopped"))
    assert outcome.code == 0 and "damaged" not in outcome.err
    assert "run is stopped" in outcome.err


def test_somebody_elses_run_is_only_read(monkeypatch: pytest.MonkeyPatch) -> None:
    log = new_log()
    write(log, 1, 12)
    log.close("stopped")
    before = {p: p.stat().st_mtime_ns for p in (Path("run"), *Path("run").iterdir())}
    modes: list[str] = []

    class Recorded(h5py.File):
        def __init__(self, name: Any, mode: str = "r", **keys: Any) -> None:
            modes.append(mode)
            super().__init__(name, mode, **keys)

    monkeypatch.setattr(h5py, "File", Recorded)
    Path("run/run.h5").chmod(0o444)
    Path("run").chmod(0o555)
    assert invoke("show", "run", "--follow").code == 0
    assert set(modes) == {"r"}
    assert before == {p: p.stat().st_mtime_ns for p in before}
    Path("run").chmod(0o755)


@pytest.mark.parametrize("option", ["--series", "--job"])
def test_what_does_not_go_with_follow(option: str) -> None:
    write(new_log(), 1, 2)
    outcome = invoke("show", "run", "--follow", option)
    assert outcome.code == 2 and "leave out --series and --job" in outcome.err


@pytest.mark.parametrize(
    ("status", "message"),
    [
        ("running", "vmc show run --follow; if nothing runs any more"),
        ("stopped", "go on with: vmc resume run"),
        ("failed", "vmc resume run --set optimizer.learning_rate="),
    ],
)
def test_what_to_do_next(status: str, message: str) -> None:
    log = new_log()
    write(log, 1, 12)
    log.close(status)
    assert message in invoke("show", "run").err
    assert "run.log says why" not in invoke("show", "run").err
    Path("run/run.log").touch()
    assert ("run.log says why" in invoke("show", "run").err) == (status == "failed")


def test_following_loads_no_jax() -> None:
    log = new_log()
    write(log, 1, 12)
    log.close("stopped")
    use = "app(['show', 'run', '--follow'], standalone_mode=False)"
    heavy = {"jax", "flax", "optax", "scipy", "networkx", "mpi4py"}
    assert not loaded(use) & heavy


@pytest.mark.slow
def test_following_a_real_run(compiled_once: None) -> None:
    Path("job.toml").write_text(TINY.replace("n_steps = 30", "n_steps = 20000"))
    command = [sys.executable, "-m", "vmc", "run", "job.toml", "--quiet"]
    env = os.environ | {"PYTHONPATH": str(Path(vmc.__file__).parents[1])}
    arguments = [*command, "--set", "run.out=run", "--max-time", "25"]
    going = subprocess.Popen(arguments, env=env)
    try:
        while not Path("run/run.h5").exists():
            assert going.poll() is None
            time.sleep(0.1)
        outcome = invoke("show", "run", "--follow", "--every", "0.5")
    finally:
        assert going.wait(timeout=60) == 75
    steps = [x for x in outcome.err.splitlines() if x.startswith("step ")]
    assert len(steps) > 5 and "steps/s" in steps[-1]
    assert "is stopped" in outcome.err


# ---- TensorBoard --------------------------------------------------------------------


def scalars(folder: Path) -> dict[str, dict[int, tuple[float, float]]]:
    """tag -> step -> (value, time), as TensorBoard reads event files."""
    event_pb2 = pytest.importorskip("tensorboardX.proto.event_pb2")
    found: dict[str, dict[int, tuple[float, float]]] = {}
    for path in sorted(folder.glob("events.out.tfevents.*")):
        for data in records(path.read_bytes()):
            event = event_pb2.Event.FromString(data)
            if event.HasField("session_log"):
                for curve in found.values():
                    for step in [s for s in curve if s >= event.step]:
                        del curve[step]
            for value in event.summary.value:
                curve = found.setdefault(value.tag, {})
                curve[event.step] = (value.simple_value, event.wall_time)
    return found


def records(data: bytes) -> Iterator[bytes]:
    """The records of a TFRecord file: length, its checksum, data, theirs."""
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        yield data[12 : 12 + length]
        data = data[16 + length :]


def test_tensorboard_scalars() -> None:
    pytest.importorskip("tensorboardX")
    log = new_log()
    write(log, 1, 12)
    log.close("done", result=REPORT)
    outcome = invoke("show", "run", "--tensorboard", "board/a", "--json")
    assert outcome.code == 0 and outcome.json["energy"] == REPORT["energy"]
    assert "12 steps written; look at them with: tensorboard --logdir" in outcome.err
    found = scalars(Path("board/a"))
    assert set(found) == {*COLUMNS, "energy_per_site"} - {"step", "kl"}
    for step in range(1, 13):
        value, when = found["energy"][step]
        assert value == pytest.approx(-step / 10)
        seconds = min(step, 10) * 3.0 + max(step - 10, 0) * 0.5
        assert when == pytest.approx(1767225600 + seconds)
        assert found["energy_per_site"][step][0] == pytest.approx(-step / 100)
    # Again, into the same folder: the same curves, not twice.
    time.sleep(1.0)
    assert invoke("show", "run", "--tensorboard", "board/a").code == 0
    assert len(list(Path("board/a").iterdir())) == 2
    assert scalars(Path("board/a")) == found


def test_tensorboard_follows_a_resumed_run() -> None:
    pytest.importorskip("tensorboardX")
    from vmc.cli.tensorboard import Board

    log = new_log()
    write(log, 1, 30)
    board = Board(Path("board"))
    assert board.add(runlog.read("run")) == 30
    assert board.add(runlog.read("run")) == 0
    kept = {name: values[:15] for name, values in log.series.items()}
    where = {**WHERE, "trail": [{"event": "resumed", "step": 15}]}
    log = runlog.RunLog.rewrite(Path("run"), JOB, where, kept)
    other = rows(16, 20)
    other["energy"] = np.full(20, 7.0)
    log.append(other)
    log.flush(force=True)
    assert board.add(runlog.read("run")) == 20
    board.close()
    curve = {
        step: value for step, (value, _) in scalars(Path("board"))["energy"].items()
    }
    assert curve == pytest.approx(
        {s: -s / 10 for s in range(1, 16)} | dict.fromkeys(range(16, 36), 7.0)
    )


def test_tensorboard_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    write(new_log(), 1, 2)
    real = builtins.__import__

    def without(name: str, *arguments: Any, **keys: Any) -> Any:
        if name.startswith("tensorboardX"):
            raise ModuleNotFoundError(f"No module named {name!r}")
        return real(name, *arguments, **keys)

    monkeypatch.setattr(builtins, "__import__", without)
    outcome = invoke("show", "run", "--tensorboard", "board")
    assert outcome.code == 2 and outcome.out == ""
    assert "pip install 'nqs-vmc[tensorboard]'" in outcome.err


def test_event_files_need_a_folder() -> None:
    pytest.importorskip("tensorboardX")
    write(new_log(), 1, 2)
    Path("file").touch()
    for place in ("file", "file/below", "/proc/board"):
        outcome = invoke("show", "run", "--tensorboard", place)
        assert outcome.code == 2 and f"event files into {place}" in outcome.err

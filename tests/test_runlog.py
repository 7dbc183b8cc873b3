"""The run file: live, never half written, rebuilt when damaged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from vmc import checkpoint, runlog
from vmc.base import VMCState
from vmc.errors import CheckpointError, JobError
from vmc.job import Job

JOB = Job(hamiltonian={"name": "tfim"}, run={"n_steps": 9})


def rows(first: int, n: int) -> dict[str, np.ndarray]:
    step = np.arange(first, first + n)
    return {"step": step, "energy": -1.0 / step, "tau": np.full(n, np.nan)}


def new_log(folder: Path) -> runlog.RunLog:
    folder.mkdir()
    return runlog.RunLog.create(folder, JOB, {"job_folder": str(folder), "trail": []})


def save_checkpoint(log: runlog.RunLog, step: int) -> Path:
    number = np.asarray(step)
    return checkpoint.save(
        log.folder,
        VMCState(number, np.ones(2), number, number, number, number),
        job=JOB.to_dict(),
        provenance=log.provenance,
        series=log.series,
    )


def test_rows_are_readable_with_h5py_alone_during_the_run(tmp_path: Path) -> None:
    log = new_log(tmp_path / "run")
    for first, n in ((1, 3), (4, 600), (604, 1)):
        log.append(rows(first, n))
        log.flush(force=True)
        with h5py.File(log.folder / "run.h5", "r") as file:
            series: Any = file["series"]
            last = first + n - 1
            assert series.attrs["rows"] == last
            assert series["step"][:].tolist() == list(range(1, last + 1))
            assert series["step"].dtype == np.int64
            assert np.array_equal(series["energy"][:], -1.0 / np.arange(1, last + 1))
            assert file.attrs["status"] == "running"


def test_a_flush_is_rare_unless_forced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(runlog.time, "monotonic", lambda: now[0])
    log = new_log(tmp_path / "run")
    for first, elapsed, written in ((1, 0.0, 1), (2, 0.1, 1), (3, 2.0, 3)):
        now[0] += elapsed
        log.append(rows(first, 1))
        log.flush()
        with h5py.File(log.folder / "run.h5", "r") as file:
            assert file["series"].attrs["rows"] == written
    assert runlog.FLUSH_SECONDS <= 2


def test_a_reader_that_holds_the_file_delays_rows_but_loses_none(
    tmp_path: Path,
) -> None:
    log = new_log(tmp_path / "run")
    log.append(rows(1, 2))
    log.flush(force=True)
    with h5py.File(log.folder / "run.h5", "r", locking=True):
        log.append(rows(3, 2))
        log.flush(force=True)
        assert log.n_rows == 4
    log.append(rows(5, 1))
    log.flush(force=True)
    assert runlog.read(log.folder).series["step"].tolist() == [1, 2, 3, 4, 5]
    with h5py.File(log.folder / "run.h5", "r", locking=True):
        log.close("done", result={"energy": {"mean": -1.0}, "exact": None})
    assert runlog.read(log.folder).status == "done"


def test_the_end_of_a_run(tmp_path: Path) -> None:
    log = new_log(tmp_path / "run")
    log.append(rows(1, 4))
    report = {"energy": {"mean": -1.5, "n_samples": 8}, "exact": None, "status": "done"}
    log.close("done", result=report, parameters={"w": np.arange(3.0), "b": (1j,)})
    found = runlog.read(log.folder)
    assert (found.status, found.result, found.job) == ("done", report, JOB.to_dict())
    assert found.job_folder == JOB.folder
    with h5py.File(log.folder / "run.h5", "r") as file:
        parameters: Any = file["parameters"]
        assert parameters["w"][:].tolist() == [0, 1, 2]
        assert parameters["b/0"][()] == 1j
        assert dict(file["measurement/energy"].attrs) == {"mean": -1.5, "n_samples": 8}
        text = file["job/toml"].asstr()[()]  # type: ignore[union-attr]
        assert text == JOB.to_toml()
        assert json.loads(file["job/json"].asstr()[()]) == JOB.to_dict()  # type: ignore


def test_resuming_cuts_the_series_back(tmp_path: Path) -> None:
    log = new_log(tmp_path / "run")
    log.append(rows(1, 7))
    log.flush(force=True)
    short = {name: values[:3] for name, values in log.series.items()}
    again = runlog.RunLog.rewrite(log.folder, JOB, {"trail": []}, short)
    assert runlog.read(log.folder).series["step"].tolist() == [1, 2, 3]
    again.append(rows(4, 1))
    again.flush(force=True)
    assert runlog.read(log.folder).series["step"].tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize("size", [0, 700, 3000])
def test_a_damaged_file_is_replaced_by_the_checkpoints_copy(
    tmp_path: Path, size: int
) -> None:
    log = new_log(tmp_path / "run")
    log.append(rows(1, 5))
    log.flush(force=True)
    with (log.folder / "run.h5").open("r+b") as file:
        file.truncate(size)
    with pytest.raises(CheckpointError, match="damaged or not a run file"):
        runlog.read(log.folder)
    save_checkpoint(log, 5)
    found = runlog.read(log.folder)
    assert found.rebuilt and found.status == "damaged"
    assert found.series["step"].tolist() == [1, 2, 3, 4, 5]
    assert found.job == JOB.to_dict()


def test_a_row_that_was_cut_short_does_not_count(tmp_path: Path) -> None:
    """A writer killed between the columns leaves some longer than others."""
    log = new_log(tmp_path / "run")
    log.append(rows(1, 3))
    log.flush(force=True)
    with h5py.File(log.folder / "run.h5", "r+") as file:
        file["series/step"].resize((4,))  # type: ignore[union-attr]
    found = runlog.read(log.folder)
    assert {name: len(v) for name, v in found.series.items()} == dict.fromkeys(
        ("step", "energy", "tau"), 3
    )


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no run directory .*--out .* makes one"):
        runlog.read(tmp_path / "nothing")
    with pytest.raises(CheckpointError, match="not a run directory"):
        runlog.read(tmp_path)
    with h5py.File(tmp_path / "run.h5", "w") as file:
        file["x"] = 1
    with pytest.raises(CheckpointError, match="not a run of this program"):
        runlog.read(tmp_path)
    with h5py.File(tmp_path / "run.h5", "w") as file:
        file.attrs.update(format=runlog.FORMAT, schema=99)
    with pytest.raises(CheckpointError, match="schema 99, which is newer"):
        runlog.read(tmp_path)


def test_names_of_run_directories(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    made = [str(runlog.make_folder(None, "ising")) for _ in range(3)]
    assert made == ["runs/ising", "runs/ising-2", "runs/ising-3"]
    assert runlog.make_folder("deep/er/run", "ising").is_dir()
    with pytest.raises(JobError, match="exists and is never overwritten: choose"):
        runlog.make_folder("deep/er/run", "ising")
    (tmp_path / "deep/er/run/run.h5").touch()
    with pytest.raises(JobError, match="vmc resume deep/er/run"):
        runlog.refuse_existing(Path("deep/er/run"))
    with pytest.raises(JobError, match="cannot create the run directory"):
        runlog.make_folder("deep/er/run/run.h5/x", "ising")


def test_a_full_disk_is_remembered_and_survived(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = new_log(tmp_path / "run")
    log.append(rows(1, 2))

    def full(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(runlog.RunLog, "_extend", full)
        log.flush(force=True)
    assert log.problem is not None and "No space left" in log.problem
    log.flush(force=True)
    assert log.problem is None
    assert runlog.read(log.folder).series["step"].tolist() == [1, 2]

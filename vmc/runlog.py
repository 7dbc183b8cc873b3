"""The run file: job, provenance, series, parameters and result in ``run.h5``.

While the run goes on, rows are appended by opening the file for a moment, so that
any program can read it in between with h5py alone; data are flushed before the
count of rows that vouches for them.  Whatever is written once (the file itself, the
final result) replaces the file as a whole.  docs/run-file.md is its description.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import h5py
import numpy as np

from vmc.checkpoint import (
    atomic_h5,
    check_format,
    leaves_of,
    paths,
    peek,
    read_text,
    sweep,
    write_leaves,
    write_text,
)
from vmc.errors import CheckpointError, JobError
from vmc.journal import PER_DATASET, PER_FILE, as_text, check_room, reason, reserve
from vmc.series import Series, n_rows

FORMAT = "vmc-run"
SCHEMA = 1
FILE = "run.h5"

#: Seconds between appends to the run file; the promise is at most two.
FLUSH_SECONDS = 0.5
#: Seconds for which a reader waits until a writer is done with the file.
PATIENCE = 3.0
#: Rows per HDF5 chunk of a column.
CHUNK = 512


@dataclasses.dataclass(frozen=True)
class RunFile:
    """What a run file holds.

    Attributes:
        folder: the run directory.
        status: running, stopped, failed or done.
        job: the resolved job, as nested tables.
        job_folder: folder that relative paths of the job start from.
        provenance: versions, kind of host, seed, times.
        series: per-step columns, each (steps,).
        result: the final report, as `vmc show --json` prints it, or None.
        rebuilt: True if ``run.h5`` was unreadable and this is the checkpoint's copy.
    """

    folder: Path
    status: str
    job: dict[str, Any]
    job_folder: Path
    provenance: dict[str, Any]
    series: dict[str, np.ndarray]
    result: dict[str, Any] | None = None
    rebuilt: bool = False


def refuse_existing(folder: Path) -> None:
    """Refuse a run directory that exists.

    Raises:
        JobError: it offers what to do instead.
    """
    if folder.exists() or folder.is_symlink():
        resume = (
            f"continue it with `vmc resume {folder}`, or choose"
            if (folder / FILE).exists()
            else "choose"
        )
        raise JobError(
            f"the run directory {folder} exists and is never overwritten: {resume} "
            "another name with --out NAME"
        )


def make_folder(out: str | Path | None, stem: str) -> Path:
    """Create the run directory.

    Args:
        out: an explicit name, which must be free; None for runs/STEM, numbered if
            that is taken.
        stem: name of the job.

    Raises:
        JobError: the name is taken, or the folder cannot be written.
    """
    folder = Path("runs") / stem if out is None else Path(out)
    number = 1
    while True:
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            folder.mkdir()
            return folder
        except FileExistsError:
            if out is not None:
                refuse_existing(folder)
            if folder.parent.is_dir():
                number += 1
                folder = folder.with_name(f"{stem}-{number}")
                continue
            raise JobError(
                f"cannot create the run directory {folder}: {folder.parent} is not a "
                "folder"
            ) from None
        except OSError as error:
            raise JobError(
                f"cannot create the run directory {folder}: {error.strerror}. Choose "
                "another place with --out PATH"
            ) from None


class _Job(Protocol):
    """What the log needs of a `vmc.job.Job`."""

    @property
    def folder(self) -> Path: ...

    def to_toml(self) -> str: ...

    def to_json(self) -> str: ...


class RunLog:
    """Writer of one run file; keeps the whole series in memory as well.

    Use `create` for a new run and `rewrite` for a resumed one.
    """

    def __init__(self, folder: Path, job: _Job, provenance: dict[str, Any]) -> None:
        """Prefer `create` and `rewrite`.

        Args:
            folder: the run directory.
            job: the resolved job.
            provenance: where the run comes from.
        """
        self.folder = folder
        self.job = job
        self.provenance = provenance
        self.problem: str | None = None
        self._series = Series()
        self._on_disk = 0
        self._last_flush = -math.inf

    @classmethod
    def create(cls, folder: Path, job: _Job, provenance: dict[str, Any]) -> RunLog:
        """Start the run file of a new run in an existing, empty folder.

        Raises:
            JobError: it cannot be written.
        """
        log = cls(folder, job, provenance)
        log._first_write()
        return log

    @classmethod
    def rewrite(
        cls,
        folder: Path,
        job: _Job,
        provenance: dict[str, Any],
        series: Mapping[str, np.ndarray],
    ) -> RunLog:
        """Replace the run file by one with the given series, whatever it held.

        Raises:
            JobError: it cannot be written.
        """
        log = cls(folder, job, provenance)
        log._series = Series(series)
        log._first_write()
        return log

    def _first_write(self) -> None:
        try:
            sweep(self.folder)
            self.close("running")
        except OSError as error:
            raise JobError(f"cannot write into {self.folder}: {error}") from None

    def discard(self) -> None:
        """Remove the run file, and the folder if nothing else is in it."""
        (self.folder / FILE).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.folder.rmdir()

    @property
    def series(self) -> dict[str, np.ndarray]:
        """All rows so far, one array per column."""
        return self._series.columns

    @property
    def n_rows(self) -> int:
        """Number of rows so far."""
        return len(self._series)

    def append(self, records: Mapping[str, np.ndarray]) -> None:
        """Add rows; they reach the disk with the next `flush`.

        Args:
            records: see `vmc.series.Series.append`.
        """
        self._series.append(records)

    def flush(self, *, force: bool = False) -> None:
        """Append new rows to the file, at most every `FLUSH_SECONDS`.

        If a reader holds the file, or the disk is full, the rows stay in memory for
        the next time; ``problem`` then says why.
        """
        now = time.monotonic()
        if not force and now - self._last_flush < FLUSH_SECONDS:
            return
        self._last_flush = now
        series = self.series
        new = n_rows(series) - self._on_disk
        if new == 0:
            return
        try:
            self._reserve(n_rows(series), len(series))
            with h5py.File(self.folder / FILE, "r+", locking="best-effort") as file:
                self._extend(file["series"], series)  # type: ignore[arg-type]
        except BlockingIOError:
            return
        except (OSError, KeyError, RuntimeError) as error:
            self.problem = f"{self.folder / FILE} cannot be extended ({reason(error)})"
            return
        self.problem = None
        self._on_disk += new

    def _reserve(self, total: int, n_columns: int) -> None:
        """Room for new chunks and changes; HDF5 gives back what it does not need."""
        chunks = -(-total // CHUNK) - -(-self._on_disk // CHUNK)
        # 8 bytes per row, and as much as it takes to find the chunk again.
        each = 8 * CHUNK + PER_DATASET
        reserve(self.folder / FILE, chunks * n_columns * each + PER_FILE)

    def _extend(self, group: h5py.Group, series: Mapping[str, np.ndarray]) -> None:
        total = n_rows(series)
        for name, values in series.items():
            if name not in group:
                _new_column(group, name, values)
                continue
            column: Any = group[name]
            column.resize((total,))
            column[self._on_disk :] = values[self._on_disk :]
        group.file.flush()
        # Only now do the rows count: a reader never sees half a row.
        group.attrs.modify("rows", total)

    def close(
        self,
        status: str,
        *,
        result: Mapping[str, Any] | None = None,
        parameters: Any = None,
    ) -> None:
        """Replace the run file by its complete content.

        Args:
            status: running, stopped, failed or done.
            result: the final report, JSON values.
            parameters: pytree of the final parameters.

        Raises:
            OSError: it cannot be written; the file stays as it was.
        """
        series = self.series
        leaves = {} if parameters is None else leaves_of(parameters)
        check_room(self.folder, [*series.values(), *leaves.values()])
        with atomic_h5(self.folder / FILE) as file:
            file.attrs.update(format=FORMAT, schema=SCHEMA, status=status)
            job = file.create_group("job")
            job.attrs["folder"] = as_text(str(self.job.folder))
            write_text(job, "toml", as_text(self.job.to_toml()))
            write_text(job, "json", self.job.to_json())
            write_text(file, "provenance", json.dumps(self.provenance))
            columns = file.create_group("series")
            for name, values in series.items():
                _new_column(columns, name, values)
            columns.attrs["rows"] = n_rows(series)
            if parameters is not None:
                write_leaves(file.create_group("parameters"), parameters)
            if result is not None:
                write_text(file, "result", json.dumps(result))
                _write_numbers(file.create_group("measurement"), result)
        self._on_disk = n_rows(series)


def _new_column(group: h5py.Group, name: str, values: np.ndarray) -> None:
    group.create_dataset(name, data=values, maxshape=(None,), chunks=(CHUNK,))


def _write_numbers(group: h5py.Group, result: Mapping[str, Any]) -> None:
    """Numbers of the report as attributes, tables as groups, for h5py users."""
    for name, value in result.items():
        if isinstance(value, Mapping):
            _write_numbers(group.create_group(name), value)
        elif isinstance(value, int | float | str):
            group.attrs[name] = value
        elif isinstance(value, list) and "mean" in result:
            _write_column(group, name, value)


def _write_column(group: h5py.Group, name: str, values: list[Any]) -> None:
    """A column of a table: numbers (null: not a number), vectors, or texts."""
    try:
        rows = [math.nan if v is None else v for v in values]
        group.create_dataset(name, data=np.array(rows, np.float64))
    except (TypeError, ValueError):  # texts, or lists of unequal length
        texts = [v if isinstance(v, str) else json.dumps(v) for v in values]
        group.create_dataset(name, data=texts, dtype=h5py.string_dtype())


def read(folder: str | Path) -> RunFile:
    """Read a run, also while it goes on.

    A damaged ``run.h5`` is replaced by the newest checkpoint's copy, in memory.

    Raises:
        CheckpointError: there is no run here, or nothing of it can be read.
    """
    folder = Path(folder)
    if folder.name == FILE:
        folder = folder.parent
    if not folder.is_dir():
        raise CheckpointError(
            f"there is no run directory {folder}; "
            f"`vmc run JOB --out {folder}` makes one"
        )
    if not (folder / FILE).exists() and not paths(folder):
        raise CheckpointError(f"{folder} is not a run directory: it has no {FILE}")
    try:
        return _read_file(folder)
    except CheckpointError as error:
        for path in paths(folder):
            try:
                saved = peek(path)
            except CheckpointError:
                continue
            return RunFile(
                folder=folder,
                status="damaged",
                job=saved.job,
                job_folder=Path(saved.provenance.get("job_folder", os.curdir)),
                provenance=saved.provenance,
                series=saved.series,
                rebuilt=True,
            )
        raise error


def _read_file(folder: Path) -> RunFile:
    path = folder / FILE
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            with h5py.File(path, "r", locking="best-effort") as file:
                return _parse(folder, file)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise CheckpointError(
                    f"{path} is being written by another program; try again"
                ) from None
            time.sleep(0.02)
        except FileNotFoundError:
            raise CheckpointError(f"there is no {path}") from None
        except CheckpointError:
            raise
        except (OSError, KeyError, ValueError, RuntimeError) as error:
            raise CheckpointError(
                f"{path} is damaged or not a run file ({error}); "
                f"`vmc resume {folder}` rebuilds it from the last checkpoint"
            ) from None


def _parse(folder: Path, file: h5py.File) -> RunFile:
    check_format(file, FORMAT, SCHEMA, "a run", folder / FILE)
    columns: Any = file["series"]
    rows = int(columns.attrs["rows"])
    series = {name: np.asarray(columns[name][:rows]) for name in columns}
    if any(len(values) != rows for values in series.values()):
        raise CheckpointError(f"{folder / FILE} is damaged: a column lacks rows")
    job: Any = file["job"]
    return RunFile(
        folder=folder,
        status=str(file.attrs["status"]),
        job=json.loads(read_text(job, "json")),
        job_folder=Path(os.fsdecode(str(job.attrs["folder"]).encode())),
        provenance=json.loads(read_text(file, "provenance")),
        series=series,
        result=json.loads(read_text(file, "result")) if "result" in file else None,
    )

"""The written record of a run besides its numbers: ``run.log``, checkpoints, the end.

No trouble with a disk ends a run by itself: it becomes a warning, said once.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from vmc import checkpoint, cluster, provenance
from vmc.series import Series

#: Name of the log in the run directory.
FILE = "run.log"
#: Seconds between signs of life while nothing else is written.
SIGN_OF_LIFE = 10.0
#: Bytes that HDF5 needs beside the data: per dataset, and per file.
PER_DATASET, PER_FILE = 4096, 65536

#: Called with a kind of trouble and a message about it.
Ring = Callable[[str, str], None]


def reserve(path: Path, n_bytes: int) -> None:
    """Make a file longer by space that is really there.

    HDF5 must not meet a full disk: a write that fails leaves it in a state in which
    the next call, or the end of the program, crashes the process.

    Args:
        path: an existing file.
        n_bytes: how much longer.

    Raises:
        OSError: there is no room, or the file cannot be written.
    """
    descriptor = os.open(path, os.O_WRONLY)
    try:
        if hasattr(os, "posix_fallocate"):
            size = os.fstat(descriptor).st_size
            os.posix_fallocate(descriptor, size, n_bytes)
    except OSError as error:
        # Some file systems cannot tell.
        if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
            raise
    finally:
        os.close(descriptor)


def check_room(folder: Path, arrays: Iterable[Any]) -> None:
    """Refuse to write a file that the disk cannot hold.

    Args:
        folder: where it will be.
        arrays: what it will hold.

    Raises:
        OSError: there is no room, or the folder cannot be written.
    """
    needed = PER_FILE + sum(getattr(x, "nbytes", 64) + PER_DATASET for x in arrays)
    # A name that the next start of the run sweeps, should this process be killed.
    scratch = folder / f"room.h5.tmp.{os.getpid()}"
    try:
        scratch.touch()
        reserve(scratch, needed)
    finally:
        scratch.unlink(missing_ok=True)


def reason(error: Exception) -> str:
    """An error of the system or of HDF5 in a few words."""
    number = error.errno if isinstance(error, OSError) else None
    return os.strerror(number) if number else str(error).partition("\n")[0]


def as_text(value: str) -> str:
    """A text that may hold names of files as text that UTF-8 can hold.

    Where the locale knows only ASCII, Python keeps other bytes of a name as
    surrogates.
    """
    return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


class Journal:
    """``run.log``: what happened, in lines for people."""

    def __init__(self, path: Path | None, ring: Ring) -> None:
        """Nothing is written yet.

        Args:
            path: the file; lines are added at its end.  None writes nothing.
            ring: told when a line cannot be written.
        """
        self.path = path
        self._ring = ring
        self._failing = False
        self._touched = time.monotonic()

    def write(self, message: str) -> None:
        """Add a line with the time; further lines of a message are indented."""
        if self.path is None:
            return
        now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        text = as_text(message).rstrip().replace("\n", "\n    ")
        try:
            with self.path.open("a", encoding="utf-8") as f:
                f.write(f"{now}  {text}\n")
        except OSError as error:
            self._trouble(error)

    def sign_of_life(self) -> None:
        """Show readers that the run goes on, now and then, without a line."""
        now = time.monotonic()
        if self.path is not None and now - self._touched > SIGN_OF_LIFE:
            self._touched = now
            with contextlib.suppress(OSError):
                os.utime(self.path)

    def _trouble(self, error: OSError) -> None:
        if self._failing:
            return  # the warning about it is itself a line of the log
        self._failing = True
        self._ring(FILE, f"{self.path} cannot be written ({reason(error)})")
        self._failing = False


class _Log(Protocol):
    """What the record needs of a `vmc.runlog.RunLog`."""

    folder: Path
    provenance: dict[str, Any]
    problem: str | None

    @property
    def series(self) -> dict[str, np.ndarray]: ...

    def append(self, records: Mapping[str, np.ndarray]) -> None: ...

    def flush(self, *, force: bool = False) -> None: ...

    def close(
        self,
        status: str,
        *,
        result: Mapping[str, Any] | None = None,
        parameters: Any = None,
    ) -> None: ...

    def discard(self) -> None: ...


class Record:
    """The series of a run and its files, as the first rank writes them."""

    def __init__(
        self, log: _Log | None, ring: Ring, series: Mapping[str, np.ndarray] | None
    ) -> None:
        """Nothing is written yet.

        Args:
            log: the run file; None keeps the series in memory and writes nothing.
            ring: told of every trouble with the disk.
            series: per-step columns so far, for a record without a run file.
        """
        self.log = log
        self.journal = Journal(log.folder / FILE if log else None, ring)
        self._series = Series(series)
        self._ring = ring
        self._saved: int | None = None

    def begin(self, built: Any, step: int | None, warnings: list[str]) -> None:
        """The first lines of a run, or of the next part of one.

        Args:
            built: a `vmc.assembly.Built`.
            step: where the run goes on; None for a new one.
            warnings: what is known to be doubtful.
        """
        if self.log is None:
            return
        write = self.journal.write
        versions = f"nqs-vmc {provenance.version()}, JAX {provenance.packages()['jax']}"
        write(f"{'started' if step is None else f'resumed at step {step}'}: {versions}")
        trail = self.log.provenance.get("trail", [])
        if step is not None and trail and (changed := trail[-1].get("changed")):
            keys = ", ".join(f"{key} = {value}" for key, value in changed.items())
            write(f"changed: {keys}")
        job = built.job
        write(
            f"job: {built.n_sites} sites, {job.ansatz.name} with "
            f"{built.vmc.n_parameters} parameters, {job.sampler.n_chains} walkers "
            f"({job.sampler.name}), {job.optimizer.name}, {job.run.n_steps} steps, "
            f"seed {job.seed}"
        )
        sizes = built.sampler.n_chains, built.vmc._mesh.size
        write(f"layout: {cluster.describe(cluster.start(), *sizes)}")
        for text in warnings:
            write(f"warning: {text}")

    @property
    def series(self) -> dict[str, np.ndarray]:
        """Per-step columns so far."""
        return self.log.series if self.log else self._series.columns

    def rows(self, records: Mapping[str, np.ndarray]) -> None:
        """Add rows."""
        if self.log is None:
            self._series.append(records)
        else:
            self.log.append(records)
            self._flush(self.log)

    def _flush(self, log: _Log, *, force: bool = False) -> None:
        log.flush(force=force)
        if log.problem is not None:
            self._ring("run.h5", f"{log.problem}; the rows are kept for later")

    def save(self, state: Any, job: Mapping[str, Any], seconds: float) -> bool:
        """Write a checkpoint.

        Args:
            state: a `vmc.base.VMCState` on the host.
            job: the resolved job.
            seconds: wall time of the run so far.

        Returns:
            False if it could not be written.
        """
        log, step = self.log, int(state.step)
        if log is None:
            return True
        self._flush(log, force=True)
        log.provenance["elapsed"] = seconds
        try:
            leaves = checkpoint.leaves_of(state)
            check_room(log.folder, [*leaves.values(), *log.series.values()])
            checkpoint.save(
                log.folder,
                state,
                job=job,
                provenance=log.provenance,
                series=log.series,
            )
        except (OSError, RuntimeError) as error:  # HDF5 raises either
            self._ring(
                "checkpoint",
                f"the checkpoint of step {step} could not be written "
                f"({reason(error)}); the previous one is untouched",
            )
            return False
        if step != self._saved:
            self.journal.write(f"checkpoint of step {step}")
        self._saved = step
        return True

    def close(
        self,
        status: str,
        line: str,
        seconds: float,
        report: Mapping[str, Any] | None,
        params: Any,
    ) -> None:
        """Complete the run file.

        Args:
            status: stopped, failed or done.
            line: for the log: how it ended.
            seconds: wall time of the run.
            report: the final numbers, or None.
            params: the final parameters, or None.
        """
        if self.log is None:
            return
        self.log.provenance["elapsed"] = seconds
        try:
            self.log.close(status, result=report, parameters=params)
        except (OSError, RuntimeError) as error:
            self._ring(
                "end",
                f"{self.log.folder} could not be completed ({reason(error)}); what the "
                "last checkpoint holds is safe",
            )
        self.journal.write(f"{line}; {seconds:.0f} s in all")

    def discard(self) -> None:
        """Remove everything: nothing was computed."""
        if self.log is not None:
            with contextlib.suppress(OSError):
                (self.log.folder / FILE).unlink(missing_ok=True)
            self.log.discard()


def last_lines(report: Mapping[str, Any]) -> str:
    """The final energy, for the log."""
    energy = report["energy"]
    if energy is None:
        return ""
    text = f"energy {energy['mean']:.10g} +- {energy['error'] or 0:.2g}"
    return f"{text}, {report['energy_per_site']:.10g} per site"

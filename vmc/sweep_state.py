"""How far the points of a sweep are, and the right to work on one.

Everything is read from the folders, so that any number of programs may look at a
sweep or work on it.  The log of a point is its lock too: whoever runs the point holds
it open, the run itself included, should it outlive the program that started it.
"""

from __future__ import annotations

import fcntl
import time
from pathlib import Path
from typing import IO, Any, NamedTuple

from vmc import checkpoint, runlog
from vmc.errors import CheckpointError, JobError
from vmc.provenance import now
from vmc.series import n_rows
from vmc.sweep import LOGS, Point, Sweep

_ATTEMPT = "=== "
_ERROR = "error: "
#: Files of a run directory in which nothing is done yet.
_BEGUN = {runlog.FILE, "run.log"}
#: Bytes at the end of a log that are searched for an error.
_TAIL = 1 << 16
#: Seconds for which a claim waits for somebody who only looks.
_PATIENCE = 1.0


class State(NamedTuple):
    """How far a point is.

    Attributes:
        status: "waiting" (nothing done yet), "running", "stopped" (saved),
            "interrupted" (killed), "failed" or "done".
        resumes: whether there is a checkpoint to go on from.
        report: the final report, or None.
        seconds: wall time so far, or None.
        message: why it failed, or "".
    """

    status: str
    resumes: bool = False
    report: dict[str, Any] | None = None
    seconds: float | None = None
    message: str = ""


class Claim(NamedTuple):
    """The right to run a point, until the log is closed everywhere.

    Attributes:
        log: open for appending, locked.
        state: of the point when it was claimed.
    """

    log: IO[bytes]
    state: State


def log_path(sweep: Sweep, point: Point) -> Path:
    """Log of a point: what its runs said, and its lock."""
    return sweep.folder / LOGS / f"{point.name}.log"


def look(sweep: Sweep, point: Point) -> State:
    """The state of a point; changes nothing."""
    path = log_path(sweep, point)
    if path.exists():
        with path.open("rb") as log:
            if not _lock(log, shared=True):
                return State("running")
    return _from_files(sweep.folder_of(point), path)


def claim(sweep: Sweep, point: Point) -> Claim | None:
    """The right to run a point, or None where somebody else has it.

    Raises:
        JobError: the log cannot be written.
    """
    path = log_path(sweep, point)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        log = path.open("ab")
    except OSError as error:
        raise JobError(f"cannot write {path}: {error.strerror}") from None
    deadline = time.monotonic() + _PATIENCE
    while not _lock(log, shared=False):
        if time.monotonic() > deadline:
            log.close()
            return None
        time.sleep(0.05)
    return Claim(log, _from_files(sweep.folder_of(point), path))


def _lock(log: IO[bytes], *, shared: bool) -> bool:
    """Lock a log unless somebody has it; file systems without locks always agree."""
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    try:
        fcntl.flock(log, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def _from_files(folder: Path, log: Path) -> State:
    message = last_error(log)
    if not folder.exists():
        return State("failed" if message else "waiting", message=message)
    try:
        file = runlog.read(folder)
        resumes = bool(checkpoint.paths(folder))
    except CheckpointError as error:
        if nothing_done(folder):
            return State("failed" if message else "waiting", message=message)
        return State("failed", message=message or str(error))
    if file.status == "done" and file.result is not None:
        seconds = file.result.get("seconds")
        return State("done", resumes, file.result, seconds)
    status = {"stopped": "stopped", "failed": "failed"}.get(file.status, "interrupted")
    if message:
        status = "failed"
    seconds = file.provenance.get("elapsed")
    return State(status, resumes, None, seconds, message)


# ---- folders -----------------------------------------------------------------------


def nothing_done(folder: Path) -> bool:
    """Whether a run directory holds nothing but the beginning of a run file."""
    names = {p.name for p in folder.iterdir()}
    if any(n not in _BEGUN and ".h5.tmp." not in n for n in names):
        return False
    if runlog.FILE not in names:
        return True
    try:
        file = runlog.read(folder)
    except CheckpointError:
        return False
    return file.status == "running" and not file.result and not n_rows(file.series)


def make_room(folder: Path) -> Path | None:
    """Clear the name of a run that starts again from its first step.

    What holds any data is renamed, never removed.

    Returns:
        The new name of what was there, if it was kept.

    Raises:
        JobError: the folder is no run directory.
    """
    if not folder.exists():
        return None
    if nothing_done(folder):
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()
        return None
    if not (folder / runlog.FILE).exists():
        raise JobError(
            f"{folder} is in the way: it is not a run directory; rename or remove it"
        )
    number = 1
    while (kept := folder.with_name(f"{folder.name}.lost-{number}")).exists():
        number += 1
    folder.rename(kept)
    return kept


# ---- logs --------------------------------------------------------------------------


def begin_attempt(log: IO[bytes], what: str) -> None:
    """A line in the log: errors before it are past."""
    log.write(f"{_ATTEMPT}{now()} {what}\n".encode())
    log.flush()


def record_error(log: IO[bytes], message: str) -> None:
    """An error of the present attempt, for the table."""
    log.write(f"{_ERROR}{message}\n".encode())
    log.flush()


def last_error(path: Path) -> str:
    """The error that ended the last attempt of a log; "" if there was none."""
    lines = _last_attempt(path)
    starts = [n for n, line in enumerate(lines) if line.startswith(_ERROR)]
    if not starts:
        return ""
    return "\n".join(lines[starts[-1] :]).removeprefix(_ERROR).strip()


def last_line(path: Path) -> str:
    """The last line of the last attempt that says anything."""
    return next((line for line in reversed(_last_attempt(path)) if line.strip()), "")


def _last_attempt(path: Path) -> list[str]:
    try:
        with path.open("rb") as log:
            log.seek(max(0, path.stat().st_size - _TAIL))
            text = log.read().decode("utf-8", errors="replace")
    except OSError:
        return []
    lines = text.splitlines()
    starts = [n for n, line in enumerate(lines) if line.startswith(_ATTEMPT)]
    return lines[starts[-1] + 1 :] if starts else lines

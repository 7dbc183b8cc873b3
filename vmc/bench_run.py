"""How far the cells of a suite are, and the runner of those that are left.

The machinery is that of the sweeps: the log of a cell is its lock too, a claim is held
by the process that runs it, and a cell that was killed goes on from its checkpoint.
What differs is when a cell is done: when its result has the fingerprint of what is
asked for now.  Anything on disk with another fingerprint is stale: it is named, never
used or continued, and set aside only where that was asked for.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from vmc.bench_cell import RESULT, spec_path
from vmc.bench_suite import Cell
from vmc.errors import JobError
from vmc.signals import PARENT, StopFlag
from vmc.sweep import Point, Sweep, write_text
from vmc.sweep_run import Runner
from vmc.sweep_state import Claim, State, claim, look


class Progress(NamedTuple):
    """How far a cell is.

    Attributes:
        status: "done", "stale", "failed", "running", "stopped", "interrupted" or
            "waiting".
        result: what was measured, if it is done or stale.
        message: why it failed, or why it is stale.
    """

    status: str
    result: dict[str, Any] | None = None
    message: str = ""


def as_sweep(folder: Path, cells: Iterable[Cell]) -> Sweep:
    """The cells in the form in which sweeps keep their points."""
    points = [
        Point(number, cell.name, {}, cell.seed, ()) for number, cell in enumerate(cells)
    ]
    return Sweep(folder.resolve(), {}, {}, [], None, tuple(points))


def read_json(path: Path) -> dict[str, Any] | None:
    """A table from a file; None if there is none, or it is damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def progress(folder: Path, sweep: Sweep, point: Point, cell: Cell) -> Progress:
    """How far a cell is; changes nothing.

    Args:
        folder: of the suite.
        sweep: of all cells.
        point: of the cell.
        cell: as it is wanted now.
    """
    state = look(sweep, point)
    if state.status == "running":
        return Progress("running", message="in another process")
    return _progress(folder / cell.name, state, cell)


def _progress(at: Path, state: State, cell: Cell) -> Progress:
    because = stale_because(at, cell)
    if because is not None:
        return Progress("stale", read_json(at / RESULT), because)
    result = read_json(at / RESULT)
    if result is not None:
        return Progress("done", result)
    if state.status == "done":  # killed before the result was written
        return Progress("interrupted")
    return Progress(state.status, message=state.message)


def stale_because(at: Path, cell: Cell) -> str | None:
    """Why what lies in a run directory is not of this cell; None where it is.

    Args:
        at: the run directory.
        cell: as it is wanted now.
    """
    if not at.exists():
        return None
    spec = read_json(spec_path(at))
    result = read_json(at / RESULT)
    if spec is None and result is None:
        return "nothing says what it was made from"
    found = (result or spec or {}).get("fingerprint")
    if found == cell.fingerprint:
        return None
    old = (spec or {}).get("inputs", {})
    if spec is None or spec.get("fingerprint") != found:
        old = {}
    differences = _differences(old, cell.inputs)
    what = "result" if result is not None else "unfinished run"
    return f"{what} of {'; '.join(differences) or 'other settings'}"


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    if not old:
        return []
    a, b = _flat(old), _flat(new)
    found = [
        f"{key} = {a.get(key)} (now {b.get(key)})"
        for key in dict.fromkeys([*a, *b])
        if a.get(key) != b.get(key)
    ]
    return found[:4] + ([f"{len(found) - 4} more"] if len(found) > 4 else [])


def _flat(tables: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in tables.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{before}{name}.")
        else:
            found[(before + name).removeprefix("job.")] = value
    return found


def set_aside(at: Path) -> None:
    """Rename a stale run directory and its specification; nothing is removed.

    Raises:
        JobError: it cannot be renamed.
    """
    number = 1
    while (kept := at.with_name(f"{at.name}.stale-{number}")).exists():
        number += 1
    try:
        at.rename(kept)
        if spec_path(at).exists():
            spec_path(at).rename(spec_path(kept))
    except OSError as error:
        raise JobError(f"cannot rename {at}: {error.strerror}") from None


class CellRunner(Runner):
    """Runs the cells of a suite that are left."""

    #: Those of a suite that was killed see that, save and end.
    patience = 20.0

    def __init__(
        self,
        folder: Path,
        cells: Iterable[Cell],
        *,
        jobs: int = 1,
        rerun_stale: bool = False,
        stop: StopFlag | None = None,
        tell: Callable[[Point, str, str], None] = lambda point, what, detail: None,
    ) -> None:
        """Nothing is started yet; see `run`.

        Args:
            folder: of the suite.
            cells: all of them, in the order of their runs.
            jobs: processes side by side, each on its share of the cores.
            rerun_stale: set stale runs aside and run their cells again.
            stop: flag that asks for a stop; the processes are told and save.
            tell: see `vmc.sweep_run.Runner`.
        """
        self._cells = {cell.name: cell for cell in cells}
        self._stale: dict[str, str] = {}
        self._slots: dict[str, int] = {}
        self._rerun = rerun_stale

        def say(point: Point, what: str, detail: str) -> None:
            why = self._stale.pop(point.name, None)
            tell(point, *((what, detail) if why is None else ("stale", why)))

        sweep = as_sweep(folder, self._cells.values())
        # A cell that outlives the suite would take the time of those of the next one.
        alone = {PARENT: str(os.getpid())}
        super().__init__(
            sweep, jobs=jobs, stop=stop, tell=say, environment=lambda point: alone
        )

    @property
    def sweep(self) -> Sweep:
        """The cells as points."""
        return self._sweep

    def _prepare(self) -> None:
        self._sweep.folder.mkdir(parents=True, exist_ok=True)

    def _claim(self, point: Point) -> Claim | None:
        claimed = claim(self._sweep, point)
        if claimed is None:
            return None
        cell, at = self._cells[point.name], self._sweep.folder_of(point)
        found = _progress(at, claimed.state, cell)
        state = claimed.state
        if found.status == "stale" and self._rerun:
            set_aside(at)
            state = State("waiting")
        elif found.status in ("done", "stale"):
            if found.status == "stale":
                self._stale[point.name] = found.message
            return Claim(claimed.log, State("done"))  # nothing to run
        elif found.status == "interrupted" and state.status == "done":
            state = state._replace(status="interrupted")
        write_text(spec_path(at), json.dumps(cell.spec(), indent=1) + "\n")
        return Claim(claimed.log, state)

    def _command(self, point: Point, resumes: bool) -> list[str]:
        at = self._sweep.folder_of(point)
        words = ["bench", "cell", str(spec_path(at)), "--began", repr(time.time())]
        cores = self._cores(point)
        return words + (["--cores", ",".join(map(str, cores))] if cores else [])

    def _cores(self, point: Point) -> list[int]:
        """The share of the cores of a process; [] for all of them."""
        taken = {self._slots[going.point.name] for going in self._going}
        slot = next(n for n in range(self._jobs) if n not in taken)
        self._slots[point.name] = slot
        return share(sorted(os.sched_getaffinity(0)), self._jobs, slot)


def share(cores: list[int], jobs: int, slot: int) -> list[int]:
    """Equal shares of the cores; [] where there are fewer cores than jobs, or one job.

    Args:
        cores: numbers of those that may be used.
        jobs: processes side by side.
        slot: of 0 to jobs - 1.
    """
    each = len(cores) // jobs
    if jobs == 1 or each == 0:
        return []
    return cores[slot * each : (slot + 1) * each]

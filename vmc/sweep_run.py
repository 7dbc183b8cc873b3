"""Runs the points of a sweep as processes of their own, side by side."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from vmc.errors import JobError
from vmc.signals import StopFlag, queue_limit
from vmc.sweep import Point, Sweep, write_job
from vmc.sweep_state import (
    Claim,
    State,
    begin_attempt,
    claim,
    last_error,
    last_line,
    log_path,
    look,
    make_room,
    record_error,
)

#: Exit codes of `vmc run`: done, and stopped but saved.
DONE, STOPPED = 0, 75
#: Seconds between looks at the processes.
LOOK_SECONDS = 0.1


class Going(NamedTuple):
    """A point whose process runs."""

    point: Point
    process: subprocess.Popen[bytes]
    claim: Claim


class Runner:
    """Runs what is left of a sweep.

    Points that are done are left alone, those with a checkpoint are resumed, others
    start from their first step.  A point that fails does not stop the others.

    Attributes:
        patience: seconds after which a point that another process has is looked at
            again, once; 0 leaves it to that process.
    """

    patience = 0.0

    def __init__(
        self,
        sweep: Sweep,
        *,
        jobs: int = 1,
        stop: StopFlag | None = None,
        environment: Callable[[Point], Mapping[str, str]] = lambda point: {},
        tell: Callable[[Point, str, str], None] = lambda point, what, detail: None,
    ) -> None:
        """Nothing is started yet; see `run`.

        Args:
            sweep: saved on disk.
            jobs: processes side by side.
            stop: flag that asks for a stop; the processes are told and save.
            environment: variables of a point's process, beside our own.
            tell: called with a point, what became of it ("started", "resumed" or
                a status), and a detail.
        """
        self._sweep = sweep
        self._jobs = jobs
        self._stop = StopFlag() if stop is None else stop
        self._environment = environment
        self._tell = tell
        self._waiting: list[Point] = []
        self._going: list[Going] = []
        self._told = False
        self._job_file = ""
        self._later: dict[str, float] = {}

    def run(self, points: Iterable[Point]) -> bool:
        """Run points to their ends.

        Returns:
            False if there was a stop before all had their turn.

        Raises:
            JobError: the folder cannot be written.
        """
        self._prepare()
        self._waiting = list(points)
        try:
            while True:
                self._pass_on()
                self._collect()
                while len(self._going) < self._jobs and not self._must_stop():
                    point = self._next()
                    if point is None:
                        break
                    self._start(point)
                if not self._going and not self._will_look_again():
                    return not self._waiting
                time.sleep(LOOK_SECONDS)
        except BaseException as error:
            # A second interrupt from the keyboard ends the processes at once.
            at_once = isinstance(error, KeyboardInterrupt)
            self._end_all(signal.SIGINT if at_once else signal.SIGTERM)
            raise

    # ---- starting ----------------------------------------------------------------

    def _must_stop(self) -> bool:
        if self._waiting and queue_limit() <= 0:
            self._stop.stop("the time limit")
        return self._stop.requested

    def _next(self) -> Point | None:
        """A point that can start now; those that never can are dropped."""
        ahead = {p.name for p in self._waiting} | {g.point.name for g in self._going}
        for point in list(self._waiting):
            if point.after in ahead or self._is_early(point):
                continue
            if point.after is not None:
                before = look(self._sweep, self._sweep.point(point.after))
                if before.status != "done":
                    self._waiting.remove(point)
                    ahead.discard(point.name)
                    self._tell(point, "waiting", f"{point.after} is {before.status}")
                    continue
            self._waiting.remove(point)
            return point
        return None

    def _is_early(self, point: Point) -> bool:
        """Whether another process had the point just now."""
        return self._later.get(point.name, -math.inf) > time.monotonic()

    def _will_look_again(self) -> bool:
        left = any(point.name in self._later for point in self._waiting)
        return left and not self._must_stop()

    def _prepare(self) -> None:
        """What all points need, before the first of them starts."""
        self._job_file = str(write_job(self._sweep))

    def _claim(self, point: Point) -> Claim | None:
        return claim(self._sweep, point)

    def _command(self, point: Point, resumes: bool) -> list[str]:
        """Arguments of ``vmc`` for a point."""
        if resumes:
            return ["resume", str(self._sweep.folder_of(point)), "--quiet"]
        changes = self._sweep.overrides_of(point)
        sets = [word for change in changes for word in ("--set", change)]
        return ["run", self._job_file, *sets, "--quiet"]

    def _start(self, point: Point) -> None:
        claimed = self._claim(point)
        if claimed is None:
            if self.patience > 0 and point.name not in self._later:
                self._later[point.name] = time.monotonic() + self.patience
                self._waiting.append(point)
                return
            self._tell(point, "running", "in another process")
            return
        if claimed.state.status == "done":
            claimed.log.close()
            self._tell(point, "done", "before")
            return
        folder = self._sweep.folder_of(point)
        arguments = self._command(point, claimed.state.resumes)
        begin_attempt(claimed.log, " ".join(arguments))
        try:
            kept = None if claimed.state.resumes else make_room(folder)
        except JobError as error:
            record_error(claimed.log, str(error))
            claimed.log.close()
            self._tell(point, "failed", str(error))
            return
        process = subprocess.Popen(
            [sys.executable, "-m", "vmc", *arguments],
            env=os.environ | dict(self._environment(point)),
            stdin=subprocess.DEVNULL,
            stdout=claimed.log,
            stderr=claimed.log,
            # Signals of the terminal come through us, once.
            start_new_session=True,
        )
        self._going.append(Going(point, process, claimed))
        detail = f"what was there is in {kept}" if kept else ""
        self._tell(point, "resumed" if claimed.state.resumes else "started", detail)

    # ---- ending ------------------------------------------------------------------

    def _pass_on(self) -> None:
        """The signal that asked us to stop, once to every process.

        Children of a shell's background job ignore SIGINT: they get SIGTERM instead.
        """
        if self._stop.requested and not self._told:
            self._told = True
            usr1 = self._stop.reason == signal.SIGUSR1.name
            self._signal(signal.SIGUSR1 if usr1 else signal.SIGTERM)

    def _signal(self, number: int) -> None:
        for going in self._going:
            if going.process.poll() is None:
                going.process.send_signal(number)

    def _collect(self) -> None:
        for going in list(self._going):
            code = going.process.poll()
            if code is not None:
                self._going.remove(going)
                self._ended(going, code)

    def _ended(self, going: Going, code: int) -> None:
        path = log_path(self._sweep, going.point)
        stopped = self._stop.requested and code < 0 and -code != signal.SIGKILL
        if code not in (DONE, STOPPED) and not stopped and not last_error(path):
            record_error(going.claim.log, _why(code, last_line(path)))
        going.claim.log.close()
        state: State = look(self._sweep, going.point)
        self._tell(going.point, state.status, state.message or _energy(state))

    def _end_all(self, number: int) -> None:
        self._signal(number)
        for going in self._going:
            going.process.wait()
            going.claim.log.close()


def _energy(state: State) -> str:
    energy = (state.report or {}).get("energy") or {}
    if energy.get("error") is None:
        return ""
    return f"energy {energy['mean']:.8g} +- {energy['error']:.2g}"


def _why(code: int, line: str) -> str:
    """What ended a process that did not say it."""
    if code >= 0:
        return f"exit code {code}{': ' if line else ''}{line}"
    name = signal.Signals(-code).name
    hint = " (out of memory?)" if -code == signal.SIGKILL else ""
    return f"killed by {name}{hint}"

"""One run from its first step to its report: the loop around the driver.

The session owns what happens between dispatches: the run file, checkpoints,
requests to stop, the final measurement.  It never influences the numbers: steps are
cut into dispatches by the driver, and nothing here depends on wall time except when
to look, to save and to stop.
"""

from __future__ import annotations

import contextlib
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vmc import cluster, distributed, grow, observables_run
from vmc.assembly import Built
from vmc.base import VMCState
from vmc.errors import NumericalError, StopRun
from vmc.health import Alarms, Health, final_warnings
from vmc.journal import Journal, Record, last_lines
from vmc.repairs import repairs
from vmc.report import report
from vmc.results import Info, Result
from vmc.runlog import RunLog
from vmc.sections import seconds as time_limit
from vmc.signals import FULL_DISK, REASONS, StopFlag, queue_limit
from vmc.stats import Estimate
from vmc.stopping import enough
from vmc.watchdog import Watchdog

#: Seconds that one dispatch should take at most, so that the host can look.
LOOK_SECONDS = 1.5


class _Interrupted(Exception):
    """Leaves the measurement when the run is asked to stop."""


class Session:
    """A run in progress.  Iterate over it; every item is an `Info`."""

    def __init__(
        self,
        built: Built,
        *,
        log: RunLog | None = None,
        state: VMCState | None = None,
        stop: StopFlag | None = None,
        callback: Callable[[Info], None] | None = None,
        folder: Path | None = None,
        series: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        """Prepare; nothing is computed yet.

        Args:
            built: the objects of the job, at its first step.
            log: run file to write, on the first process; None writes nothing.
            state: where to start; None is step 0.
            stop: flag that asks for a stop.
            callback: called with every Info; it may raise StopRun.
            folder: run directory, on all processes; default that of the log.
            series: per-step columns up to ``state``; default those of the log.

        Raises:
            JobError: a launcher started several ranks that were never joined.
        """
        cluster.refuse_unjoined()
        self.job = built.job
        self.built = built if state is None else built.at(int(state.step))
        self.log = log
        self.folder = log.folder if log else folder
        self.stop = StopFlag() if stop is None else stop
        self.callback = callback
        self.warnings = list(built.warnings)
        alarms = Alarms(self.warnings, self._say)
        self._record = Record(log, alarms.ring, series)
        self._resumed_at = None if state is None else int(state.step)
        self.state = state
        self._started = time.monotonic()
        self._earlier = float(log.provenance.get("elapsed", 0.0)) if log else 0.0
        limit = built.job.run.max_time
        self._limit = min(
            math.inf if limit is None else time_limit(limit), queue_limit()
        )
        self._last_save = self._started
        self._recent: float | None = None
        self._saving = 0.0
        self._per_step = 0.0
        self._health = Health(
            alarms,
            metropolis=self.job.sampler.name not in ("direct", "full"),
            precision=self.job.precision,
            n_steps=self.job.run.n_steps,
        )
        self._health.look(self.series, say=False)
        self._repairs = repairs(self.series)
        self._ended = False
        self._observables: dict[str, Any] = {}
        self._watchdog = Watchdog(60 * built.job.run.stuck_minutes)

    @property
    def seconds(self) -> float:
        """Wall time of the run, earlier parts of a resumed run included."""
        return self._earlier + time.monotonic() - self._started

    def __iter__(self) -> Iterator[Info]:
        """Steps, final measurement, report.

        Raises:
            NumericalError: a number was not finite; the last good state is saved.
        """
        try:
            self._record.begin(self.built, self._resumed_at, self.warnings)
            if self.state is None:
                self.state = self.built.first_state()
            yield from self._steps()
            yield self._conclude()
        except NumericalError as error:
            self._fail(error)
            raise
        except Exception as error:
            self._journal.write(f"failed: {type(error).__name__}: {error}")
            # The other ranks may be elsewhere: nothing may wait for them.
            self._ended = self._ended or cluster.is_parallel()
            raise
        finally:
            self._watchdog.stop()
            if self.state is None:
                self._record.discard()  # nothing was computed: leave the name free
            elif not self._ended:
                self._save()
                self._close("stopped", f"left after step {self._step}")

    def run(self) -> Result:
        """Run to the end; see `__iter__`."""
        result = None
        for info in self:
            result = info.result
        assert result is not None
        return result

    # ---- the loop ------------------------------------------------------------

    def _steps(self) -> Iterator[Info]:
        n_steps = self.built.job.run.n_steps
        while (step := self._step) < n_steps:
            if self._has_enough() or not (n := self._next(step)):
                return
            began = time.monotonic()
            assert self.state is not None
            self.state, records = self.built.vmc.advance(self.state, n)
            self._watchdog.beat(f"step {self._step}")
            self._per_step = float(records["seconds"][-1])
            self._append(records)
            self._grow()
            info = Info(self._step, n_steps, records, self.state, self.seconds)
            info = info._replace(**self._repairs)
            enough = self._call(info)
            yield info
            if enough:
                return
            # The first dispatch compiles; its time says nothing about the next.
            self._recent = 0.0 if self._recent is None else time.monotonic() - began

    def _has_enough(self) -> bool:
        """Whether the series says that more steps are not needed, see `stopping`."""
        job = self.built.job
        if job.run.stop_at.v_score is None and job.run.stop_at.plateau is None:
            return False
        numbers = {"n_sites": self.built.n_sites, "e_infinity": self.built.e_infinity}
        why = cluster.on_first(lambda: enough(job, self.series, **numbers))
        if why is not None:
            self._journal.write(f"step {self._step}: enough steps: {why}")
        return why is not None

    def _call(self, info: Info) -> bool:
        """Show an Info to the callback; whether it has seen enough, on any process."""
        enough = False
        try:
            if self.callback:
                self.callback(info)
        except StopRun:
            enough = True
        return bool(cluster.largest(enough)[0])

    def _next(self, step: int) -> int:
        """Steps of the next dispatch, 0 to stop; saves if it is time to.

        Clocks and signals belong to one process: all take the same decision.
        """
        # Short looks at slow steps.  The cut does not change any number.
        few = LOOK_SECONDS / self._per_step if self._per_step else math.inf
        self._look_at_clock()
        due = step and self._due()
        code, due, few = cluster.largest(self.stop.code, due, -few)
        if due:
            self._save()
        if code:
            self.stop.stop(str(REASONS[int(code)]))
            return 0
        return int(max(1, min(grow.next_step(self.built.job) - step, -few)))

    def _grow(self) -> None:
        """Larger sizes, if this is the step: before anything is saved."""
        assert self.state is not None
        later = self.built.at(self._step)
        if later is not self.built:
            state = later.taken_over(self.built, self.state)
            self.built, self.state = later, state
            self._recent = None  # the next dispatch compiles again

    @property
    def _step(self) -> int:
        assert self.state is not None
        return int(self.state.step)

    def _look_at_clock(self) -> None:
        """Ask for a stop if another look would pass the time limit."""
        elapsed = time.monotonic() - self._started
        if elapsed + 1.5 * (self._recent or 0.0) + self._saving > self._limit:
            self.stop.stop("the time limit")

    def _must_stop(self) -> bool:
        """Whether a signal came or time is up, on any process."""
        self._look_at_clock()
        (code,) = cluster.largest(self.stop.code)
        if code:
            self.stop.stop(str(REASONS[int(code)]))
        return bool(code)

    @property
    def _journal(self) -> Journal:
        return self._record.journal

    def _append(self, records: dict[str, np.ndarray]) -> None:
        self._record.rows(records)
        self._health.look(records)
        for name, count in repairs(records).items():
            self._repairs[name] += count

    @property
    def series(self) -> dict[str, np.ndarray]:
        """Per-step columns so far."""
        return self._record.series

    # ---- the end -------------------------------------------------------------

    def _conclude(self) -> Info:
        assert self.state is not None
        stopped = self._must_stop()
        estimate = None
        if not stopped:
            self._settle()
            self._save()
            self._journal.write(f"step {self._step}: the final measurement begins")
            try:
                estimate = self._measure()
            except _Interrupted:
                stopped = True
        if stopped:
            self._save()
        status = "stopped" if stopped else "done"
        with self._watchdog.asleep():  # exact energies take what they take
            report = cluster.on_first(lambda: self._report(status, estimate))
        if stopped:
            self._close(status, f"stopped by {self.stop.reason}, step {self._step}")
        else:
            self._close(status, f"done: {last_lines(report)}", report)
        result = Result(
            status=status,
            report=report,
            state=self.state,
            series=self.series,
            built=self.built,
            folder=self.folder,
            reason=self.stop.reason,
        )
        n_steps = self.built.job.run.n_steps
        info = Info(
            self._step, n_steps, {}, self.state, self.seconds, "done", estimate, result
        )
        if self.callback:
            self.callback(info)
        return info

    def _settle(self) -> None:
        """Leave the last update out if it was a bad one."""
        if self._step == 0:
            return
        assert self.state is not None
        state = self.built.vmc.settled(self.state)
        if state is not self.state:
            self.state = state
            text = "the last update was bad and is left out of the final parameters"
            self.warnings.append(text)
            self._journal.write(f"warning: {text}")

    def _measure(self) -> Estimate:
        """The final measurement: fresh numbers, frozen parameters."""
        keys = self.built.job.measure
        n_steps = self.built.job.run.n_steps

        def progress(estimate: Estimate) -> None:
            assert self.state is not None
            self._watchdog.beat(f"{estimate.n_samples} samples of the measurement")
            self._journal.sign_of_life()
            if self._must_stop():
                raise _Interrupted
            if self.callback:
                info = Info(self._step, n_steps, {}, self.state, self.seconds)
                self.callback(info._replace(phase="measure", measured=estimate))

        assert self.state is not None
        found = observables_run.measure(
            self.built,
            self.state,
            keys.n_samples,
            keys.observables,
            to_error=keys.to_error,
            progress=progress,
        )
        self._observables = found.observables
        return found.energy

    def _report(self, status: str, estimate: Estimate | None) -> dict[str, Any]:
        for text in final_warnings(estimate, self.built.sampler.n_chains):
            self.warnings.append(text)
            self._journal.write(f"warning: {text}")
        return report(
            self.built,
            estimate,
            status=status,
            step=self._step,
            seconds=self.seconds,
            warnings=self.warnings,
            observables=self._observables,
            repairs=self._repairs,
        )

    # ---- files ---------------------------------------------------------------

    def _due(self) -> bool:
        minutes = self.built.job.run.checkpoint_minutes
        return time.monotonic() - self._last_save > 60 * minutes

    def _say(self, warning: str) -> None:
        """A warning at the moment when it arises, once for all ranks."""
        if cluster.is_first():
            with contextlib.suppress(OSError):  # it may go to the same full disk
                print(f"warning: {warning}", file=sys.stderr, flush=True)
            self._journal.write(f"warning: {warning}")

    def _save(self) -> None:
        """Checkpoint, if there is a run directory."""
        if self.folder is None or self.state is None:
            return
        state = distributed.to_host(self.state)
        began = time.monotonic()
        saved = self._record.save(state, self.job.to_dict(), self.seconds)
        if not saved and self.job.run.on_full_disk == "stop":
            self.stop.stop(FULL_DISK)
        self._last_save = time.monotonic()
        self._saving = self._last_save - began

    def _close(
        self, status: str, line: str, report: dict[str, Any] | None = None
    ) -> None:
        self._ended = True
        params = self.state.params if self.state is not None else None
        self._record.close(status, line, self.seconds, report, params)

    def _fail(self, error: NumericalError) -> None:
        """Keep the last good state and what was recorded."""
        if error.state is not None:
            self.state = error.state
        if error.records:
            self._append(error.records)
        self._save()
        self._close("failed", f"failed: {error}")

"""Signals that ask a run to stop: they set a flag, and the run ends in good order."""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from collections.abc import Mapping
from types import FrameType

#: Seconds before the end of a batch job that a run stops at the latest.
MARGIN = 60.0

#: What batch systems and people send.
SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
#: Reason of a run that ends because a checkpoint cannot be written.
FULL_DISK = "a full disk"
#: Reason of a point of a sweep or a cell of a suite that was left alone: nobody would
#: collect its result, and the same one may be started again beside it.
ORPHANED = "the end of the process that started it"
#: Where that process leaves its number.
PARENT = "VMC_PARENT"
#: Every reason to stop has a number, on which processes can agree.
REASONS = (
    None,
    "a callback",
    "the time limit",
    *(signal.Signals(number).name for number in SIGNALS),
    FULL_DISK,
    ORPHANED,
)


class StopFlag:
    """Remembers the first request to stop.

    Attributes:
        reason: None, or why the run should stop.
    """

    def __init__(self) -> None:
        self.reason: str | None = None
        parent = os.environ.get(PARENT, "")
        # Its own children inherit the variable, but not the parent.
        self._watched = parent == str(os.getppid())
        self._parent = os.getppid()

    @property
    def requested(self) -> bool:
        """Whether a stop was asked for, or whoever waits for this process is gone."""
        if self._watched and os.getppid() != self._parent:
            self.stop(ORPHANED)
        return self.reason is not None

    @property
    def code(self) -> int:
        """Number of the reason in `REASONS`; 0 for none."""
        if not self.requested:
            return 0
        return REASONS.index(self.reason) if self.reason in REASONS else 1

    def stop(self, reason: str) -> None:
        """Ask for a stop; the first reason is kept.

        Args:
            reason: for people; other processes hear of it if it is in `REASONS`.
        """
        if self.reason is None:
            self.reason = reason

    def install(self) -> None:
        """Handle the signals; call again after anything that replaces handlers.

        A second interrupt from the keyboard ends the program at once.  Outside the
        main thread, where Python allows no handlers, nothing happens.
        """
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                signal.signal(number, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.reason is not None:
            raise KeyboardInterrupt
        self.stop(signal.Signals(number).name)


def queue_limit(environ: Mapping[str, str] | None = None) -> float:
    """Seconds until the batch system ends this job, less a margin; or infinite.

    Slurm says it in SLURM_JOB_END_TIME.

    Args:
        environ: environment variables; default those of the process.
    """
    text = (os.environ if environ is None else environ).get("SLURM_JOB_END_TIME", "")
    if not text.isdigit():
        return math.inf
    return max(0.0, int(text) - time.time() - MARGIN)

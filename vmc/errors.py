"""The exceptions that a user may want to catch."""

from __future__ import annotations

from typing import Any


class JobError(ValueError):
    """A job cannot run as written: bad input or physics that does not fit.

    The message says what came, what was expected and how to cure it.
    """


class CheckpointError(RuntimeError):
    """A checkpoint or run file is damaged, foreign, or of another model."""


class NumericalError(RuntimeError):
    """The run produced a number that is not finite, or a cache that drifted.

    Attributes:
        state: the last good `vmc.base.VMCState`, or None.
        records: per-step records since the last report, or None.
    """

    def __init__(self, message: str, state: Any = None, records: Any = None) -> None:
        """Keep what can still be saved beside the message."""
        super().__init__(message)
        self.state = state
        self.records = records


class StopRun(Exception):
    """Raised by a callback to end a run in good order after the current step."""

"""The series of a run as TensorBoard scalars.  Needs the extra "tensorboard"."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from vmc.errors import JobError

#: Column that is the axis, not a curve.
AXIS = "step"


class Board:
    """Event files of one run in a folder, one curve per column of the series.

    A run that was cut back (resumed from an earlier step) begins another file, which
    tells TensorBoard to forget what came after that step.
    """

    def __init__(self, folder: Path) -> None:
        """Nothing is written yet.

        Args:
            folder: where the event files go; it is made.

        Raises:
            JobError: tensorboardX is missing or unusable, or the folder cannot be
                written.
        """
        try:
            from tensorboardX import SummaryWriter
        except ImportError as error:
            raise JobError(
                f"--tensorboard needs the package tensorboardX ({error}): "
                "pip install 'nqs-vmc[tensorboard]'"
            ) from None
        self.folder = folder
        self._make = SummaryWriter
        self._writer: Any = None
        self._files = 0
        self._rows = 0
        self._parts = 0
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._refusal(error) from None

    def add(self, file: Any) -> int:
        """Write the rows that are new.

        Args:
            file: a `vmc.runlog.RunFile`, the newest look at the run.

        Returns:
            How many rows were written.

        Raises:
            JobError: the folder cannot be written.
        """
        steps = file.series.get(AXIS, np.zeros(0, np.int64))
        parts = file.provenance.get("trail", [])
        first = self._rows
        if len(parts) > self._parts or len(steps) < first:
            # Rows behind the step at which the last part began are other ones now.
            first = min([first, len(steps), *(p["step"] for p in parts[self._parts :])])
        try:
            writer = self._writer
            if writer is None or first < self._rows:
                at = int(steps[first]) if first < len(steps) else first + 1
                writer = self._begin(at)
            _write(writer, file, first)
            writer.flush()
        except OSError as error:
            raise self._refusal(error) from None
        self._rows, self._parts = len(steps), len(parts)
        return len(steps) - first

    def close(self) -> None:
        """Finish the file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _begin(self, step: int) -> Any:
        self.close()
        self._files += 1
        # The name of an event file has its time in seconds: number the files.
        self._writer = self._make(
            str(self.folder), purge_step=step, filename_suffix=f".{self._files}"
        )
        return self._writer

    def _refusal(self, error: OSError) -> JobError:
        return JobError(
            f"cannot write event files into {self.folder}: {error.strerror or error}; "
            "choose another folder for --tensorboard"
        )


def _write(writer: Any, file: Any, first: int) -> None:
    """Add the rows from ``first`` on; what is not finite has no place in a curve."""
    columns = dict(file.series)
    steps = columns.pop(AXIS, np.zeros(0))
    n_sites = file.provenance.get("n_sites")
    if n_sites and "energy" in columns:
        columns["energy_per_site"] = columns["energy"] / n_sites
    times = _times(file, len(steps))
    for name, values in columns.items():
        for step, value, at in zip(
            steps[first:], values[first:], times[first:], strict=True
        ):
            if np.isfinite(value):
                writer.add_scalar(name, float(value), int(step), float(at))


def _times(file: Any, n_steps: int) -> np.ndarray:
    """When each step was done, in seconds of the epoch; pauses are left out."""
    try:
        start = datetime.fromisoformat(file.provenance["started"])
    except (KeyError, ValueError):
        start = datetime.now(UTC)
    seconds = file.series.get("seconds", np.zeros(n_steps))
    return start.timestamp() + np.cumsum(np.nan_to_num(seconds))

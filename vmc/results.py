"""What a run reports: after each dispatch, and in the end."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vmc.assembly import Built
from vmc.base import VMCState
from vmc.stats import Estimate


class Info(NamedTuple):
    """What a run reports after each dispatch.

    Attributes:
        step: steps done.
        n_steps: steps of the whole run.
        records: per-step columns of this dispatch (`vmc.records.COLUMNS`).
        state: the run's state.
        seconds: wall time of the run so far.
        phase: "steps", "measure" while the final measurement goes on, or "done".
        measured: the final measurement so far, or None.
        result: the report, in the last Info only.
        rejected: bad steps that were taken back so far, see `vmc.healing`.
        replaced: walkers that were replaced so far, see `vmc.walkers`.
        shrunk: how often random parameters were halved, see `vmc.starts`.
    """

    step: int
    n_steps: int
    records: dict[str, np.ndarray]
    state: VMCState
    seconds: float
    phase: str = "steps"
    measured: Estimate | None = None
    result: Result | None = None
    rejected: int = 0
    replaced: int = 0
    shrunk: int = 0

    def last(self, column: str) -> float:
        """Last value of a column of this dispatch; nan if there is none."""
        values = self.records.get(column)
        return math.nan if values is None or len(values) == 0 else float(values[-1])


@dataclasses.dataclass(frozen=True, eq=False)
class Result:
    """A finished (or stopped) run.

    Attributes:
        status: done, or stopped.
        report: the numbers, as `vmc show --json` prints them.
        state: final state.
        series: per-step columns.
        built: the objects of the run.
        folder: run directory, or None.
        reason: why it was stopped, or None.
    """

    status: str
    report: dict[str, Any]
    state: VMCState
    series: dict[str, np.ndarray]
    built: Built
    folder: Path | None = None
    reason: str | None = None

    @property
    def energy(self) -> Estimate | None:
        """Final measurement of the total energy; None if the run was stopped."""
        energy = self.report["energy"]
        return None if energy is None else Estimate(**energy)

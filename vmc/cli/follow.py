"""``vmc show RUN --follow``: a line per look at a run that goes on.  Needs no JAX."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np

from vmc import runlog
from vmc.cli import console
from vmc.errors import CheckpointError
from vmc.repairs import repairs, repairs_text

#: Steps that speed and remaining time are averaged over.
RECENT = 20
#: A slow step may be silent for this many times its own length.
SLOW = 5.0


@dataclasses.dataclass
class Follower:
    """Looks at a run again and again, until it ends or nobody writes any more.

    Attributes:
        folder: the run directory; it is only read.
        every: seconds between looks.
        patience: seconds without any sign of life after which the writer is given up.
        seen: called with every look that brought something new.
    """

    folder: Path
    every: float
    patience: float
    seen: Callable[[Any], object] = lambda file: None

    def __post_init__(self) -> None:
        self._step = 0
        self._parts: int | None = None
        self._signs: Any = None
        self._last_sign = time.monotonic()
        self._measuring = False

    def __call__(self, file: Any) -> Any:
        """Follow from a first look to the last.

        Args:
            file: the first look, a `vmc.runlog.RunFile`.

        Returns:
            The last look; its status is still "running" if the writer vanished.
        """
        self._say_age(file)
        while True:
            self._show(file)
            if file.status not in ("running", "damaged"):
                return file
            fresh = self._next(file)
            if fresh is None:
                return file
            file = fresh

    def _next(self, file: Any) -> Any:
        """Wait for the next look that can be read; None if there will be none."""
        while True:
            time.sleep(self.every)
            signs = _signs(self.folder)
            if signs != self._signs:
                self._signs, self._last_sign = signs, time.monotonic()
                try:
                    fresh = runlog.read(self.folder)
                except CheckpointError:
                    continue  # in the middle of something; the next look tells
                if not fresh.rebuilt:
                    return fresh
            quiet = time.monotonic() - self._last_sign
            if quiet > max(self.patience, SLOW * _seconds(file)):
                console.note(
                    f"nothing was written for {_clock(quiet)}: whoever wrote "
                    f"{self.folder} may be gone without a word (killed, or its node "
                    f"died); if so, go on with: vmc resume {self.folder}"
                )
                return None

    def _say_age(self, file: Any) -> None:
        self._signs = _signs(self.folder)
        newest = max((when for when, _ in self._signs.values()), default=0) / 1e9
        age = time.time() - newest
        if file.status == "running" and age > self.patience:
            console.note(
                f"{self.folder} was last written {_clock(age)} ago; waiting for "
                f"{_clock(self.patience)}"
            )

    def _show(self, file: Any) -> None:
        trail = file.provenance.get("trail", [])
        if self._parts is not None and len(trail) > self._parts:
            self._step = int(trail[-1].get("step", 0))
            self._measuring = False
            console.note(f"resumed at step {self._step}")
        self._parts = len(trail)
        steps = file.series.get("step", ())
        step = int(steps[-1]) if len(steps) else 0
        if step != self._step:
            console.note(line(file))
            self._step = step
        self.seen(file)
        n_steps = file.job["run"]["n_steps"]
        if file.status == "running" and step == n_steps and not self._measuring:
            self._measuring = True
            console.note("all steps are done; the final measurement goes on")


def line(file: Any) -> str:
    """The newest step of a run in one line; energies are per site where N is known."""
    series = {k: float(v[-1]) for k, v in file.series.items() if len(v)}
    n_steps, step = file.job["run"]["n_steps"], int(series["step"])
    n_sites = file.provenance.get("n_sites")
    n, per = (n_sites, "/N") if n_sites else (1, "")
    energy = console.with_error(
        series.get("energy", np.nan) / n, series.get("error", np.nan) / n
    )
    parts = [
        f"step {step:>{len(str(n_steps))}}/{n_steps}",
        f"E{per} {energy}",
        f"var{per} {series.get('variance', np.nan) / n:.2e}",
        f"acc {series.get('acceptance', np.nan):.2f}",
        f"R-hat {series.get('r_hat', np.nan):.3f}",
    ]
    if text := repairs_text(repairs(file.series)):
        parts.append(text)
    seconds = _seconds(file)
    if seconds > 0:
        left = _clock((n_steps - step) * seconds)
        parts += [f"{1 / seconds:.3g} steps/s", f"left {left}"]
    return "  ".join(parts)


def _seconds(file: Any) -> float:
    """Mean seconds of recent steps; 0 while only those that compiled are known."""
    seconds = file.series.get("seconds", np.zeros(0))
    later = seconds[seconds != seconds[0]][-RECENT:] if len(seconds) else seconds
    return float(np.mean(later)) if len(later) else 0.0


def _signs(folder: Path) -> dict[str, tuple[int, int]]:
    """What changes when anybody writes: time and size of every file."""
    found = {}
    try:
        names = sorted(folder.iterdir())
    except OSError as error:
        raise CheckpointError(f"{folder} cannot be read any more: {error}") from None
    for path in names:
        with contextlib.suppress(OSError):  # a temporary file, renamed meanwhile
            stat = path.stat()
            found[path.name] = (stat.st_mtime_ns, stat.st_size)
    return found


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))

"""How a run shows its progress: a live bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from vmc.cli.console import note, with_error
from vmc.repairs import REPAIRS, repairs_text

if TYPE_CHECKING:
    from vmc.session import Info

#: Seconds between plain lines, for short and for long runs.
FIRST_LINES = 2.0
LATER_LINES = 30.0


@contextmanager
def progress(n_sites: int, *, quiet: bool = False) -> Iterator[Callable[[Info], None]]:
    """Something to call with every `Info`."""
    if quiet:
        yield lambda info: None
    elif sys.stderr.isatty():
        with _bar(n_sites) as show:
            yield show
    else:
        yield _Lines(n_sites)


def describe(info: Info, n_sites: int) -> str:
    """Energy per site, variance per site and acceptance of a dispatch."""
    if info.measured is not None:
        e = info.measured
        return (
            f"measure  E/N {with_error(e.mean / n_sites, e.error / n_sites)}  "
            f"var/N {e.variance / n_sites:.2e}  R-hat {e.r_hat:.3f}"
        )
    energy, error = info.last("energy") / n_sites, info.last("error") / n_sites
    variance, acceptance = info.last("variance") / n_sites, info.last("acceptance")
    text = (
        f"E/N {with_error(energy, error)}  var/N {variance:.2e}  acc {acceptance:.2f}"
    )
    counts = {name: getattr(info, name) for name in REPAIRS}
    return "  ".join(x for x in (text, repairs_text(counts)) if x)


def time_left(info: Info, first: int) -> str:
    """Time of the remaining steps at the present speed.

    Args:
        info: the present dispatch.
        first: step after the first dispatch, whose time is that of compilation.
    """
    if info.phase != "steps" or info.step == first:
        return "-"
    return clock((info.n_steps - info.step) * info.last("seconds"))


def clock(seconds: float) -> str:
    """1:02:03, or 2:03."""
    if not math.isfinite(seconds):
        return "-"
    minutes, secs = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{secs:02d}" if hours else f"{minutes}:{secs:02d}"


class _Lines:
    """Plain lines, at growing intervals."""

    def __init__(self, n_sites: int) -> None:
        self.n_sites = n_sites
        self._next = -math.inf
        self._first: int | None = None

    def __call__(self, info: Info) -> None:
        if self._first is None:
            self._first = info.step
        now = time.monotonic()
        last = info.phase == "steps" and info.step == info.n_steps
        if info.phase == "done" or (now < self._next and not last):
            return
        self._next = now + (FIRST_LINES if info.seconds < 30 else LATER_LINES)
        text = describe(info, self.n_sites)
        if info.phase == "steps":
            width = len(str(info.n_steps))
            text = f"step {info.step:>{width}}/{info.n_steps}  {text}"
            text += f"  left {time_left(info, self._first)}"
        note(text)


@contextmanager
def _bar(n_sites: int) -> Iterator[Callable[[Info], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.description}", markup=False),
        TextColumn("left {task.fields[left]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("compiling", total=None, left="-")
        first: list[int] = []

        def show(info: Info) -> None:
            first.append(info.step)
            if info.phase == "done":
                return
            bar.update(
                task,
                total=info.n_steps,
                completed=info.step,
                description=describe(info, n_sites),
                left=time_left(info, first[0]),
            )

        yield show

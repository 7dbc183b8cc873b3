"""The figures of the benchmark report as PNG files; needs the extra "plots"."""

from __future__ import annotations

import importlib.util
import math
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vmc.bench_report_model import (
    LIGHT,
    PUBLISHED,
    Figure,
    Mark,
    Panel,
    Rows,
    slot_color,
    slot_shape,
)
from vmc.bench_report_text import clean, general
from vmc.errors import JobError

_MARKERS = {"circle": "o", "square": "s", "triangle": "^", "diamond": "D", "cross": "P"}
_GREY = "#5b6773"


def installed() -> bool:
    """Whether PNG files can be drawn here."""
    return importlib.util.find_spec("matplotlib") is not None


def draw(folder: Path, one: Figure) -> Path:
    """A figure as a PNG file, one panel per problem.

    Args:
        folder: of the report.
        one: a figure that has panels.

    Returns:
        The file.

    Raises:
        JobError: it cannot be written.
    """
    from matplotlib.figure import Figure as Canvas  # pyright: ignore

    n_columns = min(3, len(one.panels))
    n_rows = math.ceil(len(one.panels) / n_columns)
    heights = [
        max(_height(p) for p in one.panels[i * n_columns :][:n_columns])
        for i in range(n_rows)
    ]
    size = (5.2 * n_columns, sum(heights) + 0.9)
    canvas = Canvas(figsize=size, layout="constrained")
    grid = canvas.add_gridspec(n_rows, n_columns, height_ratios=heights)
    for number, panel in enumerate(one.panels):
        axes = canvas.add_subplot(grid[number // n_columns, number % n_columns])
        axes.set_title(_plain(panel.problem), fontsize="medium")
        if isinstance(panel, Rows):
            _rows(axes, panel)
        else:
            _points(axes, panel)
    canvas.suptitle(one.title)
    _legend(canvas, one)
    path = folder / f"{one.name}.png"
    _write(path, lambda to: canvas.savefig(to, dpi=120, format="png"))
    return path


def _write(path: Path, save: Callable[[Path], None]) -> None:
    """Replace a picture as a whole."""
    temporary = path.with_name(f"{path.name}.tmp.{os.getpid()}")
    try:
        with warnings.catch_warnings():
            # A label may hold letters that the font lacks: they become boxes.
            warnings.filterwarnings("ignore", message="Glyph .* missing")
            save(temporary)
        os.replace(temporary, path)
    except OSError as error:
        raise JobError(f"cannot write {path}: {error.strerror}") from None


def _plain(text: str) -> str:
    """A label that is not taken for a formula, short enough for a panel."""
    text = clean(text)
    return (text if len(text) <= 40 else text[:39] + "\u2026").replace("$", r"\$")


def _height(panel: Panel | Rows) -> float:
    """Inches."""
    return 3.6 if isinstance(panel, Panel) else 1.0 + 0.24 * len(panel.rows)


def _color(slot: int) -> str:
    return _GREY if slot == PUBLISHED else LIGHT[slot_color(slot)]


def _marker(slot: int) -> str:
    return "o" if slot == PUBLISHED else _MARKERS[slot_shape(slot)]


def _legend(canvas: Any, one: Figure) -> None:
    from matplotlib.lines import Line2D  # pyright: ignore[reportMissingImports]

    if not one.legend:
        return
    pieces = one.name == "step_time"
    handles = [
        Line2D(
            [],
            [],
            ls="",
            color=_color(slot),
            marker="s" if pieces else _marker(slot),
            mfc="white" if slot == PUBLISHED else _color(slot),
        )
        for _, slot in one.legend
    ]
    names = [_plain(name) for name, _ in one.legend]
    canvas.legend(handles, names, loc="outside lower center", ncols=6, fontsize="small")


def _points(axes: Any, panel: Panel) -> None:
    for trace in panel.traces:
        color, marker = _color(trace.slot), _marker(trace.slot)
        alpha = 0.45 if trace.faint else 1.0
        for curve in trace.curves:
            x, y = zip(*curve.points, strict=True)
            style = ":" if curve.dashed else "-"
            axes.plot(x, y, style, color=color, lw=1, alpha=0.7 * alpha)
        for mark in trace.marks:
            face = "white" if mark.hollow else color
            style = {"color": color, "marker": marker, "mfc": face, "alpha": alpha}
            axes.errorbar([mark.x], [mark.y], **_error(mark), ms=5, **style)
    axes.set(xlabel=panel.x.label, ylabel=panel.y.label)
    if panel.x.log:
        axes.set_xscale("log")
    if panel.y.log:
        axes.set_yscale("log")
        _floor(axes, panel)
    else:
        axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
    for level in panel.levels:
        axes.axhline(level.y, color=_GREY, lw=0.8, ls="--")
        place = {"transform": axes.get_yaxis_transform(), "va": "bottom"}
        style = {"fontsize": 7, "color": _GREY, "clip_on": True}
        axes.text(0.01, level.y, level.text, **style, **place)
    if panel.noise:
        axes.axhspan(axes.get_ylim()[0], panel.noise, color="#e9edf0", zorder=0)
    if panel.diagonal:
        top = min(axes.get_xlim()[1], axes.get_ylim()[1])
        axes.plot([0, top], [0, top], color=_GREY, lw=0.8, ls="--")


def _floor(axes: Any, panel: Panel) -> None:
    """Lines that cross zero do not decide how far a logarithmic axis reaches."""
    marks = [mark.y for trace in panel.traces for mark in trace.marks]
    if marks:
        least = min([*marks, *(level.y for level in panel.levels)])
        axes.set_ylim(bottom=max(axes.get_ylim()[0], least / 3))


def _error(mark: Mark) -> dict[str, Any]:
    """Arguments of an error bar; the arrow of a limit is a third of its value."""
    if mark.limit:
        return {"yerr": [[mark.y / 3], [0]], "uplims": True}
    if mark.low is None or mark.high is None:
        return {}
    return {"yerr": [[mark.y - mark.low], [mark.high - mark.y]]}


def _rows(axes: Any, panel: Rows) -> None:
    for place, row in enumerate(panel.rows):
        alpha = 0.45 if row.faint else 1.0
        if row.parts:
            start = 0.0
            for part in row.parts:
                color = _color(part.slot)
                axes.barh(place, part.size, left=start, color=color, ec="white")
                start += part.size
            axes.text(start, place, f" {general(row.value)}", va="center", fontsize=7)
            continue
        color = _color(row.slot)
        face = "white" if row.slot == PUBLISHED else color
        if row.low is not None and row.high is not None:
            axes.plot([row.low, row.high], [place, place], color=color, alpha=alpha)
        axes.plot(
            [row.value], [place], _marker(row.slot), color=color, mfc=face, alpha=alpha
        )
    names = [_plain(row.method) for row in panel.rows]
    axes.set_yticks(range(len(names)), names, fontsize="small")
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlabel(panel.x.label)
    if panel.x.log:
        axes.set_xscale("log")
    else:
        axes.margins(x=0.13)  # room for the sums
    axes.grid(axis="x", lw=0.4)

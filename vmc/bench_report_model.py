"""What a figure of the benchmark report shows, for whoever draws it."""

from __future__ import annotations

from typing import NamedTuple

#: Colours of the slots on white and on black paper.  Each contrasts with its paper by
#: 3:1 or more, and any two differ for every kind of colour vision; a test checks both.
LIGHT = ("#204dcc", "#e64d28", "#0f967a", "#9a0a71", "#ba70d6", "#045319")
DARK = ("#1494f9", "#f19a2f", "#71f69e", "#bf4fa5", "#fab3fb", "#48812e")
#: Markers of the slots; with the colours they tell 30 methods apart.
SHAPES = ("circle", "square", "triangle", "diamond", "cross")
#: Slot of what others published.
PUBLISHED = -1


class Axis(NamedTuple):
    """An axis and its scale."""

    label: str
    log: bool = True


class Mark(NamedTuple):
    """One measured point.

    Attributes:
        x: place.
        y: value, or the limit that the value lies below.
        low: lower end of the error bar, or None.
        high: upper end, or None.
        limit: the value is not resolved, and y is an upper limit.
        hollow: of other meaning than the full marks of the same trace.
        text: what it says when pointed at.
    """

    x: float
    y: float
    low: float | None = None
    high: float | None = None
    limit: bool = False
    hollow: bool = False
    text: str = ""


class Curve(NamedTuple):
    """A line through points; dashed where the values lie below the reference."""

    points: tuple[tuple[float, float], ...]
    dashed: bool = False


class Trace(NamedTuple):
    """All marks and lines of one method in one panel."""

    method: str
    slot: int
    marks: tuple[Mark, ...] = ()
    curves: tuple[Curve, ...] = ()
    faint: bool = False


class Level(NamedTuple):
    """A value on the vertical axis that means something."""

    y: float
    text: str


class Panel(NamedTuple):
    """Points over two axes.

    Attributes:
        problem: label.
        x: horizontal axis.
        y: vertical axis.
        traces: by method.
        levels: horizontal lines.
        noise: below this height the reference itself is not known, or None.
        diagonal: draw y = x, the largest y that there can be.
    """

    problem: str
    x: Axis
    y: Axis
    traces: tuple[Trace, ...]
    levels: tuple[Level, ...] = ()
    noise: float | None = None
    diagonal: bool = False


class Part(NamedTuple):
    """A piece of a bar."""

    name: str
    slot: int
    size: float


class Row(NamedTuple):
    """One line of a panel with names on its vertical axis: a point, or a bar."""

    method: str
    slot: int
    value: float
    low: float | None = None
    high: float | None = None
    parts: tuple[Part, ...] = ()
    text: str = ""
    faint: bool = False


class Rows(NamedTuple):
    """Named rows over one axis."""

    problem: str
    x: Axis
    rows: tuple[Row, ...]


class Figure(NamedTuple):
    """One figure of the report.

    Attributes:
        name: of its file, without suffix.
        title: over it.
        caption: how to read it.
        panels: one per problem; without any there is nothing to show.
        legend: names and slots.
        empty: what to say without panels.
    """

    name: str
    title: str
    caption: str
    panels: tuple[Panel, ...] | tuple[Rows, ...]
    legend: tuple[tuple[str, int], ...] = ()
    empty: str = ""


def slot_color(slot: int) -> int:
    """Which colour a slot has."""
    return slot % len(LIGHT)


def slot_shape(slot: int) -> str:
    """Which marker a slot has, so that slots of one colour differ."""
    return SHAPES[(slot + slot // len(LIGHT)) % len(SHAPES)]

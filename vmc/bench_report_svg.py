"""The figures of the benchmark report as SVG for its page; needs no library.

Colours come from the style sheet, so that one drawing suits white and black paper:
an element of class ``cK`` has the colour K of `vmc.bench_report_model`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from vmc.bench_report_model import (
    PUBLISHED,
    Axis,
    Curve,
    Mark,
    Panel,
    Row,
    Rows,
    Trace,
    slot_color,
    slot_shape,
)
from vmc.bench_report_text import Html, clean, general, join, tag

WIDTH, HEIGHT = 440, 310
#: Space around the plotting area: left, top, right, bottom.
LEFT, TOP, RIGHT, BOTTOM = 64, 10, 14, 46
#: Of a panel with names: space for them, and height of a row.
NAMES, ROW = 168, 19
#: Characters of a name that fit.
_FIT = 22

_SUPER = str.maketrans(
    "-0123456789", "\u207b\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079"
)

#: Markers, drawn from their centre.
_SHAPES = {
    "circle": "m-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0z",
    "square": "m-3.5-3.5h7v7h-7z",
    "triangle": "m0-4.8l4.6 8h-9.2z",
    "diamond": "m0-5l4.4 5l-4.4 5l-4.4-5z",
    "cross": "m-1.5-4.5h3v3h3v3h-3v3h-3v-3h-3v-3h3z",
}


@dataclasses.dataclass(frozen=True)
class Scale:
    """Values to places along an axis, both linear or logarithmic."""

    low: float
    high: float
    start: float
    end: float
    log: bool

    def __call__(self, value: float) -> float:
        """Place of a value, at the edge for those that lie outside."""
        low, high, at = self.low, self.high, min(max(value, self.low), self.high)
        if self.log:
            low, high, at = math.log10(low), math.log10(high), math.log10(at)
        return self.start + (at - low) / (high - low) * (self.end - self.start)

    def ticks(self) -> list[tuple[float, str]]:
        """Round values on the axis, and what is written there."""
        return _decades(self.low, self.high) if self.log else self._linear()

    def _linear(self) -> list[tuple[float, str]]:
        raw = (self.high - self.low) / 5
        unit = 10.0 ** math.floor(math.log10(raw))
        step = next(m * unit for m in (1, 2, 5, 10) if m * unit >= raw)
        first, last = math.ceil(self.low / step), math.floor(self.high / step)
        values = [n * step for n in range(first, last + 1)]
        return [(v, f"{v:.10g}") for v in values]


def _decades(low: float, high: float) -> list[tuple[float, str]]:
    first = math.ceil(math.log10(low) - 1e-9)
    last = math.floor(math.log10(high) + 1e-9)
    if last - first < 1:
        values = [m * 10.0**k for k in range(first - 1, last + 1) for m in (1, 2, 5)]
        return [(v, general(v, 1)) for v in values if low <= v <= high]
    every = max(1, math.ceil((last - first) / 6))
    powers = range(first, last + 1, every)
    plain = first >= -2 and last <= 4
    return [
        (10.0**k, f"{10.0**k:g}" if plain else "10" + str(k).translate(_SUPER))
        for k in powers
    ]


def scale(values: Sequence[float], start: float, end: float, log: bool) -> Scale:
    """A scale that shows all values, with some room around them."""
    low, high = (min(values), max(values)) if values else (1.0, 10.0)
    if log:
        if high < low * 4:  # some width, even around a single value
            low, high = low / 2, high * 2
        room = (high / low) ** 0.04
        return Scale(low / room, high * room, start, end, True)
    low = min(low, 0.0)
    high = high if high > low else low + 1.0
    return Scale(low, high + 0.06 * (high - low), start, end, False)


# ---- points over two axes ------------------------------------------------------------


def panel(one: Panel | Rows, title: str) -> Html:
    """A panel as an SVG element that fills the width it is given.

    Args:
        one: what it shows.
        title: of the figure, for those who hear it.
    """
    return _rows(one, title) if isinstance(one, Rows) else _points(one, title)


def _points(one: Panel, title: str) -> Html:
    marks = [mark for trace in one.traces for mark in trace.marks]
    points = [p for trace in one.traces for c in trace.curves for p in c.points]
    xs = [m.x for m in marks] + [x for x, _ in points]
    ys = _heights(one, marks, points)
    if one.diagonal:
        ys = [*ys, min(max(xs), 1.6 * max(ys))]
    x = scale(xs, LEFT, WIDTH - RIGHT, one.x.log)
    y = scale(ys, HEIGHT - BOTTOM, TOP, one.y.log)
    inside = tag(
        "svg",
        *(_trace_lines(trace, x, y) for trace in one.traces),
        x=LEFT,
        y=TOP,
        width=WIDTH - LEFT - RIGHT,
        height=HEIGHT - TOP - BOTTOM,
        viewBox=f"{LEFT} {TOP} {WIDTH - LEFT - RIGHT} {HEIGHT - TOP - BOTTOM}",
        overflow="hidden",
    )
    return _drawing(
        HEIGHT,
        f"{title}, {one.problem}: {', '.join(t.method for t in one.traces)}",
        _zone(one, x, y),
        _grid(one.x, x, HEIGHT - BOTTOM),
        _left_axis(one.y, y),
        *(_level(level.y, level.text, y) for level in one.levels),
        inside,
        *(_trace_marks(trace, x, y) for trace in one.traces),
    )


def _heights(
    one: Panel, marks: Sequence[Mark], points: Sequence[tuple[float, float]]
) -> list[float]:
    """The values that the vertical axis has to show.

    A line that crosses zero goes down for ever on a logarithmic axis: it does not
    decide how far the axis reaches.
    """
    ends = [e for m in marks for e in (m.y, m.high, m.low) if e is not None]
    if not one.y.log:
        return ends
    shown = [m.y for m in marks] + [level.y for level in one.levels]
    shown += [m.high for m in marks if m.high is not None]
    if points:
        sizes = sorted(y for _, y in points)
        floor = min(shown) / 2 if shown else sizes[len(sizes) // 50]
        shown += [max(y, floor) for y in (sizes[0], sizes[-1])]
    return [*shown, min(shown) / 1.5]


def _drawing(height: float, label: str, *children: Html | None) -> Html:
    return tag(
        "svg",
        *children,
        viewBox=f"0 0 {WIDTH} {height:g}",
        role="img",
        aria_label=label,
    )


def _zone(one: Panel, x: Scale, y: Scale) -> Html | None:
    """Where nothing can be, or nothing is known."""
    if one.diagonal:
        end = min(x.high, y.high)
        corner = f"M{LEFT} {y.start:g}L{x(end):.1f} {y(end):.1f}"
        return join(
            [
                tag("path", d=f"{corner}V{TOP}H{LEFT}z", class_="zone"),
                tag("path", d=corner, class_="level"),
            ]
        )
    if one.noise is None or one.noise <= y.low:
        return None
    top = y(one.noise)
    text = f"reference \u00b1 {general(one.noise, 1)}"
    return tag(
        "g",
        tag("title", text),
        tag(
            "rect",
            x=LEFT,
            y=f"{top:.1f}",
            width=WIDTH - LEFT - RIGHT,
            height=f"{y.start - top:.1f}",
            class_="zone",
        ),
        tag("text", text, x=LEFT + 5, y=f"{y.start - 5:.1f}", class_="remark"),
    )


def _grid(axis: Axis, x: Scale, bottom: float) -> Html:
    """Vertical lines, their numbers, and the name of the horizontal axis."""
    parts = []
    for value, text in x.ticks():
        at = f"{x(value):.1f}"
        parts.append(tag("path", d=f"M{at} {TOP}V{bottom:g}", class_="grid"))
        parts.append(tag("text", text, x=at, y=bottom + 16, text_anchor="middle"))
    middle = (x.start + x.end) / 2
    parts.append(tag("text", axis.label, x=middle, y=bottom + 36, text_anchor="middle"))
    return tag("g", *parts, class_="axis")


def _left_axis(axis: Axis, y: Scale) -> Html:
    parts = []
    for value, text in y.ticks():
        at = y(value)
        parts.append(tag("path", d=f"M{LEFT} {at:.1f}H{WIDTH - RIGHT}", class_="grid"))
        parts.append(
            tag("text", text, x=LEFT - 7, y=f"{at + 4:.1f}", text_anchor="end")
        )
    middle = (y.start + y.end) / 2
    turned = f"translate(14 {middle:g}) rotate(-90)"
    parts.append(tag("text", axis.label, transform=turned, text_anchor="middle"))
    return tag("g", *parts, class_="axis")


def _level(value: float, text: str, y: Scale) -> Html | None:
    if not y.low <= value <= y.high:
        return None
    at = y(value)
    right = WIDTH - RIGHT
    return join(
        [
            tag("path", d=f"M{LEFT} {at:.1f}H{right}", class_="level"),
            tag(
                "text",
                text,
                x=LEFT + 5,
                y=f"{at - 3:.1f}",
                class_="remark",
            ),
        ]
    )


def _trace(trace: Trace, *children: Html) -> Html:
    faint = " faint" if trace.faint else ""
    color = f"trace c{slot_color(trace.slot)}{faint}"
    return tag("g", *children, class_=color, data_method=clean(trace.method))


def _trace_lines(trace: Trace, x: Scale, y: Scale) -> Html:
    return _trace(trace, *(_curve(curve, x, y) for curve in trace.curves))


def _curve(curve: Curve, x: Scale, y: Scale) -> Html:
    places = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in curve.points)
    return tag("polyline", points=places, class_=f"line{' dashed' * curve.dashed}")


def _trace_marks(trace: Trace, x: Scale, y: Scale) -> Html:
    shape = _SHAPES[slot_shape(trace.slot)]
    return _trace(trace, *(_mark(mark, shape, x, y) for mark in trace.marks))


def _mark(mark: Mark, shape: str, x: Scale, y: Scale) -> Html:
    across, up = x(mark.x), y(mark.y)
    bar = ""
    if mark.limit:
        bar = f"M{across:.1f} {up:.1f}v17m-3.5-5l3.5 5l3.5-5"
    elif mark.low is not None and mark.high is not None:
        # The scale takes what lies below a logarithmic axis to its foot.
        low = y(max(mark.low, y.low))
        bar = f"M{across:.1f} {low:.1f}V{y(mark.high):.1f}"
    return tag(
        "g",
        tag("title", mark.text),
        tag("path", d=bar, class_="bar") if bar else None,
        tag("path", d=f"M{across:.1f} {up:.1f}{shape}", class_="shape"),
        class_="hollow" if mark.hollow else None,
    )


# ---- names on the vertical axis ------------------------------------------------------


def _rows(one: Rows, title: str) -> Html:
    bottom = TOP + ROW * len(one.rows) + 6
    ends = [e for r in one.rows for e in (r.value, r.low, r.high) if e is not None]
    right = WIDTH - RIGHT - (0 if one.x.log else 42)  # the sums stand beside the bars
    x = scale(ends, NAMES, right, one.x.log)
    drawn = [
        _row(row, TOP + 3 + ROW * (number + 0.5), x)
        for number, row in enumerate(one.rows)
    ]
    first = one.rows[0]
    return _drawing(
        bottom + BOTTOM,
        f"{title}, {one.problem}: {len(one.rows)} methods, first {first.text}",
        _grid(one.x, x, bottom),
        *drawn,
    )


def _row(row: Row, middle: float, x: Scale) -> Html:
    published = row.slot == PUBLISHED
    name = clean(row.method)
    short = name if len(name) <= _FIT else name[: _FIT - 1] + "\u2026"
    place = {"x": NAMES - 9, "y": f"{middle + 4:.1f}", "text_anchor": "end"}
    label = tag("text", short, class_="name", **place)
    body = _bar(row, middle, x) if row.parts else _dot(row, middle, x)
    color = "published hollow" if published else f"c{slot_color(row.slot)}"
    return tag(
        "g",
        tag("title", row.text),
        label,
        body,
        class_=f"trace {color}{' faint' * row.faint}",
        data_method=None if published else name,
    )


def _dot(row: Row, middle: float, x: Scale) -> Html:
    at = x(row.value)
    shape = _SHAPES["circle" if row.slot == PUBLISHED else slot_shape(row.slot)]
    parts = [tag("path", d=f"M{NAMES} {middle:.1f}H{at:.1f}", class_="rung")]
    if row.low is not None and row.high is not None and row.low < row.high:
        ends = f"M{x(row.low):.1f} {middle:.1f}H{x(row.high):.1f}"
        parts.append(tag("path", d=ends, class_="bar"))
    parts.append(tag("path", d=f"M{at:.1f} {middle:.1f}{shape}", class_="shape"))
    return join(parts)


def _bar(row: Row, middle: float, x: Scale) -> Html:
    """Pieces one after the other, with a gap that tells like colours apart."""
    parts, start = [], 0.0
    for part in row.parts:
        left, right = x(start), x(start + part.size)
        start += part.size
        if right - left > 0.4:
            parts.append(
                tag(
                    "rect",
                    x=f"{left:.1f}",
                    y=f"{middle - 6:.1f}",
                    width=f"{max(right - left - 1, 0.4):.1f}",
                    height=12,
                    class_=f"piece c{slot_color(part.slot)}",
                )
            )
    place = {"x": f"{x(start) + 4:.1f}", "y": f"{middle + 4:.1f}"}
    parts.append(tag("text", general(row.value), class_="remark", **place))
    return join(parts)


def swatch(slot: int, *, piece: bool) -> Html:
    """The sign of a slot for a legend: its marker, or its colour in a bar."""
    if piece:
        inside = tag("rect", x=1, y=2, width=10, height=8, class_="piece")
    else:
        shape = "circle" if slot == PUBLISHED else slot_shape(slot)
        inside = tag("path", d=f"M6 6{_SHAPES[shape]}", class_="shape")
    color = "published hollow" if slot == PUBLISHED else f"c{slot_color(slot)}"
    return tag("svg", inside, viewBox="0 0 12 12", class_=color, aria_hidden="true")

"""What the figures of the benchmark report show, before any drawing.

Each figure is a row of panels, one per problem.  `vmc.bench_report_svg` draws them
into the page, `vmc.bench_report_png` with matplotlib; both show the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vmc.bench_report_model import (
    PUBLISHED,
    Axis,
    Curve,
    Figure,
    Level,
    Mark,
    Panel,
    Part,
    Row,
    Rows,
    Trace,
)
from vmc.bench_report_rows import (
    Cell,
    Group,
    column,
    reference_noise,
    relative,
    spread,
    variational,
)
from vmc.bench_report_text import (
    general,
    number,
    scientific,
    with_error,
)


def figures(
    groups: Sequence[Group], baselines: Sequence[Mapping[str, Any]]
) -> list[Figure]:
    """All figures of a report, also those that have nothing to show yet."""
    methods = dict.fromkeys(group.method for group in groups)
    slots = {method: slot for slot, method in enumerate(methods)}
    problems = dict.fromkeys(group.problem for group in groups)
    by_problem = [[g for g in groups if g.problem == p] for p in problems]
    return [
        _over_time(by_problem, slots),
        _over_parameters(by_problem, slots),
        _ladder(by_problem, slots, baselines),
        _entropy(by_problem, slots),
        _breakdown(by_problem),
    ]


def _legend(panels: Sequence[Panel], slots: Mapping[str, int]) -> tuple:
    shown = {trace.method for panel in panels for trace in panel.traces}
    return tuple((m, slot) for m, slot in slots.items() if m in shown)


# ---- relative errors -----------------------------------------------------------------

_READING = (
    "Error bars are one standard error; an open mark with an arrow is an upper limit "
    "(the error is below twice its noise, which for a reference of limited accuracy "
    "includes that of the reference). In the grey zone, the reference itself is not "
    "known well enough."
)


def _mark(x: float, cell: Cell) -> Mark | None:
    """The final relative error of a cell; None where a logarithm cannot show it."""
    found = relative(cell)
    if found is None:
        return None
    value = with_error(found.value, found.sigma)
    text = f"{cell['problem']}, {cell['ansatz']}, seed {cell['seed']}: {value}"
    if not found.resolved:
        if found.limit <= 0:
            return None
        return Mark(x, found.limit, limit=True, hollow=True, text=f"{text}, a limit")
    size, sigma = abs(found.value), found.noise
    if found.value < 0:
        text += ", below the reference"
    low, high = (size - sigma, size + sigma) if sigma else (None, None)
    return Mark(x, size, low, high, hollow=found.value < 0, text=text)


def _curves(cell: Cell) -> tuple[Curve, ...]:
    """|relative error| over the seconds, cut where the sign changes."""
    series = cell.get("series") or {}
    pairs = zip(
        series.get("seconds") or [], series.get("relative_error") or [], strict=False
    )
    curves: list[tuple[bool, list[tuple[float, float]]]] = []
    for seconds, error in pairs:
        if number(seconds) is None or not number(error) or seconds <= 0:
            continue
        if not curves or curves[-1][0] != (error < 0):
            start = curves[-1][1][-1:] if curves else []
            curves.append((error < 0, start))
        curves[-1][1].append((float(seconds), abs(error)))
    return tuple(Curve(tuple(points), dashed) for dashed, points in curves)


def _levels(group: Sequence[Group]) -> tuple[Level, ...]:
    rule = next((c["rule"] for g in group for c in g.cells if c["rule"]), None) or {}
    named = (("pass_relative_error", "pass"), ("stretch_relative_error", "stretch"))
    return tuple(
        Level(value, text) for key, text in named if (value := number(rule.get(key)))
    )


def _noise(group: Sequence[Group]) -> float | None:
    return max((reference_noise(c) for g in group for c in g.cells), default=0) or None


def _error_panels(
    by_problem: Sequence[Sequence[Group]],
    slots: Mapping[str, int],
    x: Axis,
    place: str,
    series: bool,
) -> tuple[Panel, ...]:
    """Panels of relative errors over a column of the cells."""
    panels = []
    for groups in by_problem:
        traces = []
        for group in groups:
            known = [(column(place, c), c) for c in group.used]
            marks = [_mark(at, cell) for at, cell in known if at and at > 0]
            curves = [c for cell in group.used if series for c in _curves(cell)]
            shown = tuple(m for m in marks if m is not None)
            if shown or curves:
                slot = slots[group.method]
                traces.append(
                    Trace(group.method, slot, shown, tuple(curves), group.stale)
                )
        if traces:
            y = Axis("relative error |E \u2212 E0| / |E0|")
            levels, noise = _levels(groups), _noise(groups)
            panels.append(Panel(groups[0].problem, x, y, tuple(traces), levels, noise))
    return tuple(panels)


def _over_time(
    by_problem: Sequence[Sequence[Group]], slots: Mapping[str, int]
) -> Figure:
    x = Axis("seconds since the start of the process")
    panels = _error_panels(by_problem, slots, x, "seconds", series=True)
    return Figure(
        "error_time",
        "Relative error against time",
        "Lines: the energy while training, averaged over the last steps, one line per "
        "seed; dashed where it lies below the reference. Marks: the final measurement "
        f"with frozen parameters. {_READING}",
        panels,
        _legend(panels, slots),
        "No result has both a reference and a time yet.",
    )


def _over_parameters(
    by_problem: Sequence[Sequence[Group]], slots: Mapping[str, int]
) -> Figure:
    x = Axis("real parameters")
    panels = _error_panels(by_problem, slots, x, "n_parameters", series=False)
    return Figure(
        "error_parameters",
        "Relative error against parameters",
        f"One mark per seed: the final measurement. {_READING}",
        panels,
        _legend(panels, slots),
        "No result has both a reference and a number of parameters yet.",
    )


# ---- V-score -------------------------------------------------------------------------


def _ladder(
    by_problem: Sequence[Sequence[Group]],
    slots: Mapping[str, int],
    baselines: Sequence[Mapping[str, Any]],
) -> Figure:
    panels = []
    for groups in by_problem:
        problem = groups[0].problem
        own = [row for g in groups if (row := _score(g, slots[g.method]))]
        published = [
            Row(
                str(b["method"]),
                PUBLISHED,
                score,
                text=f"{b['method']}: {scientific(score, 3)}, published"
                + (f"; {b['source']}" if b["source"] else ""),
            )
            for b in baselines
            if b["problem"] == problem
            and variational(b)
            and (score := number(b["v_score"])) is not None
            and score > 0
        ]
        if own:
            rows = tuple(sorted([*own, *published], key=lambda row: row.value))
            panels.append(Rows(problem, Axis("V-score"), rows))
    return Figure(
        "v_score",
        "V-score ladder",
        "V = N Var(H) / (E \u2212 E\u221e)\u00b2 (arXiv:2302.04919); an eigenstate has "
        "0, the best method is on top. Full marks: this suite, the median seed with "
        "the range of the seeds. Open marks: published by others.",
        tuple(panels),
        (("published", PUBLISHED),)
        if any(row.slot == PUBLISHED for panel in panels for row in panel.rows)
        else (),
        "No result has a V-score yet.",
    )


def _score(group: Group, slot: int) -> Row | None:
    """The V-scores of a group; None where there is none above 0."""
    found = spread([v for v in group.values(lambda c: column("v_score", c)) if v > 0])
    if found is None:
        return None
    text = f"{group.method}: {scientific(found[0], 3)}"
    if found[1] < found[2]:
        text += f", seeds {scientific(found[1], 3)} to {scientific(found[2], 3)}"
    return Row(group.method, slot, *found, text=text, faint=group.stale)


# ---- entropy -------------------------------------------------------------------------


def _entropy(by_problem: Sequence[Sequence[Group]], slots: Mapping[str, int]) -> Figure:
    panels = []
    for groups in by_problem:
        traces = []
        for group in groups:
            marks = [
                mark
                for cell in group.used
                for block in cell.get("entropy") or []
                for mark in _blocks(cell, block)
            ]
            if marks:
                slot = slots[group.method]
                traces.append(
                    Trace(group.method, slot, tuple(marks), faint=group.stale)
                )
        if traces:
            x = Axis("entropy capacity of the ansatz (nats)", log=False)
            y = Axis("entropy of the block (nats)", log=False)
            panels.append(Panel(groups[0].problem, x, y, tuple(traces), diagonal=True))
    return Figure(
        "entropy",
        "Entropy capacity against measured entropy",
        "One mark per seed and block of sites. Full: R\u00e9nyi entropy measured in "
        "the trained state; open: entropy that the ground state needs. No state of "
        "the ansatz lies above the diagonal: full marks on it are limited by the "
        "capacity, open marks above it cannot be reached; far below it the "
        "optimisation is the limit.",
        tuple(panels),
        _legend(panels, slots),
        "No entropies were measured (key entropy of the suite).",
    )


def _blocks(cell: Cell, block: Mapping[str, Any]) -> list[Mark]:
    """Measured and required entropy of a block over its capacity."""
    capacity = number(block.get("capacity"))
    if capacity is None:
        return []
    name = (
        f"{cell['problem']}, {cell['ansatz']}, seed {cell['seed']}, "
        f"S{block.get('order')} of {block.get('sites')} sites"
    )
    held = f"capacity {general(capacity)}"
    marks = []
    required, measured = number(block.get("required")), number(block.get("measured"))
    if required is not None:
        text = f"{name}: {general(required)} needed, {held}"
        marks.append(Mark(capacity, required, hollow=True, text=text))
    if measured is not None:
        sigma = number(block.get("measured_error"))
        ends = (measured - sigma, measured + sigma) if sigma else (None, None)
        text = f"{name}: {with_error(measured, sigma)} measured, {held}"
        marks.append(Mark(capacity, measured, *ends, text=text))
    return marks


# ---- step times ----------------------------------------------------------------------

#: Parts of a step that have a colour of their own.
_N_PARTS = 5


def _breakdown(by_problem: Sequence[Sequence[Group]]) -> Figure:
    """Stacked bars of the parts of a step, the largest parts with their own colour."""
    tables = [
        (g, parts) for groups in by_problem for g in groups if (parts := _parts(g))
    ]
    total: dict[str, float] = {}
    for _, parts in tables:
        for name, size in parts.items():
            total[name] = total.get(name, 0.0) + size
    named = sorted(total, key=lambda name: -total[name])
    kept = named if len(named) <= _N_PARTS + 1 else named[:_N_PARTS]
    slots = {name: slot for slot, name in enumerate(kept)}
    legend = [*slots.items()]
    if len(kept) < len(named):
        legend.append(("other parts", _N_PARTS))
    panels = []
    for problem in dict.fromkeys(group.problem for group, _ in tables):
        rows = [_bar(g, p, slots) for g, p in tables if g.problem == problem]
        panels.append(Rows(problem, Axis("ms per step", log=False), tuple(rows)))
    return Figure(
        "step_time",
        "Step-time breakdown",
        "Milliseconds of each part of a step, timed alone (a whole step may take less "
        "than their sum); the median over the seeds that were profiled.",
        tuple(panels),
        tuple(legend),
        "No step was profiled (key profile of the suite).",
    )


def _parts(group: Group) -> dict[str, float]:
    """Median milliseconds of each part over the seeds of a group."""
    tables = [cell["parts"] for cell in group.used if cell.get("parts")]
    found = {}
    for name in dict.fromkeys(name for table in tables for name in table):
        values = [
            v for t in tables if (v := number(t.get(name))) is not None and v >= 0
        ]
        if values:
            found[name] = sorted(values)[len(values) // 2]
    return found


def _bar(group: Group, sizes: Mapping[str, float], slots: Mapping[str, int]) -> Row:
    parts = [Part(n, slot, sizes[n]) for n, slot in slots.items() if n in sizes]
    rest = sum(size for name, size in sizes.items() if name not in slots)
    if rest > 0:
        parts.append(Part("other parts", _N_PARTS, rest))
    whole = sum(sizes.values())
    each = ", ".join(f"{p.name} {general(p.size)}" for p in parts)
    text = f"{group.method}: {general(whole)} ms ({each})"
    return Row(group.method, 0, whole, parts=tuple(parts), text=text, faint=group.stale)

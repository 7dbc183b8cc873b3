"""The columns of the table of the benchmark report, for the page and for Markdown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from vmc.bench_report_rows import Cell, Group, below, notes, relative
from vmc.bench_report_text import (
    clean,
    compact,
    count,
    energy_text,
    general,
    integer,
    number,
    scientific,
    with_error,
)

DASH = "\u2013"
#: Verdicts for people; never by colour alone.
SIGNS = {
    "passed": "\u2713 passed",
    "failed": "\u2717 failed",
    "incomplete": "\u2026 incomplete",
    "no rule": "\u2013 no rule",
    "published": "\u2013 published",
}


class Entry(NamedTuple):
    """What stands in one place of the table.

    Attributes:
        text: first line.
        small: second line, or "".
        sort: number to sort by; None comes last; texts sort by themselves.
        mark: class of the entry, or "".
    """

    text: str
    small: str = ""
    sort: float | None = None
    mark: str = ""


class Column(NamedTuple):
    """A column of the table.

    Attributes:
        title: at its head.
        hint: the title in full.
        numeric: sorted by number.
        of: entry of a group.
        published: entry of a published result, where there is one.
    """

    title: str
    hint: str
    numeric: bool
    of: Callable[[Group], Entry]
    published: Callable[[Mapping[str, Any]], Entry] = lambda row: Entry(DASH)


def _spread_column(
    title: str, hint: str, name: str, show: Callable[[float | None], str], **more: Any
) -> Column:
    """Median over the seeds, and below it the range."""

    def of(group: Group) -> Entry:
        found = group.spread(name)
        if found is None:
            return Entry(DASH)
        middle, low, high = found
        ends = show(low), show(high)
        small = f"{ends[0]} \u2026 {ends[1]}" if ends[0] != ends[1] else ""
        return Entry(show(middle), small, middle)

    return Column(title, hint, True, of, **more)


def _problem(group: Group) -> Entry:
    return Entry(clean(group.problem))


def geometry(group: Group) -> str:
    """Lattice and Hamiltonian of the problem in words."""
    one = group.cells[0]
    parts = [one.get("lattice"), one.get("hamiltonian")]
    return ", ".join(clean(p) for p in parts if p)


def _method(group: Group) -> Entry:
    return Entry(clean(group.method), "stale" if group.stale else "")


def _seeds(group: Group) -> Entry:
    done, n = len(group.used), len(group.cells)
    return Entry(str(n) if done == n else f"{done} of {n}", sort=done)


def _relative(group: Group) -> Entry:
    """Of the median seed: the value, or its limit where it is not resolved."""
    found = relative(group.middle) if group.middle is not None else None
    if found is None or group.middle is None:
        return Entry(DASH)
    others = [r.value for r in map(relative, group.used) if r is not None]
    whole = with_error(found.value, found.sigma)
    small = ""
    if len(others) > 1:
        small = f"{scientific(min(others))} \u2026 {scientific(max(others))}"
    if below(group.middle):
        return Entry(f"\u25bc {whole}", small, found.value, "below")
    if not found.resolved:
        limit = f"< {scientific(found.limit)}"
        return Entry(limit, whole, found.limit, "limit")
    return Entry(whole, small, found.value)


def _published_relative(row: Mapping[str, Any]) -> Entry:
    value, energy = number(row["relative_error"]), number(row["energy"])
    sigma = number(row["sigma"])
    if value is None:
        return Entry(DASH)
    error = sigma / abs(energy) if sigma is not None and energy else None
    return Entry(with_error(value, error), sort=value)


def _published_score(row: Mapping[str, Any]) -> Entry:
    score = number(row["v_score"])
    return Entry(scientific(score), sort=score)


def _verdict(group: Group) -> Entry:
    state = group.verdict[0]
    doubts = "; ".join(map(clean, notes(group)))
    return Entry(SIGNS[state], doubts, mark=state.replace(" ", "-"))


def _published_verdict(row: Mapping[str, Any]) -> Entry:
    source = "; ".join(clean(row[k]) for k in ("source", "note") if row[k])
    return Entry(SIGNS["published"], source, mark="no-rule")


def columns() -> list[Column]:
    """The columns, from left to right."""
    times = [
        _spread_column(
            f"t to {target}",
            f"seconds until the smoothed relative error is below {target}, compilation "
            "included",
            f"time_to.{target}",
            general,
        )
        for target in ("1e-2", "1e-3", "1e-4")
    ]
    return [
        Column(
            "problem", "problem", False, _problem, lambda b: Entry(clean(b["problem"]))
        ),
        Column(
            "ansatz",
            "ansatz, or published method",
            False,
            _method,
            lambda b: Entry(clean(b["method"])),
        ),
        Column(
            "verdict",
            "by the rule, over all seeds; errors and doubts",
            False,
            _verdict,
            _published_verdict,
        ),
        Column("seeds", "seeds with a result", True, _seeds),
        Column(
            "relative error",
            "(E \u2212 E0)/|E0| of the median seed \u00b1 its standard error; below it "
            "the range of the seeds",
            True,
            _relative,
            _published_relative,
        ),
        _spread_column(
            "V-score",
            "N Var(H)/(E \u2212 E\u221e)\u00b2, median and range",
            "v_score",
            scientific,
            published=_published_score,
        ),
        _spread_column("parameters", "real parameters", "n_parameters", integer),
        _spread_column("s/step", "seconds per step", "seconds_per_step", general),
        _spread_column(
            "samples/s",
            "samples per second while training",
            "samples_per_second",
            compact,
        ),
        _spread_column(
            "ESS/s",
            "effective samples per second of the final measurement",
            "ess_per_second",
            general,
        ),
        *times,
        _spread_column("MiB", "peak memory in MiB", "peak_memory_mib", integer),
        _spread_column(
            "compile s", "seconds of compilation", "compile_seconds", general
        ),
    ]


def cell_columns() -> list[tuple[str, Callable[[Cell], str]]]:
    """Columns of the list of single cells: title and text."""

    def plain(name: str, show: Callable[[float | None], str]) -> Callable:
        return lambda cell: show(number(cell.get(name)))

    def error(cell: Cell) -> str:
        found = relative(cell)
        return DASH if found is None else with_error(found.value, found.sigma)

    return [
        ("problem", lambda cell: clean(cell["problem"])),
        ("ansatz", lambda cell: clean(cell["ansatz"])),
        ("seed", lambda cell: clean(cell["seed"])),
        ("status", lambda cell: clean(cell["status"])),
        ("relative error", error),
        ("V-score", plain("v_score", scientific)),
        ("variance", plain("variance", general)),
        ("\u03c4", plain("tau", general)),
        ("R-hat", plain("r_hat", lambda v: DASH if v is None else f"{v:.3f}")),
        ("ESS", plain("ess", integer)),
        ("steps", plain("n_steps", integer)),
        ("training s", plain("optimise_seconds", general)),
        ("measuring s", plain("measure_seconds", general)),
        ("all s", plain("seconds", general)),
        ("passed", lambda c: {True: "yes", False: "no"}.get(c["passed"], DASH)),
        ("why", _why),
    ]


def _why(cell: Cell) -> str:
    texts = [cell["error"], cell["stale_because"], cell["why"], below(cell)]
    return "; ".join(dict.fromkeys(clean(text) for text in texts if text))


def headline(tally: Mapping[str, int], groups: Sequence[Group]) -> str:
    """One sentence: how many combinations passed, failed and are missing."""
    n = len(groups)
    parts = [f"{tally['passed']} passed", f"{tally['failed']} failed"]
    parts += [f"{tally['incomplete']} missing or stale"]
    if tally["no rule"]:
        parts.append(f"{tally['no rule']} without a rule")
    pairs = count(n, "combination")
    return f"Of {pairs} of problem and ansatz: {', '.join(parts)}."


# ---- texts beside the table ----------------------------------------------------------


def reference_texts(reference: Mapping[str, Any] | None) -> tuple[str, str]:
    """The energy of a reference with its uncertainty; what it is and whence."""
    if reference is None:
        return DASH, ""
    value, error = number(reference["energy"]), number(reference["uncertainty"])
    kind, source = clean(reference["kind"]), clean(reference["source"])
    return energy_text(value, error), f"{kind}; {source}" if source else kind


def published_texts(row: Mapping[str, Any] | None) -> tuple[str, str]:
    """The best published row: its relative error or energy, and its method."""
    if row is None:
        return DASH, ""
    value, energy = number(row["relative_error"]), number(row["energy"])
    text = energy_text(energy, None) if value is None else scientific(value)
    return text, clean(row["method"])


def surroundings(
    suite: Mapping[str, Any], groups: Sequence[Group]
) -> list[tuple[str, str]]:
    """Where and when the results were made: names and all values that occur."""
    cells = [cell for group in groups for cell in group.cells]
    found = []
    for table in ("machine", "versions"):
        tables = [c[table] for c in cells if c.get(table)] or [suite.get(table) or {}]
        for key in dict.fromkeys(key for one in tables for key in one):
            values = dict.fromkeys(clean(one[key]) for one in tables if key in one)
            found.append((key.replace("_", " "), "; ".join(values)))
    dates = sorted(clean(cell["date"]) for cell in cells if cell.get("date"))
    if dates:
        both = dates[0] if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}"
        found.append(("results of", both))
    if suite.get("date"):
        found.append(("report of", clean(suite["date"])))
    return found

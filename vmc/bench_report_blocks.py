"""The summary and the table of the benchmark report as HTML."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from vmc.bench_report_rows import VERDICTS, Best, Cell, Group, tally
from vmc.bench_report_table import (
    DASH,
    SIGNS,
    Column,
    Entry,
    columns,
    geometry,
    headline,
    published_texts,
    reference_texts,
)
from vmc.bench_report_text import (
    Html,
    clean,
    count,
    energy_text,
    join,
    number,
    scientific,
    tag,
)

# ---- summary -------------------------------------------------------------------------


def summary(
    suite: Mapping[str, Any],
    name: str,
    groups: Sequence[Group],
    leaders: Sequence[Best],
    remarks: Sequence[str],
) -> Html:
    """The headline: what passed, what is missing, and the best of every problem."""
    found = tally(groups)
    tiles = [
        tag(
            "li",
            tag("b", str(found[state])),
            SIGNS[state],
            class_=state.replace(" ", "-"),
        )
        for state in ("passed", "failed", "incomplete", "no rule")
    ]
    states = [cell["status"] for group in groups for cell in group.cells]
    cells = ", ".join(
        f"{states.count(state)} {state}"
        for state in ("done", "failed", "stale", "missing")
        if states.count(state)
    )
    description = suite.get("description")
    return tag(
        "header",
        tag("h1", name),
        tag("p", description) if description else None,
        tag("p", tag("strong", headline(found, groups))),
        tag("ul", *tiles, class_="tiles"),
        tag("p", f"{count(len(states), 'cell')}: {cells or 'none'}.", class_="soft"),
        *(tag("p", remark, class_="soft") for remark in remarks),
        tag("h2", "Best of each problem"),
        _leaders(leaders),
        tag(
            "p",
            "By the energy of the median seed; stale results and energies below an "
            "exact or unbiased reference by more than four standard errors do not "
            "take part.",
            class_="soft",
        ),
    )


def _leaders(leaders: Sequence[Best]) -> Html:
    heads = (
        "problem",
        "reference energy",
        "best ansatz",
        "its energy",
        "relative error",
        "V-score",
        "passed",
        "best published",
    )
    rows = []
    for one in leaders:
        cell = one.group.middle if one.group is not None else None
        passed = sum(g.verdict[0] == "passed" for g in one.groups)
        ties = f"within noise: {', '.join(map(clean, one.ties))}" if one.ties else None
        values = [
            _pair(*reference_texts(one.reference)),
            join([one.group.method if one.group else DASH, _small(ties)]),
            _energy(cell),
            DASH if cell is None else _relative(one.group),
            DASH if cell is None else scientific(number(cell["v_score"])),
            f"{passed} of {len(one.groups)}",
            _pair(*published_texts(one.published)),
        ]
        rows.append(
            tag(
                "tr",
                tag("th", _pair(one.problem, geometry(one.groups[0])), scope="row"),
                *(tag("td", v) for v in values),
            )
        )
    return scroll(table(heads, rows), "Best of each problem")


def _relative(group: Group | None) -> Html:
    column = next(c for c in columns() if c.title == "relative error")
    assert group is not None
    entry = column.of(group)
    return _pair(entry.text, entry.small)


def _energy(cell: Cell | None) -> str:
    if cell is None:
        return DASH
    return energy_text(number(cell["energy"]), number(cell["energy_error"]))


def _pair(text: str, small: str) -> Html:
    return join([text, _small(small)])


def _small(text: str | None) -> Html:
    return tag("small", text) if text else Html("")


def table(heads: Iterable[str], rows: Iterable[Html]) -> Html:
    """A table from the titles of its columns and its rows."""
    titles = (tag("th", head, scope="col") for head in heads)
    return tag("table", tag("thead", tag("tr", *titles)), tag("tbody", *rows))


def scroll(table: Html, label: str) -> Html:
    """A table that scrolls by itself where it is too wide, by keyboard too."""
    return tag(
        "div", table, class_="scroll", tabindex=0, role="region", aria_label=label
    )


# ---- the table -----------------------------------------------------------------------


def results(groups: Sequence[Group], baselines: Sequence[Mapping[str, Any]]) -> Html:
    """The big table with its filters."""
    heads = [
        tag(
            "th",
            column.title,
            title=column.hint,
            scope="col",
            class_="n" if column.numeric else None,
        )
        for column in columns()
    ]
    rows = []
    for problem in dict.fromkeys(group.problem for group in groups):
        rows += [_group_row(group) for group in groups if group.problem == problem]
        rows += [_published_row(b) for b in baselines if b["problem"] == problem]
    whole = tag(
        "table",
        tag("thead", tag("tr", *heads)),
        tag("tbody", *rows),
        id="results",
    )
    return tag(
        "section",
        tag("h2", "Results"),
        tag(
            "p",
            "Numbers are medians over the seeds, with their range below. A relative "
            "error after < is an upper limit: the measured value, below it, is smaller "
            "than twice its noise. \u25bc lies below the reference by more than noise. "
            "Numbers of stale results are pale.",
            class_="soft",
        ),
        _filters(groups, bool(baselines)),
        scroll(whole, "Results"),
    )


def _group_row(group: Group) -> Html:
    state = group.verdict[0]
    return tag(
        "tr",
        *(_entry(column, column.of(group)) for column in columns()),
        class_="pale" if group.stale else None,
        data_problem=clean(group.problem),
        data_method=clean(group.method),
        data_verdict=state,
    )


def _published_row(row: Mapping[str, Any]) -> Html:
    return tag(
        "tr",
        *(_entry(column, column.published(row)) for column in columns()),
        class_="published",
        data_problem=clean(row["problem"]),
        data_verdict="published",
    )


def _entry(column: Column, entry: Entry) -> Html:
    inside = _pair(entry.text, entry.small)
    if column.title == "problem":
        return tag("th", inside, scope="row")
    kind = "n" if column.numeric else column.title
    class_ = {"ansatz": "name"}.get(kind, kind) + f" {entry.mark}" * bool(entry.mark)
    return tag("td", inside, class_=class_, data_v=entry.sort)


def _filters(groups: Sequence[Group], published: bool) -> Html:
    """The controls; they appear with the script that they need."""
    problems = dict.fromkeys(clean(group.problem) for group in groups)
    methods = dict.fromkeys(clean(group.method) for group in groups)
    states = [*VERDICTS, *(["published"] if published else [])]
    return tag(
        "form",
        tag("label", "Search", tag("input", type="search", name="word")),
        _choice("Problem", "problem", problems),
        _choice("Ansatz", "method", methods),
        _choice("Verdict", "verdict", states),
        tag("button", "Reset", type="reset"),
        tag("output", name="shown", aria_live="polite"),
        id="filters",
        class_="filters",
        hidden=True,
        autocomplete="off",
    )


def _choice(label: str, name: str, values: Iterable[str]) -> Html:
    options = [tag("option", "all", value="")]
    options += [tag("option", value, value=value) for value in values]
    return tag("label", label, tag("select", *options, name=name))

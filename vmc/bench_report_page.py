"""The benchmark report as one HTML page that needs nothing but itself.

Style and script are inside the page, and its content policy forbids everything else:
no request leaves it, and no script runs but ours, whatever a label contains.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vmc.bench_report_blocks import results, scroll, summary, table
from vmc.bench_report_model import DARK, LIGHT, Figure, Panel, Rows
from vmc.bench_report_rows import Best, Cell, Group
from vmc.bench_report_svg import panel, swatch
from vmc.bench_report_table import cell_columns, surroundings
from vmc.bench_report_text import Html, clean, tag
from vmc.jobfile import to_toml

_HERE = Path(__file__).parent
#: Classes of the columns of the list of cells.
_WIDE = {"why": "why"}


def page(
    suite: Mapping[str, Any],
    groups: Sequence[Group],
    leaders: Sequence[Best],
    drawings: Sequence[Figure],
    baselines: Sequence[Mapping[str, Any]],
    remarks: Sequence[str],
) -> str:
    """The whole page.

    Args:
        suite: as in ``suite.json``.
        groups: the cells by problem and ansatz.
        leaders: the best of every problem.
        drawings: the figures.
        baselines: published results of these problems.
        remarks: what else the reader has to be told, one line each.
    """
    name = clean(suite.get("name") or "benchmark suite")
    style = Html(_colors() + (_HERE / "bench_report.css").read_text(encoding="utf-8"))
    script = Html((_HERE / "bench_report.js").read_text(encoding="utf-8"))
    policy = (
        f"default-src 'none'; style-src '{_digest(style)}'; "
        f"script-src '{_digest(script)}'; base-uri 'none'; form-action 'none'"
    )
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", f"{name} \u2013 benchmark report"),
        tag("style", style),
    )
    content = tag(
        "body",
        tag(
            "main",
            summary(suite, name, groups, leaders, remarks),
            results(groups, baselines),
            _figures(drawings),
            _cells(groups),
            _surroundings(suite, groups),
        ),
        tag("script", script),
    )
    return f"<!doctype html>\n{tag('html', head, content, lang='en')}\n"


def _colors() -> str:
    """The palettes of the figures as variables of the style sheet."""

    def root(colors: Sequence[str]) -> str:
        return ":root{" + "".join(f"--c{i}:{c};" for i, c in enumerate(colors)) + "}"

    dark = "@media screen and (prefers-color-scheme: dark)"
    return f"{root(LIGHT)}\n{dark}{{{root(DARK)}}}\n"


def _digest(text: str) -> str:
    found = hashlib.sha256(text.encode()).digest()
    return f"sha256-{base64.b64encode(found).decode()}"


# ---- figures -------------------------------------------------------------------------


def _figures(drawings: Sequence[Figure]) -> Html:
    return tag(
        "section",
        tag("h2", "Figures"),
        tag(
            "p",
            "Stale results are pale. Point at a mark to read what it is.",
            class_="soft",
        ),
        *(_figure(one) for one in drawings),
    )


def _figure(one: Figure) -> Html:
    if not one.panels:
        return tag(
            "figure",
            tag("figcaption", tag("h3", one.title), tag("p", one.empty, class_="soft")),
        )
    pieces = one.name == "step_time"
    signs = [
        tag(
            "li",
            swatch(slot, piece=pieces),
            name,
            data_method=None if pieces or slot < 0 else clean(name),
        )
        for name, slot in one.legend
    ]
    panels = [
        tag(
            "section",
            tag("h4", each.problem),
            panel(each, one.title),
            data_problem=clean(each.problem),
        )
        for each in one.panels
    ]
    values = [tag("li", text) for each in one.panels for text in _texts(each)]
    return tag(
        "figure",
        tag("figcaption", tag("h3", one.title), tag("p", one.caption)),
        tag("ul", *signs, class_="legend") if signs else None,
        tag("div", *panels, class_="panels"),
        tag(
            "details",
            tag("summary", "All values of this figure as text"),
            tag("ul", *values),
        ),
    )


def _texts(one: Panel | Rows) -> list[str]:
    """Every value of a panel in words, for those who cannot see it."""
    if isinstance(one, Rows):
        return [f"{one.problem}, {row.text}" for row in one.rows]
    return [mark.text for trace in one.traces for mark in trace.marks]


# ---- the rest ------------------------------------------------------------------------


def _cells(groups: Sequence[Group]) -> Html:
    shown = cell_columns()
    rows = [
        tag(
            "tr",
            *(tag("td", text(cell), class_=_WIDE.get(title)) for title, text in shown),
        )
        for group in groups
        for cell in group.cells
    ]
    whole = table((title for title, _ in shown), rows)
    return tag(
        "details",
        tag("summary", f"Every cell ({len(rows)})"),
        scroll(whole, "Every cell"),
    )


def _surroundings(suite: Mapping[str, Any], groups: Sequence[Group]) -> Html:
    settings = json.dumps(
        suite.get("suite") or suite, indent=1, ensure_ascii=False, default=str
    )
    jobs = [
        tag(
            "details",
            tag("summary", f"{group.problem}, {group.method}"),
            tag("pre", _job(cell)),
            class_="job",
        )
        for group in groups
        if (cell := next((c for c in group.cells if c.get("job")), None))
    ]
    return tag(
        "details",
        tag("summary", "Hardware, versions, date and settings"),
        tag("dl", *_definitions(surroundings(suite, groups))),
        tag("h3", "Suite"),
        tag("pre", settings),
        tag("h3", "Jobs (first seed)", class_="job") if jobs else None,
        *jobs,
    )


def _job(cell: Cell) -> str:
    """The resolved job of a cell; null, which TOML lacks, is left out."""

    def known(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {k: known(v) for k, v in value.items() if v is not None}
        return value

    return to_toml(known(cell["job"]))


def _definitions(pairs: Iterable[tuple[str, str]]) -> Iterable[Html]:
    for name, text in pairs:
        yield tag("dt", name)
        yield tag("dd", text)

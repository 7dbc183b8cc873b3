"""The benchmark report as Markdown, for a repository or a chat."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from vmc.bench_report_model import Figure
from vmc.bench_report_rows import VERDICTS, Best, Group, notes, tally
from vmc.bench_report_table import (
    DASH,
    Entry,
    columns,
    headline,
    published_texts,
    reference_texts,
    surroundings,
)
from vmc.bench_report_text import clean, energy_text, markdown, number

#: Marks of the entries whose second line is in the list of errors and doubts.
_LISTED = frozenset(state.replace(" ", "-") for state in VERDICTS)


def document(
    suite: Mapping[str, Any],
    groups: Sequence[Group],
    leaders: Sequence[Best],
    baselines: Sequence[Mapping[str, Any]],
    pictures: Sequence[Figure],
    remarks: Sequence[str],
) -> str:
    """The whole document.

    Args:
        suite: as in ``suite.json``.
        groups: the cells by problem and ansatz.
        leaders: the best of every problem.
        baselines: published results of these problems.
        pictures: figures that lie beside it as PNG files.
        remarks: what else the reader has to be told, one line each.
    """
    blocks = [
        f"# {markdown(suite.get('name') or 'benchmark suite')}",
        markdown(suite.get("description")),
        f"**{markdown(headline(tally(groups), groups))}**",
        *(markdown(remark) for remark in remarks),
        "## Best of each problem",
        _leaders(leaders),
        "## Results",
        "Medians over the seeds, ranges in parentheses. A relative error after &lt; is "
        "an upper limit: the measured value is smaller than twice its noise. "
        "\u25bc lies below the reference by more than noise.",
        _results(groups, baselines),
        _doubts(groups),
        *_pictures(pictures),
        "## Hardware, versions, date",
        _list(f"{name}: {text}" for name, text in surroundings(suite, groups)),
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table of texts that are Markdown already."""
    heads = list(heads)
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _list(texts: Iterable[str]) -> str:
    return "\n".join(f"- {markdown(text)}" for text in texts)


def _leaders(leaders: Sequence[Best]) -> str:
    rows = []
    for one in leaders:
        cell = one.group.middle if one.group is not None else None
        reference, kind = reference_texts(one.reference)
        published, method = published_texts(one.published)
        name = one.group.method if one.group is not None else DASH
        energy = DASH
        if cell is not None:
            energy = energy_text(number(cell["energy"]), number(cell["energy_error"]))
        ties = f" (within noise: {', '.join(one.ties)})" if one.ties else ""
        passed = sum(group.verdict[0] == "passed" for group in one.groups)
        texts = (
            one.problem,
            f"{reference} ({kind})" if kind else reference,
            f"{clean(name)}{ties}",
            energy,
            f"{passed} of {len(one.groups)}",
            f"{published} ({method})" if method else published,
        )
        rows.append([markdown(text) for text in texts])
    heads = "problem,reference energy,best ansatz,its energy,passed,best published"
    return _table(heads.split(","), rows)


def _results(groups: Sequence[Group], baselines: Sequence[Mapping[str, Any]]) -> str:
    shown = columns()
    rows = []
    for problem in dict.fromkeys(group.problem for group in groups):
        rows += [
            [_text(column.of(group)) for column in shown]
            for group in groups
            if group.problem == problem
        ]
        rows += [
            [_text(column.published(row)) for column in shown]
            for row in baselines
            if row["problem"] == problem
        ]
    return _table((column.title for column in shown), rows)


def _text(entry: Entry) -> str:
    """An entry on one line; what belongs to a verdict has a list of its own."""
    small = "" if entry.mark in _LISTED else entry.small
    return markdown(f"{entry.text} ({small})" if small else entry.text)


def _doubts(groups: Sequence[Group]) -> str:
    texts = [
        f"{g.problem}, {g.method}: {'; '.join(t)}" for g in groups if (t := notes(g))
    ]
    return f"### Errors and doubts\n\n{_list(texts)}" if texts else ""


def _pictures(pictures: Sequence[Figure]) -> list[str]:
    blocks = ["## Figures"] if pictures else []
    for one in pictures:
        image = f"![{markdown(one.title)}]({one.name}.png)"
        blocks += [f"### {markdown(one.title)}", image, markdown(one.caption)]
    return blocks

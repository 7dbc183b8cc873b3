"""The report of a benchmark suite: a page, a Markdown text and pictures.

``report.html`` is complete in itself: it opens from any file system, without a
network, and its figures are drawn here.  The same figures as PNG files, which
``report.md`` shows, need matplotlib (extra "plots").
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vmc import bench_report_png
from vmc.bench_report_figures import figures
from vmc.bench_report_markdown import document
from vmc.bench_report_page import page
from vmc.bench_report_rows import best, grouped
from vmc.bench_report_text import clean
from vmc.sweep import write_text

PAGE, TEXT = "report.html", "report.md"
_NO_PICTURES = (
    "PNG files of the figures need matplotlib: pip install 'nqs-vmc[plots]', then "
    "write the report again."
)


def write_report(
    folder: Path,
    suite: Mapping[str, Any],
    results: Sequence[Mapping[str, Any]],
    baselines: Sequence[Mapping[str, Any]],
) -> list[Path]:
    """Write ``report.html``, ``report.md`` and, with matplotlib, the PNG files.

    Args:
        folder: of the suite.
        suite: as in ``suite.json``.
        results: one per cell, as in ``results.json``, also those without numbers.
        baselines: published results: tables {problem, method, energy, sigma, variance,
            v_score, relative_error, source, note}; all but the first three may be
            None.  Those of other problems are left out.

    Returns:
        The files, the page first.

    Raises:
        JobError: a file cannot be written.
    """
    groups = grouped(results)
    known = {group.problem for group in groups}
    published = [row for row in baselines if row["problem"] in known]
    leaders = best(groups, published)
    drawings = figures(groups, published)
    remarks = [
        f"Left out: {clean(one['ansatz'])} on {clean(one['problem'])}: "
        f"{clean(one['reason'])}"
        for one in suite.get("excluded") or []
    ]
    draws = bench_report_png.installed()
    if not draws:
        remarks.append(_NO_PICTURES)
    paths = folder / PAGE, folder / TEXT
    write_text(paths[0], page(suite, groups, leaders, drawings, published, remarks))
    shown = [one for one in drawings if one.panels] if draws else []
    pictures = [bench_report_png.draw(folder, one) for one in shown]
    write_text(paths[1], document(suite, groups, leaders, published, shown, remarks))
    return [*paths, *pictures]

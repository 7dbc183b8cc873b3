"""What ``vmc design`` prints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vmc.cli import console

if TYPE_CHECKING:
    from vmc.design import Design
    from vmc.design_after import After


def print_after(output: console.Output, found: After) -> None:
    """Table of cuts, evidence, verdict."""
    from vmc import design_after_report as report

    console.warn(found.notes)
    output.table(*report.table(found))
    output.text()
    for line in report.lines(found):
        output.text(line)


def print_design(output: console.Output, found: Design) -> None:
    """Table of cuts, summary of architectures, recommendation."""
    from vmc import design_report as report

    console.warn(found.notes)
    output.text(report.headline(found))
    output.text()
    output.table(*report.table(found))
    output.text(
        "columns of an architecture: ln of its capacity, certified floor of 1 - F; "
        "! too narrow for the target, t any state fits"
    )
    output.text()
    certain = found.certificate
    if found.architecture is not None:
        text = report.certified(certain)
        why = f" ({certain.why_not})" if certain.why_not else ""
        output.text(f"{found.architecture}: certified E - E0 >= {text}{why}")
    for line in report.fixed_rank_lines(found):
        output.text(line)
    if found.bottleneck is not None and found.bottleneck.indices:
        shown = ", ".join(found.bottleneck.indices[:4])
        output.text(f"bottleneck of {found.architecture}: {shown}")
    if found.geometry is not None:
        output.text(_tree(found.geometry))
    output.text()
    head = ("family", "keys", "parameters", "error", "target?", "certified")
    rows = report.summary(found)
    output.table((*head, "move", "from"), rows)
    best = found.recommendation
    if best is None:
        output.text("recommendation: none, no family fits")
        return
    output.text(f"recommendation: {rows[0][0]}, {rows[0][1]}")
    output.text()
    output.text(found.job_toml() or "")


def _tree(tree: Any) -> str:
    """The searched order of the sites, in words."""
    better = "no better than" if tree.cost > tree.contiguous_cost - 1e-6 else "best"
    order = ", ".join(str(i) for i in tree.order)
    return (
        f"tree: entropy of all blocks {tree.contiguous_cost:.4g} in order, "
        f"{tree.cost:.4g} in the searched order ({better}: {order})"
    )

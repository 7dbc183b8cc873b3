"""The tables that ``vmc bench`` prints."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vmc.cli import console
from vmc.cli.console import with_error

if TYPE_CHECKING:
    from vmc.bench_suite import Plan


def number(value: float | None, spec: str = ".2e") -> str:
    """A number, or "-" where there is none."""
    return "-" if value is None else format(value, spec)


def word(passed: bool | None) -> str:
    """What a verdict is called."""
    return {True: "pass", False: "FAIL", None: "-"}[passed]


def result_row(r: Mapping[str, Any]) -> tuple[str, ...]:
    """One cell."""
    energy, error = r["energy"], r["energy_error"]
    text = "-"
    if energy is not None and error is not None:
        text = with_error(energy, error)
    step = r["seconds_per_step"]
    return (
        r["problem"],
        r["ansatz"],
        str(r["seed"]),
        r["status"],
        text,
        number(r["relative_error"]),
        number(r["v_score"]),
        number(r["n_parameters"], "d"),
        number(r["seconds"], ".0f"),
        number(None if step is None else 1e3 * step, ".3g"),
        word(r["passed"]),
    )


def verdict_row(v: Mapping[str, Any]) -> tuple[str, ...]:
    """The rule over the seeds of a problem and an ansatz."""
    return (
        v["problem"],
        v["ansatz"],
        number(v["median"]),
        number(v["worst"]),
        word(v["passed"]),
        v["why"],
    )


def comparison_row(row: Mapping[str, Any]) -> tuple[str, ...]:
    """A problem and an ansatz in two folders."""
    return (
        row["cell"],
        str(row["seeds"]),
        number(row["change"], "+.2e"),
        number(row["noise"]),
        number(row["sigmas"], "+.1f"),
        number(row["step_ratio"], ".2f"),
        number(row["time_ratios"].get("1e-3"), ".2f"),
    )


def list_cells(
    output: console.Output, made: Plan, folder: Path, chosen: set[str], json: bool
) -> None:
    """The cells and how far they are, and what is excluded."""
    from vmc.bench_run import as_sweep, progress

    sweep = as_sweep(folder, made.cells)
    rows = []
    for point, cell in zip(sweep.points, made.cells, strict=True):
        if cell.name in chosen:
            found = progress(folder, sweep, point, cell)
            rows.append((cell.name, found.status, found.message.partition("\n")[0]))
    if json:
        keys = ("cell", "status", "why")
        cells = [dict(zip(keys, row, strict=True)) for row in rows]
        output.json({"cells": cells, "excluded": made.excluded})
        return
    output.table(("cell", "status", ""), rows)
    for e in made.excluded:
        output.text(f"excluded: {e['problem']}/{e['ansatz']}: {e['reason']}")


def show(output: console.Output, suite: dict, results: list[dict]) -> None:
    """The table of cells and the rule over seeds, for a terminal."""
    head = ("problem", "ansatz", "seed", "status", "energy", "rel. error", "V-score")
    head += ("P", "s", "ms/step", "passed")
    output.table(head, [result_row(r) for r in results])
    for r in results:
        if r["status"] != "done":
            why = (r["error"] or r["stale_because"] or "").partition("\n")[0]
            name = f"{r['problem']}/{r['ansatz']}/seed{r['seed']}"
            output.text(f"{name}: {r['status']}: {why}")
    judged = [v for v in suite["verdicts"] if v["passed"] is not None]
    if judged:
        output.text()
        output.table(
            ("problem", "ansatz", "median", "worst", "passed", "why"),
            [verdict_row(v) for v in judged],
        )
    for e in suite["excluded"]:
        output.text(f"excluded: {e['problem']}/{e['ansatz']}: {e['reason']}")


def show_comparison(output: console.Output, found: dict[str, Any]) -> None:
    """What two folders say of each other."""
    head = ("cell", "seeds", "energy", "noise", "sigmas", "step", "to 1e-3")
    output.table(head, [comparison_row(row) for row in found["rows"]])
    for line in found["notes"]:
        output.text(line)
    for line in found["regressions"]:
        output.text(f"REGRESSION {line}")
    if not found["regressions"]:
        output.text("no regression beyond noise")

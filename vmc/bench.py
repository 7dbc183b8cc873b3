"""A benchmark suite: run what is left, collect the results, write the tables.

A suite folder holds ``suite.json`` (what was asked for), ``results.json`` and
``results.csv`` (one row per cell), the report, and a run directory per cell.
"""

from __future__ import annotations

import csv
import fnmatch
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vmc import bench_problems, provenance
from vmc.bench_problems import Problem
from vmc.bench_results import empty, finite
from vmc.bench_rules import verdicts
from vmc.bench_run import CellRunner, Progress, as_sweep, progress, read_json
from vmc.bench_suite import Cell, Plan
from vmc.errors import JobError
from vmc.jobfile import suggest
from vmc.signals import StopFlag
from vmc.sweep import Point, Sweep, write_text

SUITE, RESULTS, TABLE = "suite.json", "results.json", "results.csv"
FORMAT, SCHEMA = "vmc-bench-suite", 1


def select(plan: Plan, patterns: Sequence[str]) -> list[Cell]:
    """Cells whose problem, ansatz or PROBLEM/ANSATZ[/seedK] matches a pattern.

    Raises:
        JobError: a pattern matches nothing.
    """
    if not patterns:
        return plan.cells
    chosen: set[str] = set()
    for pattern in patterns:
        found = {cell.name for cell in plan.cells if _named(cell, pattern)}
        if not found:
            known = [p.label for p in plan.problems]
            known += [cell.ansatz for cell in plan.cells]
            raise JobError(f"--only {pattern}: no cell{suggest(pattern, known)}")
        chosen |= found
    return [cell for cell in plan.cells if cell.name in chosen]


def _named(cell: Cell, pattern: str) -> bool:
    corner = f"{cell.problem.label}/{cell.ansatz}"
    names = (cell.problem.label, cell.ansatz, corner, cell.name)
    return any(fnmatch.fnmatchcase(name, pattern) for name in names)


def run(
    plan: Plan,
    folder: Path,
    cells: Sequence[Cell],
    *,
    jobs: int,
    rerun_stale: bool = False,
    stop: StopFlag | None = None,
    tell: Callable[[Point, str, str], None] = lambda point, what, detail: None,
) -> bool:
    """Run the cells that are left; write the tables after that, whatever came.

    Args:
        plan: of the suite.
        folder: of the suite.
        cells: those that may run.
        jobs: processes side by side.
        rerun_stale: run stale cells again.
        stop: flag that asks for a stop.
        tell: see `vmc.sweep_run.Runner`.

    Returns:
        False if there was a stop before all had their turn.

    Raises:
        JobError: the folder holds something else, or cannot be written.
    """
    check_folder(folder, plan)
    folder.mkdir(parents=True, exist_ok=True)
    write_suite(plan, folder, [])
    runner = CellRunner(
        folder, cells, jobs=jobs, rerun_stale=rerun_stale, stop=stop, tell=tell
    )
    complete = runner.run(runner.sweep.points)
    return complete and not (stop is not None and stop.requested)


def check_folder(folder: Path, plan: Plan) -> None:
    """Refuse a folder that is not of this suite.

    Raises:
        JobError: it says what to do.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    known = read_json(folder / SUITE) if folder.is_dir() else None
    if known is None or known.get("format") != FORMAT:
        raise JobError(
            f"{folder} exists and holds no suite: choose another folder with --out"
        )
    if known.get("name") != plan.suite.name:
        raise JobError(
            f"{folder} holds the suite {known.get('name')!r}, not "
            f"{plan.suite.name!r}: choose another folder with --out"
        )


# ---- collecting ----------------------------------------------------------------------


def collect(plan: Plan, folder: Path) -> list[dict[str, Any]]:
    """One result per cell of the plan, also of those that failed or never ran."""
    sweep = as_sweep(folder, plan.cells)
    return [
        _result(folder, sweep, point, cell)
        for point, cell in zip(sweep.points, plan.cells, strict=True)
    ]


def of_peers(plan: Plan, folder: Path) -> list[dict[str, Any]]:
    """Results of other programs that lie in the folder, see `vmc.bench_peers`."""
    found = []
    for problem in plan.problems:
        for path in sorted((folder / problem.label).glob("*/seed*/result.json")):
            result = read_json(path)
            if result is not None and result.get("source", "vmc") != "vmc":
                found.append(result)
    return found


def _result(folder: Path, sweep: Sweep, point: Point, cell: Cell) -> dict[str, Any]:
    found = progress(folder, sweep, point, cell)
    blank = empty(cell.problem, cell.ansatz, cell.seed, "missing")
    if found.status == "done" and found.result is not None:
        return blank | found.result
    if found.status == "stale":
        note = {"status": "stale", "stale_because": found.message}
        note |= {"passed": None, "why": f"stale: {found.message}"}
        return blank | (found.result or {}) | note
    if found.status == "failed":
        passed = False if cell.problem.rule is not None else None
        lost = {"status": "failed", "passed": passed, "why": "no result"}
        return blank | lost | {"error": found.message}
    return blank | {"error": _where(found), "why": "no result"}


def _where(found: Progress) -> str:
    texts = {
        "waiting": "not run yet",
        "running": "running in another process",
        "stopped": "stopped before its end; the next call goes on",
        "interrupted": "killed before its end; the next call goes on",
    }
    return texts.get(found.status, found.status)


def write_suite(plan: Plan, folder: Path, results: list[dict[str, Any]]) -> dict:
    """Write ``suite.json``: what was asked for and what became of it."""
    done = [r for r in results if r["versions"] and r["source"] == "vmc"]
    content = {
        "format": FORMAT,
        "schema": SCHEMA,
        "name": plan.suite.name,
        "description": plan.suite.description,
        "seeds": plan.suite.seeds,
        "budget": plan.suite.budget.model_dump() if plan.suite.budget else None,
        "problems": [p.model_dump() for p in plan.problems],
        "ansatze": list(dict.fromkeys(cell.ansatz for cell in plan.cells)),
        "excluded": plan.excluded,
        "suite": plan.suite.model_dump(mode="json"),
        "cells": [cell.name for cell in plan.cells],
        "verdicts": verdicts(results),
        "versions": done[-1]["versions"] if done else {},
        "machine": done[-1]["machine"] if done else {},
        "date": provenance.now(),
    }
    content = finite(content)
    write_text(folder / SUITE, json.dumps(content, indent=1) + "\n")
    return content


def write_tables(
    plan: Plan, folder: Path
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Collect and write ``suite.json``, ``results.json`` and ``results.csv``.

    Returns:
        What is in the first two.
    """
    results = finite([*collect(plan, folder), *of_peers(plan, folder)])
    suite = write_suite(plan, folder, results)
    rows = ",\n".join(json.dumps(r, allow_nan=False) for r in results)
    write_text(folder / RESULTS, f"[\n{rows}\n]\n")
    write_text(folder / TABLE, as_csv(results))
    return suite, results


def as_csv(results: Sequence[Mapping[str, Any]]) -> str:
    """One row per result; tables become columns "table.key", lists stay out."""
    rows = [_flat_row(result) for result in results]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _flat_row(result: Mapping[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for name, value in result.items():
        if name in ("series", "job", "entropy", "parts"):
            continue
        if isinstance(value, Mapping):
            row |= {f"{name}.{k}": v for k, v in value.items()}
        else:
            row[name] = value
    return row


# ---- reading -------------------------------------------------------------------------


def read(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The suite and the results of a folder.

    Raises:
        JobError: it holds none, or they are damaged or too new.
    """
    if not (folder / RESULTS).is_file():
        hint = ""
        if (folder / "run.h5").exists():
            hint = f"; it is one run (`vmc show {folder}`)"
        raise JobError(f"{folder} is no suite folder with results{hint}")
    suite = read_json(folder / SUITE)
    if suite is None or suite.get("format") != FORMAT:
        raise JobError(f"{folder / SUITE} is missing, damaged or no suite")
    if suite.get("schema", 0) > SCHEMA:
        raise JobError(f"{folder / SUITE} is newer than this version: upgrade nqs-vmc")
    try:
        results = json.loads((folder / RESULTS).read_text(encoding="utf-8"))
        if not isinstance(results, list):
            raise ValueError("no list")
    except (OSError, ValueError):
        raise JobError(f"{folder / RESULTS} is damaged") from None
    return suite, results


def problems_of(suite: Mapping[str, Any]) -> list[Problem]:
    """The problems of a suite file that was written."""
    return [Problem(**table) for table in suite["problems"]]


def report(folder: Path) -> list[Path]:
    """Write the report of a suite folder from its tables.

    Returns:
        The files.

    Raises:
        JobError: there are no tables.
    """
    from vmc.bench_report import write_report

    suite, results = read(folder)
    published = bench_problems.baselines(problems_of(suite))
    return write_report(folder, suite, results, published)

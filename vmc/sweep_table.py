"""The results of a sweep as one table, and their means over seeds and disorder."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vmc.sweep import DISORDER, Sweep, write_text
from vmc.sweep_grid import text_of
from vmc.sweep_state import State, look

Row = dict[str, Any]

#: Columns of the table after the keys of the grid.
COLUMNS = (
    "seed",
    "energy",
    "error",
    "energy_per_site",
    "variance",
    "v_score",
    "exact",
    "relative_error",
    "n_sites",
    "status",
    "seconds",
    "message",
)


def collect(sweep: Sweep) -> list[Row]:
    """One row per point, in the order of the grid.

    Every row has "point" (the name), the keys of the grid and `COLUMNS`; energies are
    of the whole system, and what is not known is None.
    """
    rows = []
    for point in sweep.in_order():
        state = look(sweep, point)
        if not state.message and point.after is not None and state.status == "waiting":
            before = look(sweep, sweep.point(point.after)).status
            if before == "failed":
                state = state._replace(message=f"it starts from {point.after}: failed")
        rows.append(row(point.name, point.values, point.seed, state))
    return rows


def row(name: str, values: Mapping[str, Any], seed: int, state: State) -> Row:
    """The row of one point; see `collect`."""
    report = state.report or {}
    energy = report.get("energy") or {}
    known = report | {
        "seed": seed,
        "energy": energy.get("mean"),
        "error": energy.get("error"),
        "variance": energy.get("variance"),
        "exact": (report.get("exact") or {}).get("energy"),
        "status": state.status,
        "seconds": state.seconds,
        "message": state.message,
    }
    return {"point": name, **values} | {column: known.get(column) for column in COLUMNS}


def averages(rows: Sequence[Row], keys: Sequence[str]) -> list[Row]:
    """Means over the seeds, and over ``hamiltonian.disorder_seed`` where it is swept.

    Only points that are done count.  Over seeds the error of a mean is the larger of
    the combined statistical error, sqrt(sum of error^2) / n, and of the scatter,
    s / sqrt(n) with the standard deviation s.  Over disorder the scatter is that of
    the samples, each of them averaged over its seeds first; one sample alone says
    nothing of the others, and its error is None.

    Args:
        rows: see `collect`.
        keys: of the grid.

    Returns:
        Rows with the other keys of the grid, "n_runs", "n_disorder" (samples; None
        without), "energy", "error", "statistical", "scatter" (None for a single one),
        "energy_per_site", "error_per_site" and "n_sites".
    """
    kept = [key for key in keys if key != DISORDER]
    done = [r for r in rows if r["status"] == "done" and r["energy"] is not None]
    return [_average(group, kept, DISORDER in keys) for group in grouped(done, kept)]


def _average(group: Sequence[Row], kept: Sequence[str], over_disorder: bool) -> Row:
    """The mean of rows that differ in seed and disorder only."""
    samples = [
        _mean([(r["energy"], r["error"]) for r in same])
        for same in grouped(group, [DISORDER] if over_disorder else [])
    ]
    mean, statistical, scatter = samples[0]
    if over_disorder:
        mean, statistical, scatter = _mean([(m, s) for m, s, _ in samples])
    error = max((e for e in (statistical, scatter) if e is not None), default=None)
    if over_disorder and scatter is None:
        error = None
    n_sites = group[0]["n_sites"]
    return {key: group[0][key] for key in kept} | {
        "n_runs": len(group),
        "n_disorder": len(samples) if over_disorder else None,
        "energy": mean,
        "error": error,
        "statistical": statistical,
        "scatter": scatter,
        "energy_per_site": mean / n_sites,
        "error_per_site": None if error is None else error / n_sites,
        "n_sites": n_sites,
    }


def _mean(
    values: Sequence[tuple[float, float | None]],
) -> tuple[float, float | None, float | None]:
    """Plain mean, its statistical error, and the error that the scatter shows."""
    means, errors = np.array([m for m, _ in values]), [e for _, e in values]
    n, statistical, scatter = len(means), None, None
    if None not in errors:
        statistical = math.sqrt(sum(e**2 for e in errors if e is not None)) / n
    if n > 1:
        scatter = float(np.std(means, ddof=1)) / math.sqrt(n)
    return float(np.mean(means)), statistical, scatter


def grouped(rows: Iterable[Row], keys: Sequence[str]) -> list[list[Row]]:
    """Rows with equal keys together, in the order of their first ones."""
    groups: dict[str, list[Row]] = {}
    for one in rows:
        # Lists cannot be dictionary keys; texts of TOML can.
        groups.setdefault(str([text_of(one[k]) for k in keys]), []).append(one)
    return list(groups.values())


def write_csv(path: Path, rows: Sequence[Row]) -> None:
    """A table as CSV, numbers with all digits; replaces the file as a whole.

    Raises:
        JobError: it cannot be written.
    """
    text = io.StringIO()
    if rows:
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(rows[0])
        writer.writerows([_cell(value) for value in one.values()] for one in rows)
    write_text(path, text.getvalue())


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else text_of(value)

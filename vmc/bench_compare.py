"""Two folders of results side by side: what became worse beyond noise.

Cells are compared by problem and ansatz over the seeds that both have.  The noise of a
mean energy is that of its measurements and of the seeds: another machine or version
takes another path through the same search.  With one seed only the measurements
count, and the comparison says so.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

#: Joint standard errors that an energy may be worse.
SIGMAS = 3.0
#: How much slower a step or the way to a target may be.
FACTOR = 1.3
#: Seconds below which times to a target say nothing: starts differ by as much.
SHORT = 2.0

Results = Sequence[Mapping[str, Any]]


def compare(
    old: Results, new: Results, *, factor: float = FACTOR, sigmas: float = SIGMAS
) -> dict[str, Any]:
    """What two lists of results say of each other.

    Args:
        old: the results to compare with.
        new: the results in question.
        factor: a time is a regression beyond this ratio.
        sigmas: an energy is a regression beyond so many joint standard errors.

    Returns:
        ``rows`` (one per problem and ansatz), ``regressions`` and ``notes`` (lines).
    """
    rows, regressions, notes = [], [], []
    before, after = _groups(old), _groups(new)
    for names in dict.fromkeys([*before, *after]):
        label = "/".join(names)
        seeds = sorted(before.get(names, {}).keys() & after.get(names, {}).keys())
        if not seeds:
            where = "first" if names in before else "second"
            notes.append(f"{label}: only in the {where} folder")
            continue
        pairs = [(before[names][s], after[names][s]) for s in seeds]
        row, found, said = _corner(label, seeds, pairs, factor, sigmas)
        rows.append(row)
        regressions += found
        notes += said
    return {"rows": rows, "regressions": regressions, "notes": notes}


def _groups(results: Results) -> dict[tuple[str, str], dict[int, Mapping[str, Any]]]:
    groups: dict[tuple[str, str], dict[int, Mapping[str, Any]]] = {}
    for result in results:
        names = (result["problem"], result["ansatz"])
        groups.setdefault(names, {})[result["seed"]] = result
    return groups


Pairs = list[tuple[Mapping[str, Any], Mapping[str, Any]]]


def _corner(
    label: str, seeds: list[int], pairs: Pairs, factor: float, sigmas: float
) -> tuple[dict[str, Any], list[str], list[str]]:
    regressions, notes = [], []
    for seed, (a, b) in zip(seeds, pairs, strict=True):
        if a["status"] == "done" and b["status"] != "done":
            why = (b["error"] or b["stale_because"] or "").partition("\n")[0]
            regressions.append(f"{label} seed {seed}: done -> {b['status']} ({why})")
        elif a["passed"] is True and b["passed"] is False:
            regressions.append(f"{label} seed {seed}: pass -> fail ({b['why']})")
    done = [(a, b) for a, b in pairs if a["status"] == b["status"] == "done"]
    row: dict[str, Any] = {"cell": label, "seeds": len(done)}
    row |= dict.fromkeys(("change", "noise", "sigmas", "step_ratio"))
    row["time_ratios"] = {}
    if not done:
        return row, regressions, notes
    change, noise = energy_change(done)
    row |= {"change": change, "noise": noise}
    row["sigmas"] = change / noise if noise > 0 else None
    scale = abs(done[0][0]["energy"])
    if change > sigmas * noise + 1e-12 * scale:
        size = f"{change / noise:.1f} joint standard errors" if noise else "no noise"
        regressions.append(f"{label}: energy {change:+.3g} worse, {size}")
    if len(done) == 1:
        notes.append(f"{label}: one seed, the scatter of seeds is unknown")
    regressions += _slower(label, done, factor, row)
    return row, regressions, notes


def energy_change(done: Pairs) -> tuple[float, float]:
    """Mean energy after less mean energy before, and its standard error."""
    sides = list(zip(*done, strict=True))
    variance = 0.0
    for side in sides:
        n = len(side)
        measured = sum((r["energy_error"] or 0.0) ** 2 for r in side) / n**2
        scatter = statistics.variance(r["energy"] for r in side) / n if n > 1 else 0.0
        # The scatter of seeds holds that of their measurements.
        variance += max(measured, scatter)
    means = [statistics.fmean(r["energy"] for r in side) for side in sides]
    return means[1] - means[0], math.sqrt(variance)


def _slower(label: str, done: Pairs, factor: float, row: dict[str, Any]) -> list[str]:
    """Lines for what takes longer; fills the ratios of the row."""
    found = []
    steps = [_median(r["seconds_per_step"] for r in side) for side in zip(*done)]
    if steps[0] and steps[1]:
        row["step_ratio"] = steps[1] / steps[0]
        if row["step_ratio"] > factor:
            found.append(
                f"{label}: a step takes {row['step_ratio']:.2f} times as long "
                f"({1e3 * steps[0]:.3g} -> {1e3 * steps[1]:.3g} ms)"
            )
    for target in done[0][0]["time_to"]:
        times = [[r["time_to"].get(target) for r in side] for side in zip(*done)]
        if None in times[0]:
            continue
        if None in times[1]:
            n = times[1].count(None)
            found.append(f"{label}: {target} no longer reached by {n} seeds")
            continue
        a, b = (statistics.median(x) for x in times)
        row["time_ratios"][target] = b / a
        if b > factor * a and b - a > SHORT:
            found.append(f"{label}: {target} after {b:.3g} s instead of {a:.3g} s")
    return found


def _median(values: Any) -> float | None:
    known = [v for v in values if v is not None]
    return statistics.median(known) if known else None

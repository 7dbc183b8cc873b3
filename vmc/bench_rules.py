"""When a result of the benchmark suite passes, and when all its seeds do.

The rule of the acceptance cases: with sigma the error of the frozen measurement and u
that of the reference E0, a result passes if E - E0 <= p |E0| + 3 sigma, if
E >= E0 - 4 sqrt(sigma^2 + u^2) (an energy below the exact one is a failure: a biased
sampler or a wrong Hamiltonian), if sigma <= 0.3 p |E0|, and if it came in time.  Of
several seeds the median must pass and none may be worse than five times the limit.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from vmc.bench_problems import Reference, Rule

#: Standard errors that an energy may lie above its limit, or below the reference.
ABOVE, BELOW = 3.0, 4.0
#: Part of the limit that the error of the measurement may take.
RESOLUTION = 0.3
#: No seed may be worse than so many times the limit.
WORST = 5.0


def judge(
    rule: Rule | None,
    reference: Reference | None,
    energy: float | None,
    error: float | None,
    seconds: float | None,
) -> tuple[bool | None, str]:
    """Whether one result passes, and why (not).

    Returns:
        True, False, or None where there is no rule or nothing to compare to; a line.
    """
    if reference is None:
        return None, "no reference"
    if energy is None or error is None:
        return (None if rule is None else False), "no energy"
    if reference.kind == "exact":
        noise = math.hypot(error, reference.uncertainty)
        rounding = 1e-12 * abs(reference.energy)
        below = reference.energy - energy
        if below > BELOW * noise + rounding:
            text = f"{below:.3g} below the exact energy"
            if noise > 0:
                text += f", {below / noise:.1f} standard errors"
            return False, text
    if rule is None:
        return None, "no rule"
    problems = _problems(rule, reference, energy, error, seconds)
    if problems:
        return False, "; ".join(problems)
    relative = (energy - reference.energy) / abs(reference.energy)
    stretch = rule.stretch_relative_error
    if stretch is not None and relative <= stretch:
        return True, f"{relative:.2g}, within the stretch goal {stretch:.0e}"
    return True, f"{relative:.2g}, limit {rule.pass_relative_error:.0e}"


def _problems(
    rule: Rule,
    reference: Reference,
    energy: float,
    error: float,
    seconds: float | None,
) -> list[str]:
    limit = rule.pass_relative_error
    scale = abs(reference.energy)
    noise = math.hypot(error, reference.uncertainty)
    above = energy - reference.energy
    found = []
    if above > limit * scale + ABOVE * error:
        found.append(f"relative error {above / scale:.2g}, limit {limit:.0e}")
    if above < -BELOW * noise - 1e-12 * scale:
        found.append(f"{-above / noise:.1f} standard errors below the reference")
    if error > RESOLUTION * limit * scale:
        found.append(
            f"standard error {error / scale:.1g} of |E0|, needed "
            f"{RESOLUTION * limit:.1g}: measure more samples"
        )
    minutes = rule.time_limit_minutes
    if minutes is not None and seconds is not None and seconds > 60 * minutes:
        found.append(f"{seconds / 60:.1f} minutes, limit {minutes:g}")
    return found


def verdicts(results: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rule over all seeds of each problem and ansatz.

    Args:
        results: results of cells.

    Returns:
        Tables {problem, ansatz, seeds, median, worst, passed, why}; ``passed`` is None
        where there is no rule, or where seeds are still to come.
    """
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for result in results:
        groups.setdefault((result["problem"], result["ansatz"]), []).append(result)
    return [_verdict(*names, group) for names, group in groups.items()]


def _verdict(
    problem: str, ansatz: str, group: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    errors = [r["relative_error"] if r["status"] == "done" else None for r in group]
    known = [e for e in errors if e is not None]
    row: dict[str, Any] = {
        "problem": problem,
        "ansatz": ansatz,
        "seeds": [r["seed"] for r in group],
        "median": statistics.median(known) if known else None,
        "worst": max(known) if known else None,
        "passed": None,
        "why": "",
    }
    rule = next((r["rule"] for r in group if r["rule"]), None)
    below = [r["seed"] for r in group if r["passed"] is False and not r["rule"]]
    if rule is None:
        if below:
            row |= {"passed": False, "why": f"seeds {below} below the exact energy"}
        return row
    if len(known) < len(group):
        failed = any(r["status"] == "failed" for r in group)
        return row | {
            "passed": False if failed else None,
            "why": "not all seeds are done",
        }
    limit = rule["pass_relative_error"]
    middle = sorted(group, key=lambda r: r["relative_error"])[len(group) // 2]
    worst = [r["seed"] for r in group if r["relative_error"] > WORST * limit]
    late = [r["seed"] for r in group if "minutes, limit" in r["why"]]
    low = [r["seed"] for r in group if r["passed"] is False and "below the" in r["why"]]
    why = []
    if middle["passed"] is not True:
        why.append(f"median: {middle['why']}")
    for seeds, text in ((worst, "beyond 5x"), (late, "late"), (low, "below E0")):
        if seeds:
            why.append(f"{text}: seeds {', '.join(map(str, seeds))}")
    return row | {"passed": not why, "why": "; ".join(why) or middle["why"]}

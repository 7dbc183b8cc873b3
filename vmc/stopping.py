"""When a run has done enough steps: [run] stop_at.

Decided from the series alone, at fixed steps: a run that was stopped and resumed ends
at the step at which an uninterrupted one does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from vmc.job import Job
from vmc.records import WINDOW
from vmc.stats import v_score

#: Standard errors of the difference by which a falling energy has to fall.
FALL_ERRORS = 1.0


def enough(
    job: Job,
    series: Mapping[str, np.ndarray],
    *,
    n_sites: int,
    e_infinity: float,
) -> str | None:
    """Why a run may end its steps, or None.

    Args:
        job: the resolved job; what is left of its [run] grow comes first.
        series: per-step columns so far.  Rejected steps do not count.
        n_sites: N.
        e_infinity: Tr H / dim.
    """
    rule, steps = job.run.stop_at, np.asarray(series.get("step", ()))
    if len(steps) == 0 or job.run.grow or steps[-1] % job.run.steps_per_dispatch:
        return None
    good = np.asarray(series.get("rejected", np.zeros(len(steps)))) == 0
    energy, variance = series["energy"][good], series["variance"][good]
    if rule.v_score is not None and len(energy) >= WINDOW:
        mean, spread = np.mean(energy[-WINDOW:]), np.mean(variance[-WINDOW:])
        score = v_score(float(mean), float(spread), n_sites, e_infinity)
        if score < rule.v_score:
            return f"V-score {score:.3g} below {rule.v_score:g}"
    if rule.plateau is not None and len(energy) >= rule.plateau:
        if _is_flat(energy[-rule.plateau :]):
            return f"no lower energy in the last {rule.plateau // 2} steps"
    return None


def _is_flat(energy: np.ndarray) -> bool:
    """Whether the later half is not lower than the earlier half."""
    half = len(energy) // 2
    parts = energy[:half], energy[-half:]
    fall = np.mean(parts[0]) - np.mean(parts[1])
    # Of pairs of steps: what neighbours have in common does not fool it as much.
    spread = [np.var(p[: half // 2 * 2].reshape(-1, 2).mean(1), ddof=1) for p in parts]
    error = math.sqrt(sum(spread) / (half // 2))
    return bool(fall <= FALL_ERRORS * error)

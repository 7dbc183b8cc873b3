"""The columns that a run keeps of every step."""

from __future__ import annotations

import math

import numpy as np

from vmc import stats

#: Steps that R-hat and tau are pooled over.
WINDOW = 20

#: Columns of the per-step records, in the order in which they are reported.
COLUMNS = (
    "step",
    "energy",
    "error",
    "variance",
    "acceptance",
    "r_hat",
    "tau",
    "grad_norm",
    "update_norm",
    "kl",
    "diag_shift",
    "condition",
    "learning_rate",
    "drift",
    "rank",
    "rejected",
    "replaced",
    "shrunk",
    "seconds",
)

Records = dict[str, np.ndarray]


def per_step(
    step: int, window: np.ndarray, rows: Records, means: np.ndarray, seconds: float
) -> tuple[Records, np.ndarray]:
    """Columns of the steps of a dispatch, from what the compiled loop has returned.

    Args:
        step: steps before these.
        window: mean local energy of each chain in the last good steps before,
            (at most `WINDOW`, n_chains).
        rows: columns of the compiled loop; rows beyond ``means`` do not count.
        means: mean local energy of each chain, (steps, n_chains).
        seconds: per step.

    Returns:
        `COLUMNS`, each (steps,), and the window at the end.
    """
    done, n_chains = means.shape
    records = {name: column[:done] for name, column in rows.items()}
    records["error"] = np.full(done, np.nan)
    if n_chains > 1:
        with np.errstate(invalid="ignore", over="ignore"):  # rejected steps
            spread = np.std(means, axis=1, ddof=1)
        records["error"] = spread / math.sqrt(n_chains)
    good = (records["rejected"] == 0) & (records["shrunk"] == 0)
    history = np.concatenate([window, means[good]])
    # One look per step at the window of good ones that ends there, so that the
    # logged numbers do not depend on where a run was cut and resumed.
    stops = len(window) + np.cumsum(good)
    looks = [stats.pooled(history[max(0, n - WINDOW) : n]) for n in stops]
    records["r_hat"] = np.array([look.r_hat for look in looks])
    records["tau"] = np.array([look.tau for look in looks])
    records["step"] = step + np.arange(1, done + 1)
    records["seconds"] = np.full(done, seconds)
    return {name: records[name] for name in COLUMNS}, history[-WINDOW:]

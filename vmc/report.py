"""The report of a run: its energy with what is needed to judge it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from vmc.assembly import Built
from vmc.stats import Estimate, v_score


def report(
    built: Built,
    estimate: Estimate | None,
    *,
    status: str,
    step: int,
    seconds: float,
    warnings: list[str],
    observables: Mapping[str, Any] | None = None,
    repairs: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """The numbers of a run, as JSON values.

    ``v_score`` is N Var(H) / (E - E_inf)^2 with E_inf the mean energy of all
    configurations (arXiv:2302.04919); ``relative_error`` is (E - E0) / |E0|.
    ``observables`` (only where some were measured) are tables of equally long columns,
    see `vmc.observables_run.Results`.  ``rejected`` steps and ``replaced`` walkers are
    counted where they are known.
    """
    exact = None if estimate is None else built.exact()
    relative = score = None
    energy = None
    if estimate is not None:
        energy = {k: _number(v) for k, v in estimate._asdict().items()}
        score = _number(
            v_score(estimate.mean, estimate.variance, built.n_sites, built.e_infinity)
        )
        if exact is not None and exact["energy"] != 0:
            relative = (estimate.mean - exact["energy"]) / abs(exact["energy"])
    measured = {"observables": dict(observables)} if observables else {}
    return measured | {
        "status": status,
        "energy": energy,
        "energy_per_site": None if estimate is None else estimate.mean / built.n_sites,
        "v_score": score,
        "exact": exact,
        "relative_error": relative,
        "n_sites": built.n_sites,
        "n_parameters": built.vmc.n_parameters,
        "n_steps": step,
        "seconds": seconds,
        **(repairs or {}),
        "warnings": list(warnings),
    }


def _number(value: float) -> float | int | None:
    """A JSON number; not-a-number, which JSON lacks, as None."""
    return value if isinstance(value, int) or math.isfinite(value) else None

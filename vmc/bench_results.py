"""The result of a cell of a benchmark suite, as plain JSON values.

One result is a table with the keys of `empty`; numbers that are not finite are null.
Times count from the start of the process, compilation included.
"""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vmc import provenance
from vmc.bench_problems import Problem
from vmc.bench_rules import judge

FORMAT, SCHEMA = "vmc-bench-cell", 1
#: Relative errors whose first time is reported.
TARGETS = ("1e-2", "1e-3", "1e-4")
#: Steps that the energy is averaged over before it is compared with a target.
WINDOW = 20
#: Points of a series that are kept.
POINTS = 200

_NUMBERS = (
    "energy energy_error variance v_score tau r_hat ess relative_error "
    "relative_error_sigma n_parameters n_steps seconds optimise_seconds "
    "measure_seconds compile_seconds seconds_per_step samples_per_second "
    "ess_per_second peak_memory_mib"
).split()


def empty(problem: Problem, ansatz: str, seed: int, status: str) -> dict[str, Any]:
    """A result without numbers.

    Args:
        problem: what is solved.
        ansatz: label.
        seed: of the job.
        status: "done", "failed", "stale" or "missing".
    """
    reference, rule = problem.reference, problem.rule
    return {
        "format": FORMAT,
        "schema": SCHEMA,
        "problem": problem.label,
        "ansatz": ansatz,
        "seed": seed,
        "status": status,
        "error": None,
        "stale_because": None,
        "n_sites": problem.n_sites,
        "lattice": problem.lattice_text,
        "hamiltonian": problem.hamiltonian_text,
        "reference": None if reference is None else reference.model_dump(),
        "rule": None if rule is None else rule.model_dump(),
        "passed": None,
        "why": "",
        **dict.fromkeys(_NUMBERS),
        "time_to": dict.fromkeys(TARGETS),
        "series": {"seconds": [], "steps": [], "relative_error": [], "energy": []},
        "parts": None,
        "entropy": [],
        "job": {},
        "versions": {},
        "machine": {},
        "date": None,
        "fingerprint": None,
        "source": "vmc",
    }


def with_energy(
    result: dict[str, Any], report: Mapping[str, Any], problem: Problem
) -> dict[str, Any]:
    """A result with the numbers of a run's report, and judged.

    Args:
        result: with ``seconds`` filled in.
        report: of the run, see `vmc.report.report`.
        problem: with its reference and rule.
    """
    energy = report["energy"] or {}
    for name, where in (
        ("energy", "mean"),
        ("energy_error", "error"),
        ("variance", "variance"),
        ("tau", "tau"),
        ("r_hat", "r_hat"),
        ("ess", "ess"),
    ):
        result[name] = energy.get(where)
    for name in ("v_score", "n_sites", "n_parameters", "n_steps"):
        result[name] = report[name]
    reference = problem.reference
    if reference is None and report.get("exact"):
        known = report["exact"]
        reference = problem_reference(known)
        result["reference"] = reference.model_dump()
    mean, error = result["energy"], result["energy_error"]
    if reference is not None and mean is not None and reference.energy != 0:
        scale = abs(reference.energy)
        result["relative_error"] = (mean - reference.energy) / scale
        result["relative_error_sigma"] = None if error is None else error / scale
    passed, why = judge(problem.rule, reference, mean, error, result["seconds"])
    result |= {"passed": passed, "why": why}
    return result


def problem_reference(exact: Mapping[str, Any]) -> Any:
    """The exact energy that a run found for itself, as a reference."""
    from vmc.bench_problems import Reference

    return Reference(
        energy=exact["energy"],
        uncertainty=1e-10 * abs(exact["energy"]),
        kind="exact",
        source=str(exact["source"]),
    )


# ---- series --------------------------------------------------------------------------


def smoothed(
    energy: np.ndarray, error: np.ndarray, window: int = WINDOW
) -> tuple[np.ndarray, np.ndarray]:
    """Trailing means over at most ``window`` steps, and their standard errors.

    Args:
        energy: (steps,).
        error: (steps,), of each; nan counts as 0.
        window: steps.
    """
    n = len(energy)
    ends = np.arange(1, n + 1)
    starts = np.maximum(0, ends - window)
    sums = np.concatenate([[0.0], np.cumsum(energy)])
    squares = np.concatenate([[0.0], np.cumsum(np.nan_to_num(error) ** 2)])
    count = ends - starts
    means = (sums[ends] - sums[starts]) / count
    return means, np.sqrt(np.maximum(squares[ends] - squares[starts], 0.0)) / count


def time_to(
    seconds: np.ndarray, energy: np.ndarray, error: np.ndarray, exact: float | None
) -> dict[str, float | None]:
    """When the smoothed energy first comes within each target of the exact one.

    The mean of the last `WINDOW` steps plus its standard error must be within, on
    either side, and no one of them more than four of its errors below, so that a lucky
    step does not count.

    Args:
        seconds: (steps,), times at which steps ended.
        energy: (steps,), totals.
        error: (steps,), their standard errors.
        exact: reference, or None.
    """
    found: dict[str, float | None] = dict.fromkeys(TARGETS)
    if exact is None or exact == 0 or len(energy) == 0:
        return found
    means, errors = smoothed(energy, error)
    relative = (np.abs(means - exact) + errors) / abs(exact)
    # Walkers that got lost make energies far too low; means pass the exact one then.
    lost = np.convolve(energy + 4 * error < exact, np.ones(WINDOW))[: len(energy)] > 0
    for target in TARGETS:
        hits = np.flatnonzero((relative <= float(target)) & ~lost)
        if len(hits):
            found[target] = float(seconds[hits[0]])
    return found


def thinned(
    seconds: np.ndarray, series: Mapping[str, np.ndarray], exact: float | None
) -> dict[str, list[float | int | None]]:
    """At most `POINTS` points of the smoothed series, denser at its start.

    Args:
        seconds: (steps,).
        series: columns "step", "energy", "error".
        exact: reference, or None.
    """
    n = len(seconds)
    if n == 0:
        return {"seconds": [], "steps": [], "relative_error": [], "energy": []}
    chosen = np.arange(n)
    if n > POINTS:
        half = POINTS // 2
        even = np.linspace(0, n - 1, half)
        dense = np.geomspace(1, n, half) - 1
        chosen = np.unique(np.round(np.concatenate([even, dense])).astype(int))
    means = smoothed(series["energy"], series["error"])[0][chosen]
    relative = None
    if exact:
        relative = (means - exact) / abs(exact)
    return {
        "seconds": [round(float(x), 4) for x in seconds[chosen]],
        "steps": [int(x) for x in series["step"][chosen]],
        "relative_error": [None] * len(chosen)
        if relative is None
        else [float(x) for x in relative],
        "energy": [float(x) for x in means],
    }


# ---- surroundings --------------------------------------------------------------------


def finite(value: Any) -> Any:
    """The same tables with null for numbers that are not finite."""
    if isinstance(value, Mapping):
        return {str(k): finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [finite(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def versions() -> dict[str, str]:
    """Of the solver and of what its numbers depend on."""
    packages = provenance.packages()
    return {
        "vmc": provenance.version(),
        "jax": packages["jax"],
        "numpy": packages["numpy"],
        "python": platform.python_version(),
    }


def machine(n_devices: int = 1) -> dict[str, Any]:
    """The kind of machine, never its name; JAX must be set up.

    Args:
        n_devices: those that were used.
    """
    import jax

    device = jax.devices()[0].device_kind
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "cpu": cpu_name(),
        "cores": len(os.sched_getaffinity(0)),
        "devices": f"{n_devices} x {device}",
        "memory_gib": round(pages / 2**30, 1),
    }


def cpu_name() -> str:
    """What kind of processor this is."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return platform.processor() or platform.machine()
    for line in text.splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def peak_memory_mib() -> float | None:
    """Peak of the device's memory where it counts it, else of the process."""
    import resource
    import sys

    import jax

    stats = jax.devices()[0].memory_stats() or {}
    if "peak_bytes_in_use" in stats:
        return stats["peak_bytes_in_use"] / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10

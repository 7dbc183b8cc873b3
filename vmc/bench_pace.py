"""How many steps fit into a budget of seconds, measured once per problem and ansatz.

A search ends well only if its learning rate decays before its time is up, so the number
of steps has to be known when it starts.  The first cell of a problem and ansatz takes
a few steps of the very job, times them warm, and writes what fits into ``pace.json``
beside the seeds; every seed then takes the same number of steps, which are the job's
``run.n_steps`` from there on: the runs are reproducible and can be resumed, and no
decision depends on wall time later.  `MARGIN` of the time is left unused; should the
machine be slower than it was, the optimisation still ends with the budget.  The trial
itself is not charged to any cell: a user who knows the number of steps needs none.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vmc.assembly import Built, build
from vmc.errors import JobError
from vmc.job import Job
from vmc.sweep import write_text

FILE = "pace.json"
#: Part of the budget that the steps are planned to leave over.
MARGIN = 0.1
#: Warm steps of a trial: until so many seconds have passed, or so many steps.
TRIAL_SECONDS, TRIAL_STEPS = 2.0, 30
#: Fewer steps than these are no optimisation.
FEWEST = 10


def steps_of(
    job: Job, budget: Mapping[str, Any] | None, folder: Path, started: float
) -> int | None:
    """Steps of a job under a budget; None leaves those of the job.

    Args:
        job: without its final n_steps.
        budget: a dumped `vmc.bench_suite.Budget`, or None.
        folder: that all seeds of the problem and ansatz share.
        started: seconds that the process needs before it builds a job.

    Raises:
        JobError: not even `FEWEST` steps fit.
    """
    if budget is None:
        return None
    if budget["samples"] is not None:
        per_step = build(job).job.sampler.n_samples or 1
        return max(1, budget["samples"] // per_step)
    if budget["seconds"] is None:
        return None
    pace = _pace(job, budget, folder)
    rest = (1 - MARGIN) * budget["seconds"] - started - pace["start_seconds"]
    fit = math.floor(rest / pace["seconds_per_step"])
    if fit < FEWEST:
        # The next attempt may find its programs compiled: it measures again.
        (folder / FILE).unlink(missing_ok=True)
        raise JobError(
            f"a budget of {budget['seconds']:g} s holds {max(0, fit)} steps: "
            f"{pace['start_seconds']:.1f} s pass before the first, and each takes "
            f"{pace['seconds_per_step']:.3g} s; give more seconds or fewer samples "
            "per step"
        )
    return min(budget["max_steps"], _rounded(fit))


def _rounded(n: int) -> int:
    """Two leading digits, downwards: equal programs for nearly equal machines."""
    unit = 10 ** max(0, len(str(n)) - 2)
    return n // unit * unit


def _pace(job: Job, budget: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Measured by whoever comes first; the others wait."""
    key = fingerprint(job, budget)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / FILE
    with (folder / f"{FILE}.lock").open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError:
            pass  # no locks on this file system: measured twice at worst
        try:
            known = json.loads(path.read_text(encoding="utf-8"))
            if known["fingerprint"] == key:
                return known
        except (OSError, ValueError, KeyError, TypeError):
            pass  # none yet, or damaged: measured again
        pace = trial(build(job)) | {"fingerprint": key}
        write_text(path, json.dumps(pace, indent=1) + "\n")
        return pace


def fingerprint(job: Job, budget: Mapping[str, Any]) -> str:
    """Of what the pace depends on: the job but its seed, and the cores."""
    cores = len(os.sched_getaffinity(0))
    tables = [job.replace({"seed": 0}).to_dict(), dict(budget), cores]
    return hashlib.sha256(json.dumps(tables, sort_keys=True).encode()).hexdigest()


def trial(built: Built) -> dict[str, Any]:
    """Seconds of a warm step, and until the end of the first one.

    Args:
        built: the objects of the job.

    Raises:
        NumericalError: a step went wrong.
    """
    began = time.monotonic()
    state = built.first_state()
    state, _ = built.vmc.advance(state, 1)
    first = time.monotonic() - began
    times: list[float] = []
    began = time.monotonic()
    while sum(times) < TRIAL_SECONDS and len(times) < TRIAL_STEPS:
        before = time.monotonic()
        done = int(state.step)
        state, _ = built.vmc.advance(state, built.job.run.steps_per_dispatch)
        n = int(state.step) - done
        times += [(time.monotonic() - before) / n] * n
        if time.monotonic() - began > 4 * TRIAL_SECONDS:
            break
    # The host looks, records and saves between dispatches: the mean, not the best.
    per_step = sum(times) / len(times)
    start = max(0.0, first - per_step)
    return {"seconds_per_step": per_step, "start_seconds": start}

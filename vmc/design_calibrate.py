"""What only training can tell: a family's error on a small lattice, without noise."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from vmc.design_laws import relatives
from vmc.errors import JobError, NumericalError
from vmc.job import Job
from vmc.runs import iterate
from vmc.system import System

#: Largest sector, in states, that a trial sums over.
TRIAL_STATES = 1100
#: Steps of a trial.
TRIAL_STEPS = 200


class Bench(NamedTuple):
    """The small lattice of the trials.

    Attributes:
        job: with a lattice of the family, and no ansatz that counts.
        n_sites: its size.
    """

    job: Job
    n_sites: int


def bench_of(job: Job, system: System) -> Bench | None:
    """The largest lattice of the family, itself included, that trials can sum over."""
    if system.hamiltonian.space.n_states <= TRIAL_STATES:
        return Bench(job, system.n_sites)
    family = relatives(job, TRIAL_STATES)
    if not family:
        return None
    return Bench(family[-1].job, family[-1].system.n_sites)


def trained_error(bench: Bench, name: str, keys: Mapping[str, Any]) -> float:
    """Relative energy error after a short optimisation with exact sums.

    Returns:
        (E - E0) / |E0|, or infinity where the family has no such size there or the
        optimisation failed.
    """
    kept = ("seed", "precision", "lattice", "hamiltonian")
    data = {k: v for k, v in bench.job.to_dict().items() if k in kept}
    data |= {
        "ansatz": {"name": name, **keys},
        "sampler": {"name": "full"},
        "optimizer": {"name": "sr"},
        "run": {"n_steps": TRIAL_STEPS},
        "measure": {"n_samples": 1024},
    }
    try:
        result = None
        for info in iterate(Job.from_dict(data, folder=bench.job.folder)):
            result = info.result
    except (JobError, NumericalError):
        return math.inf
    assert result is not None
    error = result.report["relative_error"]
    return math.inf if error is None else max(0.0, float(error))

"""Variational Monte Carlo with neural quantum states.

The same job as in a job file, in Python:

>>> import vmc                                                   # doctest: +SKIP
>>> job = vmc.Job(                                               # doctest: +SKIP
...     lattice={"name": "chain", "size": [64]},
...     hamiltonian={"name": "tfim", "h": 1.0},
...     ansatz={"name": "rbm"},
... )
>>> result = vmc.run(job)                                        # doctest: +SKIP
>>> print(result.energy.mean, result.energy.error)               # doctest: +SKIP

Names are loaded when they are first used, so that importing this package is cheap and
touches no device.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vmc.assembly import build
    from vmc.cluster import start_cluster
    from vmc.errors import CheckpointError, JobError, NumericalError, StopRun
    from vmc.exact_values import ExactValues, expectation, measure_exactly
    from vmc.job import Job
    from vmc.observables_run import measure
    from vmc.results import Info, Result
    from vmc.runs import iterate, load, resume, run

__all__ = [
    "CheckpointError",
    "ExactValues",
    "Info",
    "Job",
    "JobError",
    "NumericalError",
    "Result",
    "StopRun",
    "build",
    "expectation",
    "iterate",
    "load",
    "measure",
    "measure_exactly",
    "resume",
    "run",
    "start_cluster",
]

_HOMES = {
    "CheckpointError": "vmc.errors",
    "ExactValues": "vmc.exact_values",
    "Info": "vmc.results",
    "Job": "vmc.job",
    "JobError": "vmc.errors",
    "NumericalError": "vmc.errors",
    "Result": "vmc.results",
    "StopRun": "vmc.errors",
    "build": "vmc.assembly",
    "expectation": "vmc.exact_values",
    "iterate": "vmc.runs",
    "load": "vmc.runs",
    "measure": "vmc.observables_run",
    "measure_exactly": "vmc.exact_values",
    "resume": "vmc.runs",
    "run": "vmc.runs",
    "start_cluster": "vmc.cluster",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'vmc' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

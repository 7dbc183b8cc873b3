"""What compares several runs: fidelities, and energies at zero variance."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from vmc import checkpoint, overlaps, runs
from vmc.assembly import Built
from vmc.base import VMCState
from vmc.errors import CheckpointError, JobError
from vmc.extrapolate import zero_variance as fit
from vmc.overlaps import Fidelity, Side
from vmc.stats import Estimate


class State(NamedTuple):
    """A wave function with parameters and walkers.

    Attributes:
        built: the objects of its job.
        state: its parameters and walkers.
    """

    built: Built
    state: VMCState


def fidelity_of(a: State, b: State, n_samples: int) -> Fidelity:
    """|<a|b>|^2 / (<a|a> <b|b>) from samples of both states.

    Args:
        a: one state.
        b: the other, of the same space; gauges may differ.
        n_samples: of each.

    Raises:
        JobError: the spaces differ.
        NumericalError: an amplitude was not finite.
    """
    sides = [Side(x.built.vmc._measurement, x.state) for x in (a, b)]
    return overlaps.fidelity(sides[0], sides[1], n_samples)


def fidelity(loaded: runs.Run, other: Path, n_samples: int) -> dict[str, Any]:
    """The fidelity of two runs as JSON values."""
    second = opened(other)
    found = fidelity_of(State(loaded.built, loaded.state), second, n_samples)
    return {"run": str(other), "mean": found.fidelity, "error": found.error}


def opened(path: Path) -> State:
    """The newest checkpoint of a run, or the one whose file is named.

    Raises:
        CheckpointError: there is no such run or checkpoint.
    """
    if path.suffix != ".h5" or path.name == "run.h5":
        run = runs.load(path)
        return State(run.built, run.state)
    if not path.exists():
        raise CheckpointError(f"there is no checkpoint {path}")
    saved = checkpoint.peek(path)
    built = runs.load(path.parent).built.at(saved.step)
    return State(built, checkpoint.load(path, built.vmc.shapes()))


def zero_variance(
    loaded: runs.Run,
    energy: Mapping[str, Any],
    others: Sequence[Path],
    n_samples: int,
) -> dict[str, Any]:
    """The energy at zero variance from several runs, as JSON values.

    Args:
        loaded: the first run.
        energy: its energy, as in the report.
        others: further runs, or checkpoint files.
        n_samples: of each.

    Raises:
        JobError: another Hamiltonian or sector.
    """
    known: dict[str, Any] = {k: math.nan if v is None else v for k, v in energy.items()}
    points = [Estimate(**known)]
    for path in others:
        other = opened(path)
        _check_same(loaded.built, other.built, path)
        points.append(other.built.vmc.measure(other.state, n_samples))
    found = fit(points)
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in found._asdict().items()
    } | {
        "runs": [str(loaded.folder), *map(str, others)],
        "energies": [p.mean for p in points],
        "variances": [p.variance for p in points],
    }


def _check_same(first: Built, second: Built, path: Path) -> None:
    same_space = first.hamiltonian.space == second.hamiltonian.space
    if not same_space or first.system.operator != second.system.operator:
        raise JobError(
            f"{path} has another Hamiltonian or sector than the first run: only "
            "energies of one spectrum can be extrapolated together"
        )

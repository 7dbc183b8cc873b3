"""What compares several runs: fidelities, and energies at zero variance."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from vmc import checkpoint, distributed, runs
from vmc.assembly import Built
from vmc.base import VMCState
from vmc.errors import CheckpointError, JobError
from vmc.extrapolate import zero_variance as fit
from vmc.measurement import Measured
from vmc.observables_states import Overlap
from vmc.stats import Estimate, Series


class State(NamedTuple):
    """A wave function with parameters and walkers.

    Attributes:
        built: the objects of its job.
        state: its parameters and walkers.
    """

    built: Built
    state: VMCState


class Fidelity(NamedTuple):
    """|<a|b>|^2 / (<a|a> <b|b>) with one standard error."""

    fidelity: float
    error: float


def fidelity_of(a: State, b: State, n_samples: int) -> Fidelity:
    """From samples of both states: E_a[b / a] E_b[a / b].

    Args:
        a: one state.
        b: the other, of the same space; gauges may differ.
        n_samples: of each.

    Raises:
        JobError: the spaces differ.
        NumericalError: an amplitude was not finite.
    """
    spaces = [x.built.hamiltonian.space for x in (a, b)]
    if spaces[0] != spaces[1]:
        labels = [f"{s.n_sites} sites {s.label or 'free'}" for s in spaces]
        raise JobError(
            f"a fidelity needs two states of one space, but these have {labels[0]} and "
            f"{labels[1]}: run both with the same hamiltonian.total_sz"
        )
    scale = _scale(a, b)
    forth, error_forth = _overlap(a, b, scale, n_samples)
    back, error_back = _overlap(b, a, -scale, n_samples)
    # Of Re(x y): the other factor times each component's error, which add up.
    x, y = complex(*forth), complex(*back)
    value = (x * y).real
    variance = (y.real * error_forth[0]) ** 2 + (y.imag * error_forth[1]) ** 2
    variance += (x.real * error_back[0]) ** 2 + (x.imag * error_back[1]) ** 2
    return Fidelity(value, math.sqrt(variance))


def _scale(a: State, b: State) -> float:
    """A typical log |b / a|, so that no ratio overflows."""
    sigma = distributed.to_host(a.state.chains)[:256]
    logs = []
    for one in (a, b):
        params = distributed.to_host(one.state.params)
        logs.append(np.asarray(jax.jit(one.built.wavefunction.log_psi)(params, sigma)))
    difference = (logs[1] - logs[0]).real
    finite = difference[np.isfinite(difference)]
    return float(np.median(finite)) if len(finite) else 0.0


def _signs(built: Built) -> np.ndarray:
    signs = built.hamiltonian.signs
    return np.ones(built.n_sites, int) if signs is None else np.asarray(signs)


def _overlap(a: State, b: State, scale: float, n: int) -> tuple[Series, Series]:
    """E_a[b / a] exp(-scale): (real, imaginary), and their errors."""
    kernel = Overlap(
        distributed.to_host(b.state.params),
        np.asarray(scale),
        _signs(a.built) * _signs(b.built),
        b.built.wavefunction.log_psi,
    )
    measured: Measured = a.built.vmc._measurement.observe(
        a.state, n, {"overlap": kernel}
    )
    return measured.averages.evaluate(["overlap"], lambda parts: parts[0])


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
    return State(built, checkpoint.load(path, built.vmc.init()))


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

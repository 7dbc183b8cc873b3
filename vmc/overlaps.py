"""Overlaps of two states from samples of both."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import numpy as np

from vmc import distributed
from vmc.base import VMCState
from vmc.driver import VMC
from vmc.errors import JobError
from vmc.keys import Purpose, derive
from vmc.measurement import Measured, Measurement, Progress
from vmc.observables_states import Overlap
from vmc.penalties import others, own
from vmc.stats import Series


class Fidelity(NamedTuple):
    """|<a|b>|^2 / (<a|a> <b|b>) with one standard error."""

    fidelity: float
    error: float


class Side(NamedTuple):
    """One of two states, with what draws from it.

    Attributes:
        measurement: of its wave function.
        state: its parameters and walkers.
    """

    measurement: Measurement
    state: VMCState


class Half(NamedTuple):
    """E_a[b / a] exp(-scale): real and imaginary part, and their errors."""

    values: Series
    errors: Series


def fidelity(a: Side, b: Side, n_samples: int) -> Fidelity:
    """From samples of both states: E_a[b / a] E_b[a / b].

    Args:
        a: one state.
        b: the other, of the same space; gauges may differ.
        n_samples: of each.

    Raises:
        JobError: the spaces differ.
        NumericalError: an amplitude was not finite.
    """
    spaces: list[Any] = [x.measurement.hamiltonian.space for x in (a, b)]
    if spaces[0] != spaces[1]:
        labels = [f"{s.n_sites} sites {s.label or 'free'}" for s in spaces]
        raise JobError(
            f"a fidelity needs two states of one space, but these have {labels[0]} and "
            f"{labels[1]}: run both with the same hamiltonian.total_sz"
        )
    scale = typical(a, b)
    forth = _half(a, b, scale, n_samples)
    return combined(forth, _half(b, a, -scale, n_samples))


def combined(forth: Half, back: Half) -> Fidelity:
    """The fidelity from both halves, which have opposite scales."""
    # Of Re(x y): the other factor times each component's error, which add up.
    x, y = complex(*forth.values), complex(*back.values)
    value = (x * y).real
    variance = (y.real * forth.errors[0]) ** 2 + (y.imag * forth.errors[1]) ** 2
    variance += (x.real * back.errors[0]) ** 2 + (x.imag * back.errors[1]) ** 2
    return Fidelity(value, math.sqrt(variance))


def typical(a: Side, b: Side) -> float:
    """A typical log |b / a|, so that no ratio overflows."""
    chains = distributed.to_host(own(a.state.chains))
    # Of a walker with replicas, those are rows as well.
    sigma = chains.reshape(-1, chains.shape[-1])[:256]
    logs = []
    for one in (a, b):
        params = distributed.to_host(one.state.params)
        log_psi = one.measurement.wavefunction.log_psi
        logs.append(np.asarray(jax.jit(log_psi)(params, sigma)))
    difference = (logs[1] - logs[0]).real
    finite = difference[np.isfinite(difference)]
    return float(np.median(finite)) if len(finite) else 0.0


def kernel(a: Side, b: Side, scale: float) -> Overlap:
    """What is averaged over samples of ``a``."""
    return Overlap(
        distributed.to_host(b.state.params),
        np.asarray(scale),
        _signs(a.measurement.hamiltonian) * _signs(b.measurement.hamiltonian),
        b.measurement.wavefunction.log_psi,
    )


def half(measured: Measured, name: str) -> Half:
    """One half from a measurement with a `kernel` of that name."""
    return Half(*measured.averages.evaluate([name], lambda parts: parts[0]))


def _half(
    a: Side, b: Side, scale: float, n: int, progress: Progress | None = None
) -> Half:
    kernels = {"overlap": kernel(a, b, scale)}
    found = a.measurement.observe(a.state, n, kernels, progress=progress)
    return half(found, "overlap")


def _signs(hamiltonian: Any) -> np.ndarray:
    signs = hamiltonian.signs
    n_sites = hamiltonian.space.n_sites
    return np.ones(n_sites, int) if signs is None else np.asarray(signs)


# ---- states that psi is to be orthogonal to -------------------------------------


class Penalties:
    """Overlaps of psi with the states of its penalties, beside a measurement.

    Args:
        vmc: the driver.
        state: its parameters and walkers.
    """

    def __init__(self, vmc: VMC, state: VMCState) -> None:
        self._names = [penalty.name for penalty in vmc.penalties]
        mine = Side(vmc._measurement, state)
        self._mine = mine
        self._others = [
            _other(vmc, state, number) for number in range(len(vmc.penalties))
        ]
        self._scales = [typical(mine, other) for other in self._others]

    def kernels(self) -> dict[str, Overlap]:
        """What is averaged over samples of psi, by name."""
        pairs = zip(self._others, self._scales, strict=True)
        return {
            f"overlaps:{k}": kernel(self._mine, other, scale)
            for k, (other, scale) in enumerate(pairs)
        }

    def table(
        self,
        measured: Measured,
        n_samples: int,
        progress: Progress | None = None,
    ) -> dict[str, list[Any]]:
        """Columns run, mean and error, from a measurement with `kernels`.

        Args:
            measured: what it found.
            n_samples: of each of the other states.
            progress: called with the energy of psi while these are drawn.
        """
        found = []
        for k, other in enumerate(self._others):
            look = None if progress is None else lambda _: progress(measured.energy)
            back = _half(other, self._mine, -self._scales[k], n_samples, look)
            found.append(combined(half(measured, f"overlaps:{k}"), back))
        return {
            "run": list(self._names),
            "mean": [f.fidelity for f in found],
            "error": [f.error if math.isfinite(f.error) else None for f in found],
        }


def _other(vmc: VMC, state: VMCState, number: int) -> Side:
    """The state of a penalty, whose walkers travel with those of psi."""
    penalty = vmc.penalties[number]
    measurement = Measurement(
        penalty.hamiltonian,
        penalty.wavefunction,
        penalty.sampler,
        vmc._mesh,
        vmc.precision,
        vmc.chunk,
    )
    key = derive(state.key, Purpose.PROBE, number)
    chains = others(state.chains)[number]
    return Side(measurement, VMCState(state.step, penalty.params, None, chains, key, 0))

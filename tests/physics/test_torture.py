"""Settings that are far off end in a finite, variational and useful energy."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import numpy as np
import pytest

import vmc
from vmc.errors import NumericalError
from vmc.keys import Purpose, derive, root_key

N_STEPS = 300

#: Of the final energy.  The rarest configurations of these problems weigh 1e-4 and have
#: the largest local energies: with a tenth of this, one run in four sees none of them,
#: and neither its mean nor its error can know.
N_MEASURED = 65536

PROBLEMS: dict[str, dict[str, Any]] = {
    "tfim": {
        "lattice": {"name": "chain", "size": [8]},
        "hamiltonian": {"name": "tfim"},
        "ansatz": {"name": "rbm", "alpha": 2, "symmetry": "none"},
    },
    "heisenberg": {
        "lattice": {"name": "chain", "size": [8]},
        "hamiltonian": {"name": "heisenberg"},
        "ansatz": {"name": "rbm", "alpha": 2, "symmetry": "none"},
    },
    "frustrated": {
        "lattice": {"name": "chain", "size": [8]},
        "hamiltonian": {"name": "j1j2", "J2": 0.4},
        "ansatz": {"name": "rbm", "alpha": 2, "symmetry": "none"},
    },
}

#: The defaults are 0.05, 1e-2 to 1e-4, and 0.05 / sqrt(M / N).
FAULTS: dict[str, dict[str, Any]] = {
    "none": {},
    "rate": {"optimizer": {"learning_rate": 0.5}},
    "shift": {
        "optimizer": {
            "diag_shift": {"schedule": "exponential", "init": 1e-4, "end": 1e-6}
        }
    },
    "scale": {"ansatz": {"init_scale": 0.5}},
    "tiny": {"ansatz": {"init_scale": 5e-4}},
}
FAULTS["all"] = FAULTS["rate"] | FAULTS["scale"]
FAULTS["all"]["optimizer"] = FAULTS["rate"]["optimizer"] | FAULTS["shift"]["optimizer"]


class Outcome(NamedTuple):
    """A run that ended: (E - E0) / |E0|, (E - E0) / error, and rejected steps."""

    relative: float
    errors: float
    rejected: int


def torture(
    problem: str, fault: str, seeds: list[int], n_steps: int = N_STEPS, **keys: Any
) -> list[Outcome | None]:
    """Runs with other starts and random numbers, compiled once; None: given up."""
    sections = {k: dict(v) for k, v in PROBLEMS[problem].items()}
    for name, changes in (FAULTS[fault] | keys).items():
        sections[name] = sections.get(name, {}) | changes
    sections["sampler"] = {"n_chains": 256, "n_samples": 256}
    run = {"n_steps": n_steps, "steps_per_dispatch": 50}
    built = vmc.build(vmc.Job(**sections, run=run))
    exact, driver = built.exact(), built.vmc
    assert exact is not None
    first, found = driver.init(), []
    draw = jax.jit(built.wavefunction.init)
    for seed in seeds:
        key = root_key(seed)
        params = draw(derive(key, Purpose.PARAMS))
        state, rejected = first._replace(key=key, params=params), 0
        state = driver.trusting(state, random=True)
        try:
            while int(state.step) < n_steps:
                state, records = driver.advance(state, n_steps)
                rejected += int(records["rejected"].sum())
            energy = driver.measure(driver.settled(state), N_MEASURED)
        except NumericalError:
            found.append(None)
            continue
        above = energy.mean - exact["energy"]
        error = max(energy.error, 1e-12)
        found.append(Outcome(above / abs(exact["energy"]), above / error, rejected))
    return found


def check(outcomes: list[Outcome | None], limit: float = 1e-2) -> None:
    """Finite, not below the exact energy, and most of them close to it."""
    ended = [x for x in outcomes if x is not None]
    assert len(ended) == len(outcomes), "a run was given up"
    assert all(np.isfinite(x.relative) and x.errors > -4 for x in ended)
    close = sum(x.relative < limit for x in ended)
    assert close > 0.5 * len(ended), ended


@pytest.mark.parametrize("fault", ["rate", "shift", "scale"])
def test_far_off(fault: str) -> None:
    # Half as long, and half as close.
    check(torture("tfim", fault, [1], n_steps=150), 2e-2)


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["rate", "shift", "scale", "tiny", "all"])
@pytest.mark.parametrize("problem", ["tfim", "heisenberg", "frustrated"])
def test_far_off_with_many_seeds(problem: str, fault: str) -> None:
    check(torture(problem, fault, list(range(20))))


@pytest.mark.slow
@pytest.mark.parametrize("problem", ["tfim", "heisenberg"])
def test_defaults_are_not_rejected(problem: str) -> None:
    """Of 20 healthy runs: at most a handful of 6000 steps, while all is noise."""
    found = torture(problem, "none", list(range(20)))
    check(found)
    assert sum(x.rejected for x in found if x) <= 2

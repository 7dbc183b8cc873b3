"""jVMC's side of a comparison, in an environment of its own; see `workloads`."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import jax
import jVMC
import numpy as np
from jvmc_cell import operator, sampler, wave_function
from workloads import WORKLOADS, Workload, best_ms, mean_of, serve

#: Settings that are tried: samples whose local energies are computed at a time (-1: all
#: of them).
BATCHES = (-1, 128)
#: Batches of samples before the energy is estimated, and estimates of all samples.
BURN_IN, ESTIMATES = 20, 8
#: A step takes seconds to minutes: more calls would not make its time any surer.
MOST_REPEATS = 2


def settings(work: Workload) -> list[int]:
    """All that matter for what is timed."""
    return list(BATCHES if "local_energies" in work.parts else BATCHES[:1])


def problem(work: Workload) -> list[tuple[complex, str, tuple[int, ...]]]:
    """The Hamiltonian, in units where the factor of energies is 1."""
    n = work.n_sites
    index = np.arange(n).reshape(work.shape)
    bonds = {
        tuple(sorted((int(i), int(j))))
        for axis in range(len(work.shape))
        for i, j in zip(index.ravel(), np.roll(index, -1, axis).ravel(), strict=True)
    }
    if work.model == "tfim":
        diagonal = [(-1.0 + 0j, "ZZ", bond) for bond in sorted(bonds)]
        return diagonal + [(-1.0 + 0j, "X", (i,)) for i in range(n)]
    strings = []
    for bond, (weight, word) in itertools.product(
        # S.S in the Marshall gauge: the exchange has the other sign.
        sorted(bonds),
        ((0.25, "ZZ"), (-0.5, "+-"), (-0.5, "-+")),
    ):
        strings.append((complex(weight), word, bond))
    return strings


def prepared(work: Workload) -> tuple[Any, Any]:
    """jVMC's state at the common weights, and its sampler."""
    if not work.alpha:
        raise SystemExit("this workload is compared with NetKet only")
    weights = work.weights()
    zero = np.zeros(work.n_sites, weights.dtype)
    params = {"W": weights, "b": np.zeros(weights.shape[1], zero.dtype), "a": zero}
    psi = wave_function(params, None, work.n_sites)
    shape = work.shape if len(work.shape) > 1 else (1, *work.shape)
    return psi, sampler(psi, shape, work.model == "heisenberg", work.n_samples, 0)


def timed(
    work: Workload, psi: Any, chains: Any, hamiltonian: Any, repeats: int
) -> dict[str, float]:
    """Milliseconds of the parts of a workload."""
    right = jVMC.util.minsr.MinSR(chains, pinvTol=1e-6, diagonalShift=1e-2)
    euler = jVMC.util.stepper.Euler(timeStep=1e-4)
    configs, log_psi, _ = chains.sample()

    def sampling() -> None:
        jax.block_until_ready(chains.sample())

    def local() -> None:
        jax.block_until_ready(hamiltonian.get_O_loc(configs, psi, log_psi, 0))

    def step() -> None:
        keys = {"hamiltonian": hamiltonian, "psi": psi, "numSamples": None}
        params, _ = euler.step(0, right, psi.get_parameters(), **keys)
        psi.set_parameters(params)
        jax.block_until_ready(params)

    parts = {"sampling": sampling, "local_energies": local, "step": step}
    count = min(repeats, MOST_REPEATS)
    return {part: best_ms(parts[part], count, 1) for part in work.parts}


def measure(work: Workload, repeats: int, batch: int, energies: int) -> dict[str, Any]:
    """All times at one setting, and the mean of some estimates of the energy."""
    hamiltonian = operator(problem(work))
    hamiltonian.ElocBatchSize = batch
    psi, chains = prepared(work)
    means = []
    for number in range(BURN_IN + energies if energies else 0):
        configs, log_psi, _ = chains.sample()
        if number >= BURN_IN:
            found = hamiltonian.get_O_loc(configs, psi, log_psi, 0)
            means.append(float(np.mean(np.asarray(found).real)))
    return {
        "times": timed(work, psi, chains, hamiltonian, repeats),
        "energy": mean_of(means) if means else None,
        "n_parameters": int(psi.numParameters),
        "n_samples": int(chains.get_last_number_of_samples()),
        "dtype": str(np.dtype(psi.params["W"].dtype)),
        "settings": {"local_energy_batch": batch},
    }


def main(name: str, repeats: int, setting: str) -> None:
    """Measure one setting; see `workloads.serve`."""
    work = WORKLOADS[name]

    def row(one: int, energy: bool) -> dict[str, Any]:
        return measure(work, repeats, one, ESTIMATES if energy else 0)

    versions = {"jvmc": jVMC.__version__, "jax": jax.__version__}
    serve(setting, settings(work), row, versions)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])

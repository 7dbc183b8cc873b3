"""quantax's side of a comparison, in an environment of its own; see `workloads`."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import jax
import jax.numpy as jnp
import numpy as np
import quantax as qtx
from quantax_cell import RBM
from workloads import WORKLOADS, Workload, best_ms, mean_of, serve

#: Settings that are tried: angles of the RBM updated locally or not, and connected
#: configurations at a time in units of the samples.  (Without a limit their number
#: would be compiled for again in nearly every step of a sector.)
LOCAL_UPDATES = (True, False)
CHUNKS = (1, 4)
#: Sweeps before the energy is estimated, and estimates of all samples.
BURN_IN, ESTIMATES = 20, 8


def settings(work: Workload) -> list[tuple[Any, ...]]:
    """All that matter for what is timed: (local updates, chunk)."""
    alone = work.parts == ("sampling",)
    return list(itertools.product(LOCAL_UPDATES, CHUNKS[:1] if alone else CHUNKS))


def define(work: Workload) -> None:
    """Define the number type and the sites, of which a process of quantax has one."""
    half = work.n_sites // 2
    qtx.set_default_dtype(jnp.complex128 if work.dtype == "complex" else jnp.float64)
    sector = (half, half) if work.model == "heisenberg" else None
    qtx.sites.Grid(work.shape, Nparticles=sector)


def problem(work: Workload) -> tuple[Any, float]:
    """Hamiltonian, and the factor of energies."""
    if work.model == "heisenberg":
        # Sums of Pauli matrices: four times those of spins.
        return qtx.operator.Heisenberg(J=1.0, msr=True), 0.25
    return qtx.operator.Ising(h=1.0, J=1.0), 1.0


def prepared(work: Workload, local_updates: bool, chunk: int) -> tuple[Any, Any]:
    """quantax's state at the common weights, and its sampler."""
    if not work.alpha:
        raise SystemExit("this workload is compared with NetKet only")
    weights = work.weights()
    zero = np.zeros(work.n_sites, weights.dtype)
    params = {"W": weights, "b": np.zeros(weights.shape[1], zero.dtype), "a": zero}
    n = work.n_samples
    state = qtx.state.Variational(
        RBM(params), max_parallel=(chunk * n, n, n), use_ref=local_updates
    )
    flip, exchange = qtx.sampler.LocalFlip, qtx.sampler.SpinExchange
    sampler = (flip if work.model == "tfim" else exchange)(
        state,
        n,
        thermal_steps=BURN_IN * work.n_sites,
        sweep_steps=work.n_sites,
    )
    return state, sampler


def timed(
    work: Workload, state: Any, sampler: Any, hamiltonian: Any, repeats: int
) -> dict[str, float]:
    """Milliseconds of the parts of a workload."""
    solver = qtx.optimizer.auto_shift_eig(rshift=0.0, ashift=1e-2)
    optimizer = qtx.optimizer.SR(state, hamiltonian, solver=solver)
    spins = sampler.sweep().spins

    def sampling() -> None:
        jax.block_until_ready(sampler.sweep().spins)

    def local() -> None:
        jax.block_until_ready(hamiltonian.Oloc(state, spins))

    def step() -> None:
        state.update(1e-4 * optimizer.get_step(sampler.sweep()))
        jax.block_until_ready(state.get_params_flatten())

    parts = {
        "sampling": (sampling, repeats),
        "local_energies": (local, repeats),
        "step": (step, max(3, repeats // 2)),
    }
    return {part: best_ms(*parts[part]) for part in work.parts}


def measure(
    work: Workload, repeats: int, local_updates: bool, chunk: int, energies: int
) -> dict[str, Any]:
    """All times at one setting, and the mean of some estimates of the energy."""
    hamiltonian, factor = problem(work)
    state, sampler = prepared(work, local_updates, chunk)
    means = [
        factor * np.mean(np.asarray(hamiltonian.Oloc(state, sampler.sweep())).real)
        for _ in range(energies)
    ]
    return {
        "times": timed(work, state, sampler, hamiltonian, repeats),
        "energy": mean_of(means) if means else None,
        "n_parameters": int(state.nparams),
        "n_samples": int(sampler.nsamples),
        "dtype": str(np.dtype(state.dtype)),
        "settings": {"local_updates": local_updates, "chunk": chunk},
    }


def main(name: str, repeats: int, setting: str) -> None:
    """Measure one setting; see `workloads.serve`."""
    work = WORKLOADS[name]
    define(work)

    def row(one: tuple[Any, ...], energy: bool) -> dict[str, Any]:
        return measure(work, repeats, *one, ESTIMATES if energy else 0)

    versions = {"quantax": qtx.__version__, "jax": jax.__version__}
    serve(setting, settings(work), row, versions)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])

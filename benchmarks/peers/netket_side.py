"""NetKet's side of a comparison, in an environment of its own; see `workloads`."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import jax
import netket as nk
import numpy as np
from workloads import WORKLOADS, Workload, best_ms, report

#: Settings that are tried: chunk of the local energies, SR in sample space computed
#: from a stored Jacobian or on the fly, number of chains.
CHUNKS = (None, 128)
ON_THE_FLY = (False, True)
CHAINS = (1024, 16)


def parts(work: Workload) -> tuple[Any, Any, float]:
    """Hamiltonian, sampler family and the factor of energies."""
    graph = nk.graph.Grid(work.shape, pbc=True)
    if work.model == "tfim":
        space = nk.hilbert.Spin(0.5, work.n_sites)
        return nk.operator.IsingJax(space, graph, h=1.0, J=-1.0), None, 1.0
    space = nk.hilbert.Spin(0.5, work.n_sites, total_sz=0)
    signs = [True] * len(set(graph.edge_colors))
    hamiltonian = nk.operator.Heisenberg(space, graph, J=1.0, sign_rule=signs)
    # Sums of Pauli matrices: four times those of spins.
    return hamiltonian.to_jax_operator(), graph, 0.25


def measure(work: Workload, repeats: int, chunk: Any, fly: bool, chains: int) -> dict:
    """All times at one setting, or the error it met."""
    hamiltonian, graph, factor = parts(work)
    space = hamiltonian.hilbert
    keys = {"n_chains": chains, "sweep_size": work.n_sites}
    if graph is None:
        sampler = nk.sampler.MetropolisLocal(space, **keys)
    else:
        sampler = nk.sampler.MetropolisExchange(space, graph=graph, d_max=1, **keys)
    dtype = complex if work.dtype == "complex" else float
    model = nk.models.RBM(alpha=work.alpha, param_dtype=dtype)
    state = nk.vqs.MCState(
        sampler,
        model,
        n_samples=work.n_samples,
        n_discard_per_chain=0,
        chunk_size=chunk,
        seed=1,
    )
    shapes = state.parameters
    leaf = shapes["Dense"]["kernel"]
    state.parameters = jax.tree.map(
        lambda x: work.weights().astype(x.dtype) if x.ndim == 2 else 0 * x, shapes
    )
    for _ in range(20):
        state.sample()

    def sampling() -> None:
        state.reset()
        jax.block_until_ready(state.sample())

    times = {"sampling": best_ms(sampling, repeats)}
    times["local_energies"] = best_ms(
        lambda: jax.block_until_ready(state.local_estimators(hamiltonian)), repeats
    )
    energies = []
    for _ in range(16):
        state.reset()
        energies.append(factor * state.expect(hamiltonian).mean.real)
    driver = nk.driver.VMC_SR(
        hamiltonian,
        nk.optimizer.Sgd(1e-4),
        variational_state=state,
        diag_shift=1e-2,
        use_ntk=True,
        on_the_fly=fly,
    )

    def step() -> None:
        driver.run(1, out=None, show_progress=False)
        jax.block_until_ready(state.parameters)

    times["step"] = best_ms(step, max(3, repeats // 2))
    return {
        "times": times,
        "energy": {
            "mean": float(np.mean(energies)),
            "error": float(np.std(energies, ddof=1) / 4),
        },
        "n_parameters": int(state.n_parameters),
        "n_samples": int(state.n_samples),
        "dtype": str(leaf.dtype),
        "settings": {"chunk": chunk, "on_the_fly": fly, "n_chains": chains},
    }


def main(name: str, repeats: int, setting: str) -> None:
    """Measure one setting, or all of them."""
    work = WORKLOADS[name]
    every = list(itertools.product(CHUNKS, ON_THE_FLY, CHAINS))
    chosen = every if setting == "all" else [every[int(setting)]]
    rows = []
    for one in chosen:
        try:
            rows.append(measure(work, repeats, *one))
        except Exception as error:  # a setting that the peer cannot do is a row too
            rows.append(
                {"settings": str(one), "error": f"{type(error).__name__}: {error}"}
            )
    versions = {"netket": nk.__version__, "jax": jax.__version__}
    report(rows=rows, versions=versions)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])

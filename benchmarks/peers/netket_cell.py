"""One problem of a benchmark suite in NetKet, in an environment of its own.

``python netket_cell.py CELL.json`` reads a Hamiltonian as Pauli terms (already in a
sign gauge, if there is one), its sector, the translations and a budget of seconds; it
prints one line ``RESULT {json}``.  The wave function is NetKet's RBM, symmetric under
the translations where these are given, optimised by `VMC_SR` with NetKet's customary
settings (Sgd(0.05), diag_shift 0.01); the clock starts with the process.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import cells  # noqa: I001, E402  first: it keeps the time
import jax  # noqa: E402

jax.config.update("jax_enable_x64", True)

import netket as nk  # noqa: E402
import numpy as np  # noqa: E402

LEARNING_RATE, DIAG_SHIFT = 0.05, 0.01


def hamiltonian(cell: dict[str, Any]) -> Any:
    """The operator, in Pauli strings."""
    n = cell["n_sites"]
    space = nk.hilbert.Spin(0.5, n, total_sz=cell["total_sz"])
    strings, weights = ["I" * n], [cell["constant"]]
    for coefficient, ops, sites in cell["terms"]:
        word = ["I"] * n
        for op, site in zip(ops, sites, strict=True):
            word[site] = op
        strings.append("".join(word))
        real = isinstance(coefficient, int | float)
        weights.append(coefficient if real else complex(*coefficient))
    return nk.operator.PauliStrings(space, strings, weights).to_jax_operator()


def variational_state(cell: dict[str, Any], space: Any, samples: int) -> Any:
    """Sampler and RBM."""
    n = cell["n_sites"]
    keys = {"n_chains": min(1024, samples), "sweep_size": n}
    if cell["total_sz"] is None:
        sampler = nk.sampler.MetropolisLocal(space, **keys)
    else:
        graph = nk.graph.Graph(edges=[tuple(e) for e in cell["edges"]], n_nodes=n)
        sampler = nk.sampler.MetropolisExchange(space, graph=graph, d_max=1, **keys)
    dtype = float if cell["real"] else complex
    if cell["translations"]:
        perms = nk.utils.HashableArray(np.array(cell["translations"]))
        model = nk.models.RBMSymm(perms, alpha=cell["alpha"], param_dtype=dtype)
    else:
        model = nk.models.RBM(alpha=cell["alpha"], param_dtype=dtype)
    return nk.vqs.MCState(
        sampler,
        model,
        n_samples=samples,
        n_discard_per_chain=5,
        seed=cell["seed"],
    )


def main(path: str) -> None:
    """Optimise within the budget, measure, print."""
    cell = cells.read(path)
    operator = hamiltonian(cell)
    state = variational_state(cell, operator.hilbert, cell["n_samples"])
    driver = nk.driver.VMC_SR(
        operator,
        nk.optimizer.Sgd(LEARNING_RATE),
        variational_state=state,
        diag_shift=DIAG_SHIFT,
    )

    def point() -> tuple[float, float]:
        driver.run(1, out=None, show_progress=False)
        jax.block_until_ready(state.parameters)
        stats = driver._loss_stats
        return float(np.real(stats.mean)), float(stats.error_of_mean)

    series = cells.optimise(cell, point)
    state.n_samples = cell["measure_samples"]
    began = time.time()
    final = state.expect(operator)
    measured = {
        "mean": float(np.real(final.mean)),
        "error": float(final.error_of_mean),
        "variance": float(final.variance),
        "tau": float(final.tau_corr),
        "r_hat": float(final.R_hat),
        "n_samples": int(state.n_samples),
    }
    versions = {"netket": nk.__version__, "jax": jax.__version__}
    cells.report(series, measured, began, state.n_parameters, versions)


if __name__ == "__main__":
    main(sys.argv[1])

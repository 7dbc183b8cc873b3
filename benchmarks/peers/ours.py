"""Our side of a comparison; see `workloads`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.peers.workloads import (
    CHANNELS,
    KERNEL,
    WORKLOADS,
    Workload,
    best_ms,
    report,
)
from vmc.spread import offer_cores


def job(work: Workload) -> Any:
    """The workload as a job."""
    import vmc

    chain = len(work.shape) == 1
    if work.alpha:
        sizes = {"alpha": work.alpha, "symmetry": "none"}
        ansatz = {"name": "rbm", "dtype": work.dtype} | sizes
    else:
        sizes = {"channels": CHANNELS, "kernel_size": KERNEL, "depth": 1}
        ansatz = {"name": "cnn"} | sizes
    return vmc.Job(
        lattice={"name": "chain" if chain else "square", "size": list(work.shape)},
        hamiltonian={"name": work.model},
        ansatz=ansatz,
        sampler={"n_chains": work.n_samples, "n_samples": work.n_samples},
        optimizer={"name": "sr", "learning_rate": 1e-4},
        run={"n_steps": 100000},
    )


def parameters(work: Workload, shapes: dict[str, Any]) -> dict[str, Any]:
    """The common ones of a workload, as our wave function takes them."""
    if not work.alpha:
        theta = np.concatenate([x.ravel() for x in work.resnet().values()])
        return {"theta": jnp.asarray(theta)}
    params = {name: jnp.zeros(x.shape, x.dtype) for name, x in shapes.items()}
    return params | {"W": jnp.asarray(work.weights(), shapes["W"].dtype)}


def main(name: str, repeats: int) -> None:
    """Measure one workload."""
    jax.config.update("jax_enable_x64", True)
    offer_cores()  # as the command line does
    import vmc
    from vmc import distributed, provenance
    from vmc.distributed import BY_WALKER, REPLICATED
    from vmc.estimators import local_energies

    work = WORKLOADS[name]
    built = vmc.build(job(work))
    run, mesh = built.vmc, built.vmc._mesh
    shapes = jax.eval_shape(run.wavefunction.init, jax.random.key(0))
    state = run.init(parameters(work, shapes))

    sample = distributed.compiled(
        run.sampler.sample,
        mesh,
        (REPLICATED, REPLICATED, BY_WALKER),
        (BY_WALKER, jax.sharding.PartitionSpec(None, "w"), REPLICATED),
    )
    args = (state.key, state.params, state.chains)
    _, sigma, _ = sample(*args)
    energies = distributed.compiled(
        lambda h, p, s: local_energies(run.wavefunction, h, p, s, run.chunk),
        mesh,
        (REPLICATED, REPLICATED, BY_WALKER),
        BY_WALKER,
    )
    eloc_args = (run._placed_hamiltonian, state.params, sigma[0])
    holder = [state]

    def steps() -> None:
        holder[0], _ = run.advance(holder[0], 10)

    timed = {
        "sampling": (lambda: jax.block_until_ready(sample(*args)), repeats, 2, 1),
        "local_energies": (
            lambda: jax.block_until_ready(energies(*eloc_args)),
            *(repeats, 2, 1),
        ),
        "step": (steps, max(2, repeats // 4), 1, 10),
    }
    times = {}
    for part in work.parts:
        function, count, warm, steps_of_a_call = timed[part]
        times[part] = best_ms(function, count, warm) / steps_of_a_call
    estimate = run.measure(state, 16 * work.n_samples)
    report(
        times=times,
        energy={"mean": estimate.mean, "error": estimate.error},
        n_parameters=run.n_parameters,
        n_samples=run.sampler.n_chains * run.sampler.n_draws,
        dtype=str(np.dtype(jax.tree.leaves(shapes)[0].dtype)),
        settings={"chunk": run.chunk, "optimizer": "sr"},
        versions={"jax": jax.__version__, "nqs-vmc": provenance.version()},
    )


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))

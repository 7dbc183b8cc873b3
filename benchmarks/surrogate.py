"""Delayed acceptance against plain Metropolis: wall time per independent sample.

``python benchmarks/surrogate.py --json`` trains a small network on each problem, then
draws from it with the plain sampler and with a fitted Jastrow factor that proposes, and
prints for both: seconds of a draw of all walkers, integrated autocorrelation time (in
draws) of the local energy and of the squared order parameter, and the seconds per
independent sample of either, whose ratio is above 1 where the surrogate wins.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import jax
import numpy as np

#: Moves of the surrogate in a proposal, and proposals between draws.
MOVES = ((8, 4), (16, 4), (32, 4), (64, 2), (128, 1))
#: Draws whose correlations are looked at.
DRAWS = 160


def jobs() -> dict[str, Any]:
    """The problems, with networks that have no incremental evaluation."""
    chain = {
        "lattice": {"name": "chain", "size": [32]},
        "hamiltonian": {"name": "heisenberg"},
        "ansatz": {"name": "cnn", "channels": 8, "depth": 1},
        "optimizer": {"name": "sr"},
    }
    square = {
        "lattice": {"name": "square", "size": [6, 6]},
        "hamiltonian": {"name": "j1j2", "J1": 1.0, "J2": 0.5},
        "ansatz": {
            "name": "cnn",
            "channels": 8,
            "depth": 1,
            "symmetry": {"momentum": [0, 0]},
        },
        "optimizer": {"name": "sr"},
        "precision": "mixed",
    }
    return {"heisenberg_chain_32_cnn": chain, "j1j2_square_6x6_cnn": square}


def built(job: dict[str, Any], **sampler: Any) -> Any:
    """The objects of a job with these keys of [sampler]."""
    import vmc

    keys = {"n_chains": 256, "n_samples": 256} | sampler
    return vmc.build(vmc.Job(**job, sampler=keys, run={"n_steps": 1000}))


def correlations(x: np.ndarray) -> float:
    """Integrated autocorrelation time of draws (T, B), in draws."""
    from vmc.stats import integrated_time

    return float(integrated_time(x - x.mean()))


def look(parts: Any, state: Any, draws: int) -> dict[str, Any]:
    """Time and correlations of one sampler at the parameters of a state."""
    from vmc import distributed
    from vmc.distributed import BY_WALKER, REPLICATED
    from vmc.estimators import local_energies

    run = parts.vmc
    sampler = run.sampler.with_draws(1)
    by_draw = jax.sharding.PartitionSpec(None, "w")
    sample = distributed.compiled(
        sampler.sample,
        run._mesh,
        (REPLICATED, REPLICATED, BY_WALKER),
        (BY_WALKER, by_draw, REPLICATED),
    )
    energies = distributed.compiled(
        lambda h, p, s: local_energies(run.wavefunction, h, p, s, run.chunk),
        run._mesh,
        (REPLICATED, REPLICATED, BY_WALKER),
        BY_WALKER,
    )
    chains = run.init(state.params).chains
    key, seconds, eloc, order, accepted = state.key, [], [], [], []
    x, y = np.indices(parts.job.lattice.size).reshape(-1, parts.n_sites)[[0, -1]]
    signs = (-1.0) ** (x + y if len(parts.job.lattice.size) > 1 else x)
    for t in range(draws + 20):
        key = jax.random.fold_in(key, t)
        began = time.perf_counter()
        chains, sigma, info = jax.block_until_ready(sample(key, state.params, chains))
        seconds.append(time.perf_counter() - began)
        if t < 20:
            continue
        rows = sigma[0]
        found = energies(run._placed_hamiltonian, state.params, rows)
        eloc.append(np.real(np.asarray(found)))
        order.append((np.asarray(rows) @ signs) ** 2)
        accepted.append(float(info.acceptance))
    draw = float(np.median(seconds[20:]))
    out: dict[str, Any] = {
        "seconds_per_draw": draw,
        "acceptance": float(np.mean(accepted)),
    }
    for name, rows in ("energy", eloc), ("order", order):
        tau = correlations(np.array(rows))
        n = parts.sampler.n_chains
        out[name] = {
            "mean": float(np.mean(rows)),
            "tau": tau,
            "seconds_per_sample": draw * max(tau, 1.0) / n,
        }
    return out


def compare(name: str, job: dict[str, Any], steps: int, draws: int) -> dict[str, Any]:
    """All samplers at one trained state."""
    plain = built(job)
    state = plain.vmc.init()
    for _ in range(steps // 10):
        state, records = plain.vmc.advance(state, 10)
        print(name, "energy", records["energy"][-1], file=sys.stderr, flush=True)
    rows = {"plain": look(plain, state, draws)}
    for n_moves, n_sweeps in MOVES:
        parts = built(job, surrogate_moves=n_moves, n_sweeps=n_sweeps)
        label = f"{n_sweeps} x {n_moves} moves"
        rows[label] = look(parts, state, draws)
        print(name, label, rows[label], file=sys.stderr, flush=True)
    times = {
        what: {n: row[what]["seconds_per_sample"] for n, row in rows.items()}
        for what in ("energy", "order")
    }
    return {
        "rows": rows,
        "ratio": {w: x["plain"] / min(x.values()) for w, x in times.items()},
        "steps": steps,
    }


def main() -> None:
    """Read the arguments and print the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=150, help="of the training")
    parser.add_argument("--draws", type=int, default=DRAWS)
    parser.add_argument("--only", choices=sorted(jobs()))
    parser.add_argument("--json", action="store_true")
    keys = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    chosen = [keys.only] if keys.only else sorted(jobs())
    found = {n: compare(n, jobs()[n], keys.steps, keys.draws) for n in chosen}
    found |= {"jax": jax.__version__}
    print(json.dumps(found, indent=2) if keys.json else found)


if __name__ == "__main__":
    main()

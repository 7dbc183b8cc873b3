"""Cost of a Metropolis sweep of an RBM against the number of sites, at fixed alpha.

``python benchmarks/sweep_cost.py`` times one sweep (N proposals per walker) for N from
32 to 512 and prints one JSON object.  A proposal costs O(alpha N), so a sweep N^2; the
exponent is the slope of a straight line through all points of log time against log N,
and "last" that between the two largest sizes.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

SIZES = (32, 64, 128, 256, 512)
#: Hamiltonian (flips or exchanges) and dtype of the weights.
KINDS = (("tfim", "real"), ("tfim", "complex"), ("heisenberg", "real"))


def sweep_ms(model: str, dtype: str, n: int, alpha: int, walkers: int) -> float:
    """Smallest wall time of a sweep of all walkers, in milliseconds."""
    import jax

    import vmc
    from vmc import distributed
    from vmc.distributed import BY_WALKER, REPLICATED

    built = vmc.build(
        vmc.Job(
            lattice={"name": "chain", "size": [n]},
            hamiltonian={"name": model},
            ansatz={"name": "rbm", "alpha": alpha, "dtype": dtype, "symmetry": "none"},
            sampler={"n_chains": walkers, "n_samples": walkers},
        )
    ).vmc
    sample = distributed.compiled(
        built.sampler.sample,
        built._mesh,
        (REPLICATED, REPLICATED, BY_WALKER),
        (BY_WALKER, jax.sharding.PartitionSpec(None, "w"), REPLICATED),
    )
    state = built.init()
    args: tuple[Any, ...] = (state.key, state.params, state.chains)
    times = []
    # Small sizes take a millisecond: more of them.
    for _ in range(3 + max(5, 2000 // n)):
        began = time.perf_counter()
        jax.block_until_ready(sample(*args))
        times.append(time.perf_counter() - began)
    return 1e3 * min(times[3:])


def main() -> None:
    """Print the times and the exponents."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--alpha", type=int, default=2)
    parser.add_argument("--walkers", type=int, default=512)
    keys = parser.parse_args()

    import jax

    jax.config.update("jax_enable_x64", True)
    from vmc.spread import offer_cores

    offer_cores()  # as the command line does
    rows = {}
    for model, dtype in KINDS:
        times = [sweep_ms(model, dtype, n, keys.alpha, keys.walkers) for n in SIZES]
        logs = np.log(SIZES), np.log(times)
        rows[f"{model}, {dtype}"] = {
            "milliseconds": dict(zip(map(str, SIZES), times, strict=True)),
            "exponent": float(np.polyfit(*logs, 1)[0]),
            "last": float(np.diff(logs[1])[-1] / np.diff(logs[0])[-1]),
        }
    machine = {"cpus": os.cpu_count(), "machine": platform.machine()}
    settings = {"alpha": keys.alpha, "walkers": keys.walkers}
    versions = {"jax": jax.__version__}
    out = {"workload": "W8", **settings, "rows": rows}
    print(json.dumps(out | {"versions": versions, "machine": machine}, indent=2))


if __name__ == "__main__":
    main()

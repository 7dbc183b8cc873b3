"""Scaling of the engine over ranks on this machine, and what each step sends.

``python benchmarks/scaling.py`` starts itself under ``mpirun`` with 1 and 2 ranks, each
pinned to one core, several times in turn, and prints one JSON object:

- weak: sampling and local energies at N = 64, walkers per rank fixed;
- strong: the whole step of W2 (Heisenberg 10 x 10, complex RBM, alpha = 2, 1024
  samples), the total fixed, ten steps in a dispatch as in any run;
- the bytes that every collective of the compiled step carries, per device.

An efficiency is t(1 rank) / t(2 ranks), of the smallest times, for weak scaling, and
half of that ratio for strong scaling.  Two cores that work at once may be slower than
one: the same work is also timed in two processes beside one another that know nothing
of each other, and "weak_efficiency_of_engine" takes their time for t(1 rank).  A rank
on a busy core waits for nobody: run it on a quiet machine.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
#: Bytes of one element, by XLA's names.
BYTES = {"f64": 8, "f32": 4, "c128": 16, "c64": 8, "s32": 4, "u32": 4, "s64": 8}
BYTES |= {"u64": 8, "s8": 1, "u8": 1, "pred": 1}
COLLECTIVES = ("all-reduce", "all-gather", "all-to-all", "reduce-scatter")


def job(which: str, n_samples: int) -> Any:
    """The job of a workload."""
    import vmc

    two = which == "W2"
    return vmc.Job(
        lattice={"name": "square", "size": [10, 10]}
        if two
        else {"name": "chain", "size": [64]},
        hamiltonian={"name": "heisenberg"} if two else {"name": "tfim", "h": 1.0},
        ansatz={
            "name": "rbm",
            "alpha": 2 if two else 4,
            "dtype": "complex" if two else "real",
            "symmetry": "none",
        },
        sampler={"n_chains": n_samples, "n_samples": n_samples},
        optimizer={"name": "sr"},
        run={"n_steps": 1000},
    )


def best(function: Callable[[], Any], repeats: int) -> float:
    """Smallest wall time of a call in milliseconds, each on its slowest rank.

    The ranks begin together, and end when each has its results, as they do in a run.
    """
    import jax
    from jax.experimental import multihost_utils

    times = []
    for _ in range(repeats):
        multihost_utils.sync_global_devices("start")
        began = time.perf_counter()
        jax.block_until_ready(function())
        times.append(1e3 * (time.perf_counter() - began))
    everywhere = multihost_utils.process_allgather(np.asarray(times))
    return float(everywhere.reshape(-1, repeats).max(axis=0)[1:].min())


def traffic(text: str) -> dict[str, int]:
    """Bytes of the results of the collectives in a compiled program, by kind.

    "count" is their number: each costs a latency besides.  Branches of conditionals do
    not count: they gather a matrix whose Cholesky decomposition has failed.
    """
    branches = set(re.findall(r"(?:true|false)_computation=%([\w.-]+)", text))
    for names in re.findall(r"branch_computations={([^}]*)}", text):
        branches |= set(re.findall(r"%([\w.-]+)", names))
    bodies = re.split(r"\n(?=(?:ENTRY )?%[\w.-]+ \()", text)
    bodies = [x for x in bodies if x.split(" ")[0].lstrip("%") not in branches]
    text = "\n".join(bodies)
    found = dict.fromkeys((*COLLECTIVES, "count"), 0)
    pattern = re.compile(
        r"= \(?([^=]*?)\)? (" + "|".join(COLLECTIVES) + r")(-start)?\("
    )
    for shapes, kind, _ in pattern.findall(text):
        found["count"] += 1
        for dtype, extent in re.findall(r"(\w+)\[([\d,]*)\]", shapes):
            size = BYTES.get(dtype, 0)
            for n in filter(None, extent.split(",")):
                size *= int(n)
            found[kind] += size
    return {kind: size for kind, size in found.items() if size}


def worker(n_walkers: int, *, whole: bool) -> None:
    """Time one layout; the first rank prints a JSON object.

    Args:
        n_walkers: per rank, of weak scaling.
        whole: whether strong scaling is measured as well.
    """
    import jax

    jax.config.update("jax_enable_x64", True)
    import vmc

    layout = vmc.start_cluster()
    n = layout.n_devices
    weak = vmc.build(job("W1", n_walkers * n)).vmc
    state = weak.init()
    path = np.asarray([1, 1, 0], np.int32)

    def draws() -> Any:
        return weak._measurement.walk(state.params, state.chains, state.key, path, 16)

    result: dict[str, Any] = {"devices": n, "weak_ms": best(draws, 12) / 16}
    if whole:
        result |= strong()
    if jax.process_index() == 0:
        print("RESULT " + json.dumps(result), flush=True)
    jax.distributed.shutdown() if jax.process_count() > 1 else None


def strong() -> dict[str, Any]:
    """Milliseconds of a whole step, and what its collectives carry."""
    import vmc

    run = vmc.build(job("W2", 1024)).vmc
    holder, n_steps = [run.init()], run.steps_per_dispatch

    def steps() -> Any:
        holder[0], _ = run.advance(holder[0], n_steps)
        return holder[0].params

    found = best(steps, 20) / n_steps
    text = run.lowered(holder[0]).compile().as_text()
    return {"strong_ms": found, "bytes_per_step": traffic(text)}


def environment() -> dict[str, str]:
    """Of the workers."""
    return os.environ | {
        "OPENBLAS_NUM_THREADS": "1",
        "JAX_PLATFORMS": "cpu",
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        "PYTHONPATH": str(ROOT),
    }


def start(n: int, n_walkers: int) -> dict[str, Any]:
    """Run the worker on n ranks, one core each."""
    mpirun = Path(sys.executable).with_name("mpirun")
    command = [
        str(mpirun if mpirun.exists() else "mpirun"),
        *("--bind-to", "core", "-n", str(n)),
        *(sys.executable, __file__, "--worker", "--walkers", str(n_walkers)),
    ]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True)
    lines = [x for x in done.stdout.splitlines() if x.startswith("RESULT ")]
    if not lines:
        raise SystemExit(f"no result from {n} ranks:\n{done.stderr[-3000:]}")
    return json.loads(lines[0].removeprefix("RESULT "))


def beside(n_walkers: int) -> float:
    """Weak milliseconds of two single processes at once, the slower one's."""
    command = [sys.executable, __file__, "--worker", "--walkers", str(n_walkers)]
    workers = [
        subprocess.Popen(
            [*command, "--core", str(core)],
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for core in sorted(os.sched_getaffinity(0))[:2]
    ]
    lines = [w.communicate()[0].splitlines()[-1] for w in workers]
    return max(json.loads(x.removeprefix("RESULT "))["weak_ms"] for x in lines)


def main() -> None:
    """Alternate between the layouts and print efficiencies."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worker", action="store_true")
    parser.add_argument("--walkers", type=int, default=512, help="per rank, weak")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--core", type=int, help="of a worker without mpirun")
    keys = parser.parse_args()
    if keys.core is not None:
        os.sched_setaffinity(0, {keys.core})
    if keys.worker:
        worker(keys.walkers, whole=keys.core is None)
        return
    rows: dict[int, list[dict[str, Any]]] = {1: [], 2: []}
    control = []
    for _ in range(keys.repeats):
        control.append(beside(keys.walkers))
        for n, found in rows.items():
            found.append(start(n, keys.walkers))
    times = {
        name: {n: min(r[name] for r in found) for n, found in rows.items()}
        for name in ("weak_ms", "strong_ms")
    }
    weak, strong = times["weak_ms"], times["strong_ms"]
    summary = {
        "weak_ms": weak,
        "weak_efficiency": weak[1] / weak[2],
        "two_processes_beside_ms": min(control),
        "weak_efficiency_of_engine": min(control) / weak[2],
        "strong_ms": strong,
        "strong_efficiency": strong[1] / strong[2] / 2,
        "bytes_per_step": {n: found[0]["bytes_per_step"] for n, found in rows.items()},
        "rows": rows,
    }
    print(json.dumps(summary, indent=2))


if __name__ == "__main__":
    main()

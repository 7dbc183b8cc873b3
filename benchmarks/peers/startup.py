"""From the start of Python to the first finished step, ours and a peer's; and memory.

``python benchmarks/peers/startup.py --peer-python PATH --json`` runs both sides of W1
in turn, each in new processes: with an empty cache of compiled programs (cold) and with
the one that the run before has left (warm).  Both sides may use JAX's own cache, ours
as the command line sets it up.  A ratio above 1 means that ours starts sooner, or needs
less memory.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
STATES = ("cold", "warm")


def ours() -> None:
    """W1 as a job, until its first step is done."""
    sys.path.insert(0, str(HERE.parents[1]))
    from vmc.cli.environment import collect_rarely, set_threads, start_jax

    collect_rarely()
    set_threads(None, None)
    start_jax()
    import vmc
    from benchmarks.peers.ours import job
    from benchmarks.peers.workloads import WORKLOADS

    built = vmc.build(job(WORKLOADS["W1"]))
    built.vmc.advance(built.first_state(), 1)  # as ``vmc run`` begins


def netket() -> None:
    """The same with NetKet's objects."""
    sys.path.insert(0, str(HERE))
    import netket as nk
    from workloads import WORKLOADS

    work = WORKLOADS["W1"]
    graph = nk.graph.Grid(work.shape, pbc=True)
    space = nk.hilbert.Spin(0.5, work.n_sites)
    hamiltonian = nk.operator.IsingJax(space, graph, h=1.0, J=-1.0)
    sampler = nk.sampler.MetropolisLocal(space, n_chains=work.n_samples)
    model = nk.models.RBM(alpha=work.alpha, param_dtype=float)
    state = nk.vqs.MCState(
        sampler, model, n_samples=work.n_samples, n_discard_per_chain=0, seed=1
    )
    driver = nk.driver.VMC_SR(
        hamiltonian,
        nk.optimizer.Sgd(1e-2),
        variational_state=state,
        diag_shift=1e-2,
        use_ntk=True,
    )
    driver.run(1, out=None, show_progress=False)


SIDES = {"ours": ours, "netket": netket}


def started(python: str, side: str, cache: Path) -> dict[str, float]:
    """Seconds of a process, and its largest memory in MiB."""
    env = os.environ | {"JAX_PLATFORMS": "cpu", "XDG_CACHE_HOME": str(cache)}
    env.pop("PYTHONPATH", None)
    env.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed program has its bytecode
    if side != "ours":
        env |= {
            "JAX_COMPILATION_CACHE_DIR": str(cache),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        }
    began = time.perf_counter()
    done = subprocess.run(
        [python, __file__, "--side", side], env=env, capture_output=True, text=True
    )
    seconds = time.perf_counter() - began
    if done.returncode:
        raise SystemExit(f"{side} failed:\n{done.stderr[-3000:]}")
    return {"seconds": seconds, "mib": float(done.stdout.split()[-1])}


def compare(peer_python: str, repeats: int) -> dict[str, Any]:
    """All runs, alternating."""
    pythons = {"ours": sys.executable, "netket": peer_python}
    rows: dict[str, dict[str, list[dict[str, float]]]] = {
        side: {state: [] for state in STATES} for side in pythons
    }
    for repeat in range(repeats + 1):
        for side, python in pythons.items():
            with tempfile.TemporaryDirectory() as cache:
                for state in STATES:
                    row = started(python, side, Path(cache))
                    if repeat:  # the first one writes the bytecode of its modules
                        rows[side][state].append(row)
    middle = {
        side: {
            state: statistics.median(x["seconds"] for x in found)
            for state, found in by_state.items()
        }
        for side, by_state in rows.items()
    }
    memory = {
        side: max(x["mib"] for found in by_state.values() for x in found)
        for side, by_state in rows.items()
    }
    ratio = {state: middle["netket"][state] / middle["ours"][state] for state in STATES}
    return {
        "workload": "W7",
        "peer": "netket",
        "seconds": middle,
        "ratio": ratio,
        "peak_mib": memory,
        "memory_ratio": memory["netket"] / memory["ours"],
        "rows": rows,
    }


def main() -> None:
    """Read the arguments and print the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer-python")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--side", choices=sorted(SIDES))
    parser.add_argument("--json", action="store_true")
    keys = parser.parse_args()
    if keys.side:
        SIDES[keys.side]()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(peak, flush=True)
        # What an interpreter does at its end is not part of a start.
        os._exit(0)
    if not keys.peer_python:
        parser.error("--peer-python is missing: the Python of the peer's environment")
    result = compare(keys.peer_python, keys.repeats)
    if keys.json:
        print(json.dumps(result, indent=2))
        return
    for state in STATES:
        of = {side: result["seconds"][side][state] for side in ("ours", "netket")}
        print(f"{state}: {of['ours']:.1f} s, netket {of['netket']:.1f} s")
    print("MiB:", {side: round(x) for side, x in result["peak_mib"].items()})


if __name__ == "__main__":
    main()

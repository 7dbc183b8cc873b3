"""One workload, ours and a peer's, back to back: times and their ratios.

``python benchmarks/peers/compare.py W1 --peer netket --peer-python PATH --json`` runs
both sides in turn, each in its own process and environment, and prints one JSON object.
Every setting of the peer is measured once, in a process of its own with a time limit;
the fastest one is then repeated against ours.  A ratio above 1: ours is faster.
Both sides start from the same weights; different numbers of parameters or samples,
another dtype, or energies that disagree are errors.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from workloads import WORKLOADS

HERE = Path(__file__).resolve().parent
SIDES = {
    "netket": "netket_side.py",
    "quantax": "quantax_side.py",
    "jvmc": "jvmc_side.py",
}
#: Standard errors that the two energies may differ by.
AGREE = 5.0


def worker(
    python: str, script: str, *arguments: str, limit: float | None = None
) -> dict[str, Any]:
    """The line ``RESULT {json}`` of a worker.

    Raises:
        SystemExit: it printed none.
        subprocess.TimeoutExpired: it took longer than the limit, in seconds.
    """
    env = os.environ | {"OPENBLAS_NUM_THREADS": "1", "JAX_PLATFORMS": "cpu"}
    env.pop("PYTHONPATH", None)
    command = [python, str(HERE / script), *arguments]
    done = subprocess.run(
        command, env=env, capture_output=True, text=True, timeout=limit
    )
    lines = [x for x in done.stdout.splitlines() if x.startswith("RESULT ")]
    if not lines:
        raise SystemExit(f"{script} gave no result:\n{done.stderr[-3000:]}")
    return json.loads(lines[-1].removeprefix("RESULT "))


def check(ours: dict[str, Any], peer: dict[str, Any]) -> None:
    """Refuse to compare what is not the same.

    Raises:
        SystemExit: says what differs.
    """
    for key in ("n_parameters", "n_samples", "dtype"):
        if ours[key] != peer[key]:
            raise SystemExit(f"{key} differs: ours {ours[key]}, peer {peer[key]}")
    a, b = ours["energy"], peer["energy"]
    error = math.hypot(a["error"], b["error"])
    if abs(a["mean"] - b["mean"]) > AGREE * error:
        raise SystemExit(f"energies disagree: ours {a}, peer {b}")


def sweep(name: str, keys: argparse.Namespace) -> tuple[list[Any], dict[str, str]]:
    """Rows of all settings of the peer, or of the given one, and its versions.

    A setting that takes longer than the limit is a row without times.
    """
    rows: list[Any] = []
    versions: dict[str, str] = {}
    number, stop = keys.setting or 0, None
    while stop is None or number < stop:
        try:
            found = worker(
                *(keys.peer_python, SIDES[keys.peer], name, "3", f"{number}-quick"),
                limit=keys.limit,
            )
        except subprocess.TimeoutExpired:
            rows.append({"error": f"setting {number} took over {keys.limit:g} s"})
            if stop is None:
                raise SystemExit(f"{rows[0]['error']}: raise --limit") from None
        else:
            rows += found["rows"]
            versions = found["versions"]
            stop = found["n_settings"] if keys.setting is None else number + 1
        number += 1
    return rows, versions


def compare(name: str, keys: argparse.Namespace) -> dict[str, Any]:
    """All runs of both sides of a workload."""
    script, parts = SIDES[keys.peer], WORKLOADS[name].parts
    rows, versions = sweep(name, keys)
    what = parts[-1]
    good = [(r["times"][what], n) for n, r in enumerate(rows) if "times" in r]
    if not good:
        raise SystemExit(f"the peer finished no setting: {rows}")
    best = min(good)[1] if keys.setting is None else keys.setting
    pairs = []
    for _ in range(keys.repeats):
        ours = worker(sys.executable, "ours.py", name, "12")
        found = worker(keys.peer_python, script, name, "6", str(best))
        (peer,) = found["rows"]
        check(ours, peer)
        pairs.append((ours, peer))
    ratios = {
        part: [peer["times"][part] / ours["times"][part] for ours, peer in pairs]
        for part in parts
    }
    table = {
        part: {"min": min(x), "median": statistics.median(x), "max": max(x)}
        for part, x in ratios.items()
    }
    return {
        "workload": name,
        "peer": keys.peer,
        "ratio": table[what],
        "ratio_parts": table,
        "ours": [ours for ours, _ in pairs],
        "peer_runs": [peer for _, peer in pairs],
        "peer_settings": rows,
        "versions": {"ours": pairs[0][0]["versions"], "peer": versions},
        "machine": {"cpus": os.cpu_count(), "machine": platform.machine()},
    }


def main() -> None:
    """Read the arguments and print the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    families = {name.partition("-")[0] for name in WORKLOADS}
    parser.add_argument(
        "workload", choices=sorted({*WORKLOADS, *families}), help="W4: all W4-..."
    )
    parser.add_argument("--peer", choices=sorted(SIDES), default="netket")
    parser.add_argument("--peer-python", required=True)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--setting", type=int, help="row of peer_settings to use: without a sweep"
    )
    parser.add_argument(
        "--limit", type=float, default=300.0, help="seconds for a setting of the sweep"
    )
    parser.add_argument("--json", action="store_true")
    keys = parser.parse_args()
    names = [n for n in WORKLOADS if f"{n}-".startswith(f"{keys.workload}-")]
    results = [compare(name, keys) for name in names]
    if keys.json:
        print(json.dumps(results if len(results) > 1 else results[0], indent=2))
        return
    for result in results:
        print(result["workload"])
        for part, ratio in result["ratio_parts"].items():
            low, mid, high = (f"{ratio[k]:.1f}" for k in ("min", "median", "max"))
            print(f"{part:15s} {mid} x  ({low} to {high})")


if __name__ == "__main__":
    main()

"""How accurate are jobs that name little more than a problem, and how fast?

Runs `vmc run` as a user would, one process a job, several seeds, and prints a
Markdown table of the median and worst relative error of the final measurement and
of the wall time of the whole process, compilation included.

    python benchmarks/first_light.py --seeds 3 --json results.json
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

#: Exact energies that a job does not find for itself: psi is confined to a symmetry
#: sector, so that the report quotes none.
REFERENCES = {"j1j2-4x4": -8.45792335}

#: name -> (job, limit on the relative error, limit on seconds)
CASES: dict[str, tuple[str, float, float]] = {
    "tfim-64": (
        """
[lattice]
name = "chain"
size = [64]
[hamiltonian]
name = "tfim"
[ansatz]
name = "rbm"
""",
        1e-4,
        60,
    ),
    "heisenberg-40": (
        """
[lattice]
name = "chain"
size = [40]
[hamiltonian]
name = "heisenberg"
[ansatz]
name = "rbm"
""",
        1e-4,
        60,
    ),
    "tfim-64-plain": (
        """
[lattice]
name = "chain"
size = [64]
[hamiltonian]
name = "tfim"
[ansatz]
name = "rbm"
symmetry = "none"
""",
        1e-3,
        120,
    ),
    "heisenberg-40-plain": (
        """
[lattice]
name = "chain"
size = [40]
[hamiltonian]
name = "heisenberg"
[ansatz]
name = "rbm"
symmetry = "none"
""",
        1e-3,
        120,
    ),
    "j1j2-4x4": (
        """
[lattice]
name = "square"
size = [4, 4]
[hamiltonian]
name = "j1j2"
J2 = 0.5
marshall = true
[ansatz]
name = "rbm"
alpha = 8
dtype = "complex"
symmetry = { momentum = [0, 0], spin_flip = 1 }
""",
        1e-2,
        120,
    ),
    "custom-12": (
        f"""
[hamiltonian]
name = "{ROOT}/examples/custom_hamiltonian.py:build"
[ansatz]
name = "rbm"
""",
        5e-3,
        60,
    ),
}


def run(job: str, seed: int, extra: list[str]) -> dict:
    """One job in a folder of its own; the JSON that the command line prints."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "job.toml"
        path.write_text(f"seed = {seed}\n{job}")
        command = [sys.executable, "-m", "vmc", "run", str(path), "--json"]
        for setting in extra:
            command += ["--set", setting]
        started = time.perf_counter()
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        wall = time.perf_counter() - started
    if done.returncode:
        return {"failed": done.returncode, "message": done.stderr[-400:], "wall": wall}
    return {**json.loads(done.stdout), "wall": wall}


def row(name: str, results: list[dict]) -> str:
    """A line of the table; runs that failed count as an infinite error."""
    _, limit, seconds = CASES[name]
    walls = [r["wall"] for r in results]
    errors, below = [], 0
    for r in results:
        known = r.get("exact") or {}
        exact = known.get("energy", REFERENCES.get(name))
        if "energy" not in r or exact is None:
            errors.append(float("inf"))
            continue
        mean, error = r["energy"]["mean"], r["energy"]["error"]
        errors.append(abs(mean / exact - 1))
        below += mean < exact - 4 * error
    passed = statistics.median(errors) <= limit and max(walls) <= seconds and not below
    return (
        f"| {name} | {statistics.median(errors):.1e} | {max(errors):.1e} | "
        f"{limit:.0e} | {statistics.median(walls):.0f} | {seconds:.0f} | {below} | "
        f"{'pass' if passed else 'FAIL'} |"
    )


def main() -> None:
    """Parse arguments, run, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", help=f"of {', '.join(CASES)}; default all")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--set", action="append", default=[], dest="extra")
    parser.add_argument("--json", type=Path, help="keep every run's numbers here")
    options = parser.parse_args()
    print("| case | median error | worst | limit | wall s | limit | below exact | |")
    print("|---|---|---|---|---|---|---|---|")
    kept = {}
    for name in options.cases or CASES:
        seeds = range(1, options.seeds + 1)
        kept[name] = [run(CASES[name][0], seed, options.extra) for seed in seeds]
        print(row(name, kept[name]), flush=True)
    if options.json:
        import jax

        host = {
            "python": platform.python_version(),
            "jax": jax.__version__,
            "processor": platform.processor() or platform.machine(),
            "date": time.strftime("%Y-%m-%d"),
        }
        options.json.write_text(json.dumps({"host": host, "runs": kept}, indent=1))


if __name__ == "__main__":
    main()

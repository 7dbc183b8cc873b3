"""The same problems in another program, in the same table.

A peer runs in an environment of its own, named by its Python, and is never imported
here.  It receives the Hamiltonian as Pauli terms in the sign gauge that this solver
found, the sector, the translations and the budget, so that it needs none of our
conventions; its script lies in ``benchmarks/peers`` of the source tree.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vmc import registry
from vmc.assembly import build
from vmc.bench_problems import Problem
from vmc.bench_results import empty, finite, machine, thinned, time_to, with_energy
from vmc.bench_run import read_json
from vmc.bench_suite import Plan
from vmc.errors import JobError
from vmc.job import Job
from vmc.jobfile import suggest
from vmc.provenance import now
from vmc.sweep import write_text

SCRIPTS = Path(__file__).resolve().parents[1] / "benchmarks" / "peers"
#: Peer -> its script, and the label of its results.
PEERS = {
    "netket": ("netket_cell.py", "netket-rbm"),
    "quantax": ("quantax_cell.py", "quantax-rbm"),
    "jvmc": ("jvmc_cell.py", "jvmc-rbm"),
}
#: Samples per step, and of the final measurement.
N_SAMPLES, MEASURE = 1024, 65536
#: Seconds beyond the budget after which a peer is given up.
PATIENCE = 600.0


def parse(text: str) -> tuple[str, Path]:
    """Name and Python of "netket=/path/to/python".

    Raises:
        JobError: the peer is unknown, or there is no such program or script.
    """
    name, equals, python = text.partition("=")
    if not equals or not python:
        raise JobError(
            f"--peer {text}: expected NAME=PYTHON, as netket=/env/bin/python"
        )
    if name not in PEERS:
        raise JobError(f"--peer {text}: unknown peer {name!r}{suggest(name, PEERS)}")
    if not Path(python).is_file():
        raise JobError(f"--peer {text}: there is no program {python}")
    if not (SCRIPTS / PEERS[name][0]).is_file():
        raise JobError(
            f"--peer {text}: {SCRIPTS / PEERS[name][0]} is missing; the scripts of "
            "peers come with the source tree, not with the installed package"
        )
    return name, Path(python)


def run(
    plan: Plan,
    folder: Path,
    name: str,
    python: Path,
    tell: Callable[[str], None] = lambda line: None,
) -> None:
    """Run what is left of a peer's cells, one after another.

    Args:
        plan: of the suite; its budget has to be one of seconds.
        folder: of the suite.
        name: of the peer.
        python: of its environment.
        tell: called with a line per cell.

    Raises:
        JobError: the suite has no budget of seconds.
    """
    budget = plan.suite.budget
    if budget is None or budget.seconds is None:
        raise JobError("--peer needs a suite with budget.seconds: the same for both")
    for problem in plan.problems:
        try:
            base = cell_of(problem, budget.seconds, budget.max_steps)
        except JobError as error:
            tell(f"{problem.label}/{PEERS[name][1]}: left out ({error})")
            continue
        for seed in plan.suite.seeds:
            cell = base | {"seed": seed}
            named = f"{problem.label}/{PEERS[name][1]}/seed{seed}"
            status = _one(cell, folder / named, name, python, problem)
            tell(f"{named}: {status}")


def _one(
    cell: dict[str, Any], at: Path, name: str, python: Path, problem: Problem
) -> str:
    """Run one cell unless it is done; what became of it."""
    text = json.dumps(cell, sort_keys=True)
    fingerprint = hashlib.sha256(text.encode()).hexdigest()
    known = read_json(at / "result.json")
    if known is not None and known["fingerprint"] == fingerprint:
        if known["status"] == "done":
            return "done (before)"
    at.mkdir(parents=True, exist_ok=True)
    write_text(at / "cell.json", text + "\n")
    script, label = PEERS[name]
    result = empty(problem, label, cell["seed"], "failed")
    result |= {"source": name, "fingerprint": fingerprint, "date": now()}
    try:
        done = subprocess.run(
            [str(python), str(SCRIPTS / script), str(at / "cell.json")],
            capture_output=True,
            text=True,
            timeout=cell["seconds"] + PATIENCE,
        )
        lines = [x for x in done.stdout.splitlines() if x.startswith("RESULT ")]
        errors = done.stderr.strip().splitlines()
        result["error"] = errors[-1] if errors else f"exit code {done.returncode}"
        if lines:
            found = json.loads(lines[-1].removeprefix("RESULT "))
            result = filled(result, found, problem, cell)
    except subprocess.TimeoutExpired:
        result["error"] = f"no result within {PATIENCE:g} s after its budget"
    write_text(at / "result.json", json.dumps(finite(result), allow_nan=False) + "\n")
    return result["status"]


def cell_of(problem: Problem, seconds: float, max_steps: int) -> dict[str, Any]:
    """What a peer has to know of a problem.

    Raises:
        JobError: the problem is not one of spins 1/2, or fixes more than total Sz.
    """
    tables: dict[str, Any] = {"hamiltonian": problem.hamiltonian}
    tables |= {"lattice": problem.lattice} if problem.lattice else {}
    built = build(Job(**tables, ansatz={"name": "rbm"}))
    section = built.job.hamiltonian
    if section.blockade or section.charges:
        raise JobError("peers know no sector but that of total Sz")
    space = built.hamiltonian.space
    terms = registry.terms_to_dict(built.system.operator, built.n_sites, space.total_sz)
    bits = section.marshall if isinstance(section.marshall, list) else []
    edges = [] if built.system.lattice is None else built.system.lattice.edges(1)
    perms = built.problem.symmetry
    assert built.job.ansatz is not None
    return {
        "n_sites": built.n_sites,
        "constant": terms["constant"],
        "terms": [gauged(term, bits) for term in terms["terms"]],
        "total_sz": space.total_sz,
        "edges": np.asarray(edges).tolist(),
        "translations": [] if perms is None else np.asarray(perms).tolist(),
        "real": built.problem.dtype == "real",
        "alpha": built.job.ansatz.keys["alpha"],
        "n_samples": N_SAMPLES,
        "measure_samples": MEASURE,
        "seconds": seconds,
        "max_steps": max_steps,
    }


def gauged(term: Sequence[Any], bits: Sequence[int]) -> list[Any]:
    """A Pauli term after prod_i Z_i^(a_i): X and Y on sites with a_i = 1 change sign.

    Args:
        term: [coefficient, "XYZ", [sites]]; a complex coefficient is [real, imaginary].
        bits: a_i, or [] without a gauge.
    """
    coefficient, ops, sites = term
    flipped = [s for o, s in zip(ops, sites, strict=True) if o in "XY"]
    if bits and sum(bits[s] for s in flipped) % 2:
        pair = isinstance(coefficient, list)
        coefficient = [-x for x in coefficient] if pair else -coefficient
    return [coefficient, ops, sites]


def filled(
    result: dict[str, Any],
    found: Mapping[str, Any],
    problem: Problem,
    cell: Mapping[str, Any],
) -> dict[str, Any]:
    """A result with a peer's numbers.

    Args:
        result: without numbers.
        found: what the peer printed.
        problem: with its reference.
        cell: what the peer was given.
    """
    n, times = cell["n_sites"], np.asarray(found["times"])
    centre = cell["constant"] if isinstance(cell["constant"], int | float) else 0.0
    spread = (found["mean"] - centre) ** 2
    ess = found["n_samples"] / max(1.0, found["tau"])
    report = {
        "energy": {
            "mean": found["mean"],
            "error": found["error"],
            "variance": found["variance"],
            "tau": found["tau"],
            "r_hat": found["r_hat"],
            "ess": ess,
        },
        "v_score": n * found["variance"] / spread if spread else None,
        "n_sites": n,
        "n_parameters": found["n_parameters"],
        "n_steps": len(times),
    }
    result |= {"status": "done", "error": None, "seconds": found["seconds"]}
    result = with_energy(result, report, problem)
    steps = np.diff(times, prepend=0.0)
    per_step = float(np.median(steps[1:])) if len(steps) > 1 else float(steps[0])
    exact = None if problem.reference is None else problem.reference.energy
    energy, error = np.asarray(found["energies"]), np.asarray(found["errors"])
    columns = {"energy": energy, "error": error, "step": np.arange(1, len(times) + 1)}
    return result | {
        "optimise_seconds": float(times[-1]),
        "measure_seconds": found["measure_seconds"],
        "compile_seconds": max(0.0, float(times[0]) - per_step),
        "seconds_per_step": per_step,
        "samples_per_second": cell["n_samples"] / per_step,
        "ess_per_second": ess / found["measure_seconds"],
        "peak_memory_mib": found["peak_memory_mib"],
        "time_to": time_to(times, energy, error, exact),
        "series": thinned(times, columns, exact),
        "job": {"ansatz": {"name": "rbm", "alpha": cell["alpha"]}},
        "versions": found["versions"],
        "machine": machine(),
    }

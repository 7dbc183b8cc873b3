"""Results of a suite as it writes them, with numbers that could be real."""

from __future__ import annotations

import itertools
import math
import random
from typing import Any

from vmc.bench_problems import Reference, Rule
from vmc.bench_rules import judge

#: Problem: sites, exact energy, its uncertainty and kind, pass rule.
PROBLEMS: dict[str, tuple[int, float, float, str, float]] = {
    "tfim_chain_64_P_h1": (64, -81.49551266892573, 6.4e-11, "exact", 3e-4),
    "heis_square_6x6_P": (36, -24.4394, 2e-3, "qmc", 1e-3),
    "j1j2_square_6x6_0.5": (36, -18.1374, 0.0, "best variational", 5e-3),
}
ANSATZE = {"rbm": (4e-4, 832), "cnn": (8e-5, 5216), "vit": (2e-5, 21024)}
ANSATZE |= {"jastrow": (4e-3, 63)}
PARTS = {"sampling": 4.0, "local energies": 6.5, "scores": 2.2, "solve": 1.4}


def cell(problem: str, ansatz: str, seed: int, **changes: Any) -> dict[str, Any]:
    """A result as the suite writes it, with numbers that could be real."""
    dice = random.Random(f"{problem} {ansatz} {seed}")
    n, exact, u, kind, limit = PROBLEMS[problem]
    error, size = ANSATZE[ansatz]
    error *= math.exp(dice.gauss(0, 0.3)) * (40 if "j1j2" in problem else 1)
    sigma = 1e-5 * dice.uniform(0.6, 1.6)
    relative = error + sigma * dice.gauss(0, 1)
    energy, total = exact + relative * abs(exact), 20 * size**0.3
    variance = 8 * error * abs(exact)
    times = [0.1 * 1.05**k for k in range(200) if 0.1 * 1.05**k < total]
    start = dice.uniform(2, 4)
    ways = [error + 0.3 * math.exp(-9 * (t / total) ** 0.4) for t in times]
    curve = [w + 1e-5 * dice.gauss(0, 1) for w in ways]
    reference = Reference(energy=exact, uncertainty=u, kind=kind, source="Pfeuty 1970")
    rule = Rule(pass_relative_error=limit, stretch_relative_error=limit / 15)
    passed, why = judge(rule, reference, energy, sigma * abs(exact), total)
    hit = {
        t: next((x for x, y in zip(times, curve) if y < float(t)), None)
        for t in ("1e-2", "1e-3", "1e-4")
    }
    blocks = [
        {
            "sites": b,
            "capacity": min(b, 3 + size**0.2) * math.log(2),
            "order": 2,
            "required": 0.55 * b**0.5,
            "measured": 0.5 * b**0.5,
            "measured_error": 0.02,
        }
        for b in (4, 8, 16)
    ]
    return {
        "format": "vmc-bench-cell",
        "schema": 1,
        "problem": problem,
        "ansatz": ansatz,
        "seed": seed,
        "status": "done",
        "error": None,
        "stale_because": None,
        "n_sites": n,
        "lattice": "chain 64 periodic",
        "hamiltonian": "tfim h=1.0",
        "energy": energy,
        "energy_error": sigma * abs(exact),
        "variance": variance,
        "v_score": n * variance / energy**2,
        "tau": dice.uniform(0.5, 3),
        "r_hat": 1 + dice.random() / 100,
        "ess": 30000 * dice.random(),
        "reference": reference.model_dump(),
        "rule": rule.model_dump(),
        "relative_error": relative,
        "relative_error_sigma": sigma,
        "passed": passed,
        "why": why,
        "n_parameters": size,
        "n_steps": 500,
        "seconds": total + start,
        "optimise_seconds": total * 0.8,
        "measure_seconds": total * 0.2,
        "compile_seconds": start,
        "seconds_per_step": total / 500,
        "samples_per_second": 512000 / total,
        "ess_per_second": 3000 / total * dice.random() * 20,
        "peak_memory_mib": 300 + size / 50,
        "time_to": hit,
        "series": {
            "seconds": times,
            "steps": list(range(len(times))),
            "relative_error": curve,
            "energy": [exact] * len(times),
        },
        "parts": {k: v * size**0.2 * dice.uniform(0.8, 1.2) for k, v in PARTS.items()},
        "entropy": blocks,
        "job": {"seed": seed, "ansatz": {"name": ansatz, "alpha": None}},
        "versions": {"vmc": "0.1.0", "jax": "0.10.2"},
        "machine": {"cpu": "AMD EPYC 9354", "cores": 2, "memory_gib": 31.2},
        "date": f"2026-11-2{seed}",
        "fingerprint": "0" * 64,
        "source": "vmc",
    } | changes


LOST = dict.fromkeys(
    "energy energy_error variance v_score relative_error relative_error_sigma "
    "n_parameters seconds seconds_per_step parts passed".split()
) | {"series": {}, "time_to": {}, "entropy": [], "why": "no result"}


def example() -> tuple[dict[str, Any], list[dict[str, Any]], list[dict[str, Any]]]:
    """A suite of 3 problems, 4 ansaetze and 3 seeds in which much went wrong."""
    names = itertools.product(PROBLEMS, ANSATZE, (1, 2, 3))
    results = [cell(*name) for name in names]

    def change(problem: str, ansatz: str, seed: int, **changes: Any) -> None:
        for one in results:
            if (one["problem"], one["ansatz"], one["seed"]) == (problem, ansatz, seed):
                one |= changes

    chain, square, frustrated = PROBLEMS
    failed = LOST | {"status": "failed", "error": "NumericalError: the energy is nan"}
    change(square, "vit", 2, **failed)
    change(
        frustrated, "jastrow", 3, **LOST | {"status": "missing", "error": "not run yet"}
    )
    for seed in (1, 2, 3):
        note = {"status": "stale", "stale_because": "vmc 0.0.9, now 0.1.0"}
        change(frustrated, "rbm", seed, **note)
        change(chain, "vit", seed, relative_error=1e-6 * seed)
        change(
            chain,
            "jastrow",
            seed,
            relative_error=-3e-3,
            energy=-81.74,
            passed=False,
            why="0.2 below the exact energy, 300 standard errors",
        )
    published = [
        {"problem": p, "method": method, "energy": PROBLEMS[p][1] * (1 - error),
         "sigma": 1e-3, "variance": 0.1, "v_score": score, "relative_error": error,
         "source": "VarBench (arXiv:2302.04919)", "note": None}
        for p in PROBLEMS
        for method, error, score in (
            ("Exact Diagonalization", 0.0, 0.0),
            ("DMRG (bond dimension = 1024)", 1e-5, 2e-6),
            ("RBM (alpha=1)", 9e-3, 2e-2),
            ("Jastrow, Gutzwiller and many more", 2e-2, 9e-2),
        )
    ]  # fmt: skip
    suite = {
        "name": "quick", "description": "Small problems, 10 minutes on 2 cores.",
        "excluded": [{"problem": chain, "ansatz": "gcnn", "reason": "too slow here"}],
        "suite": {"seeds": [1, 2, 3], "budget": {"seconds": 60}},
        "date": "2026-11-21T19:00:00Z",
    }  # fmt: skip
    return suite, results, published

"""Speed of Hamiltonians: compilation, memory, local energies, no recompilation.

Prints one JSON object.  Times are the best of several; run it on an idle machine.

    python benchmarks/hamiltonians.py
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import jax
import jax.numpy as jnp
import numpy as np

from ansatze import rbm
from hamiltonians import LATTICES, MODELS, Operator, compile_operator
from hamiltonians.termfiles import terms_from_dict, terms_to_dict
from vmc.base import Problem
from vmc.estimators import local_energies


def best(call: Callable[[], Any], repeats: int) -> float:
    """Seconds of the fastest of several calls."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(call())
        times.append(time.perf_counter() - start)
    return min(times)


def random_terms(n_terms: int, n_sites: int = 100) -> Operator:
    """Random strings of three Pauli matrices."""
    rng = np.random.default_rng(1)
    letters = rng.choice(list("XYZ"), (n_terms, 3))
    return Operator.from_terms(
        (float(rng.normal()), "".join(row), rng.choice(n_sites, 3, False).tolist())
        for row in letters
    )


def compilation(repeats: int) -> dict[str, Any]:
    """Seconds and bytes of compiling 2,500 to 20,000 terms."""
    found = {}
    for n_terms in (2_500, 5_000, 10_000, 20_000):
        op = random_terms(n_terms)
        seconds = best(lambda op=op: compile_operator(op, 100), repeats)
        table = compile_operator(op, 100)
        found[str(n_terms)] = {
            "seconds": round(seconds, 3),
            "bytes_per_term": round(table.memory_bytes / len(op.terms), 1),
        }
    return found


def energies(size: int, n_samples: int, repeats: int) -> dict[str, Any]:
    """J1-J2 local energies: built-in model, the same from a terms list, other J2."""
    lattice = LATTICES["square"]([size, size])
    n = lattice.n_sites
    built = MODELS["j1j2"](lattice, J2=0.5)
    listed, _, _ = terms_from_dict(terms_to_dict(built, n, 0.0))
    tables = {
        "built in": compile_operator(built, n, total_sz=0),
        "terms list": compile_operator(listed, n, total_sz=0),
        "other J2": compile_operator(MODELS["j1j2"](lattice, J2=0.3), n, total_sz=0),
    }
    space = tables["built in"].space
    wavefunction = rbm(Problem(space, dtype="complex"), alpha=1)
    params = wavefunction.init(jax.random.key(0))
    words = np.random.default_rng(0).integers(0, 2**32, (n, n_samples), np.uint32)
    sigma = space.random(jnp.asarray(words))
    traces = []

    @jax.jit
    def local(ham: Any, sigma: jax.Array) -> jax.Array:
        traces.append(None)
        return local_energies(wavefunction, ham, params, sigma, 64)

    for ham in tables.values():
        jax.block_until_ready(local(ham, sigma))
    # Taken in turns, so that a busy machine slows all of them alike.
    seconds = {name: float("inf") for name in tables}
    for _ in range(repeats):
        for name, ham in tables.items():
            seconds[name] = min(seconds[name], best(lambda h=ham: local(h, sigma), 1))
    return {
        "sites": n,
        "samples": n_samples,
        "moves": tables["built in"].moves.n_moves,
        "seconds": {name: round(value, 4) for name, value in seconds.items()},
        "terms_list_over_built_in": round(
            seconds["terms list"] / seconds["built in"], 3
        ),
        "traces": len(traces),
    }


def main() -> None:
    """Run both and print the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=20, help="extent of the square")
    parser.add_argument("--samples", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    result = {
        "compilation": compilation(given.repeats),
        "local energies": energies(given.size, given.samples, given.repeats),
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()

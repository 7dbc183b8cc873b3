"""Tree tensor network: fast paths against naive evaluation, in the same run.

Prints one JSON object: for each size, milliseconds and their ratios of all single
flips, all nearest-neighbour exchanges, and the kernel O O^T of stochastic
reconfiguration, from sigma on, the sweep up of the tree included.  Naive means one
full evaluation per changed configuration, all in one call, and the dense score matrix
by automatic differentiation; "chunked" is the fallback of the package, which makes the
same evaluations in portions that fit the cache of the machine.  Run
``python benchmarks/trees.py [--sizes N D B ...]`` on a quiet machine.

In operations the N flips cost N sweeps up against one up and one down: a ratio of N / 2
means that both sides run equally close to the machine's rate.  Tables of the lowest
levels (`ansatze.tree_tables`) go beyond: they leave about 0.4 of both sweeps.  The
naive side has none, as log psi has none.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ansatze.ttn import ttn
from vmc.base import Moves, Params, Problem, WaveFunction
from vmc.factors import gram
from vmc.space import spins
from vmc.wavefunction import from_functions

SIZES = ((64, 16, 256), (128, 16, 128), (128, 16, 256))

Row = dict[str, Any]


def best(fn: Callable[[], Any], repeats: int) -> tuple[float, float]:
    """Least wall and mean CPU milliseconds of a call, after one call to compile.

    The clock of the CPU is too coarse for the least of single calls.
    """
    jax.block_until_ready(fn())
    wall, cpu = [], time.process_time()
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(fn())
        wall.append(time.perf_counter() - start)
    return 1e3 * min(wall), 1e3 * (time.process_time() - cpu) / repeats


def compare(naive: Callable[[], Array], fast: Callable[[], Array]) -> Row:
    """Both times, their ratios and the difference of the results."""
    a, b = naive(), fast()
    gap = float(jnp.max(jnp.abs(a - b)) / jnp.max(jnp.abs(a)))
    slow, quick = best(naive, 5), best(fast, 60)
    row: Row = {"difference": float(f"{gap:.1e}")}
    for kind, s, q in zip(("wall", "cpu"), slow, quick):
        row[kind] = {
            "naive_ms": round(s, 2),
            "fast_ms": round(q, 2),
            "ratio": round(s / q, 1),
        }
    return row


def evaluated(
    wf: WaveFunction, params: Params, sigma: Array, sites: np.ndarray
) -> Callable[[], Array]:
    """Ratios from log psi of every changed configuration, in one call."""
    sign = np.ones((len(sites), 1, sigma.shape[1]), np.int8)
    np.put_along_axis(sign, sites[:, None], -1, axis=2)

    def all_of_them(params: Params, sigma: Array) -> Array:
        moved = (sigma[None] * sign).reshape(-1, sigma.shape[1])
        new = wf.log_psi(params, moved).reshape(len(sites), -1)
        return jnp.exp(new - wf.log_psi(params, sigma)[None])

    compiled = jax.jit(all_of_them)
    return lambda: compiled(params, sigma)


def run(n_sites: int, bond: int, n_batch: int) -> Row:
    """All comparisons at one size."""
    problem = Problem(spins(n_sites), dtype="real")
    wf = ttn(problem, bond_dimension=bond)
    slow = from_functions(wf.init, wf.log_psi, problem=problem, range="real")
    params = jax.jit(wf.init)(jax.random.key(0))
    half = np.repeat(np.array([1, -1], np.int8), n_sites // 2)
    rng = np.random.default_rng(0)
    sigma = jnp.asarray(np.array([rng.permutation(half) for _ in range(n_batch)]))
    i = np.arange(n_sites, dtype=np.int32)
    tables = {"all flips": i[:, None], "all exchanges": np.stack([i[:-1], i[1:]], 1)}
    found: Row = {"sites": n_sites, "bond_dimension": bond, "samples": n_batch}
    for label, sites in tables.items():
        moves = Moves(jnp.asarray(sites), jnp.ones(sites.shape, jnp.int8))

        def ratios(w: Any) -> Callable[[], Array]:
            def both(params: Any, sigma: Array, moves: Moves) -> Array:
                cache = w.cache(params, sigma)
                return jnp.exp(w.log_ratios(params, cache, sigma, moves))

            compiled = jax.jit(both)
            return lambda: compiled(params, sigma, moves)

        found[label] = compare(evaluated(wf, params, sigma, sites), ratios(wf))
        found[f"{label}, chunked"] = compare(ratios(slow), ratios(wf))

    def kernel(w: Any) -> Callable[[], Array]:
        def gram(params: Any, sigma: Array) -> Array:
            leaves = jax.tree.leaves(w.scores(params, sigma), is_leaf=_is_factors)
            return jnp.sum(jnp.stack([one(f) for f in leaves]), axis=0)

        compiled = jax.jit(gram)
        return lambda: compiled(params, sigma)

    def one(factors: tuple[Array, ...]) -> Array:
        return gram(factors, factors, conjugate=False).real

    found["kernel O O^T"] = compare(kernel(slow), kernel(wf))
    return found


def _is_factors(x: Any) -> bool:
    return isinstance(x, tuple)


def main() -> None:
    """Run the sizes of the command line, or the usual ones."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", help="N D B, N D B, ...")
    numbers = parser.parse_args().sizes or [x for size in SIZES for x in size]
    jax.config.update("jax_enable_x64", True)
    host = {
        "processor": f"{platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "jax": jax.__version__,
        "date": datetime.date.today().isoformat(),
    }
    sizes = zip(numbers[::3], numbers[1::3], numbers[2::3])
    rows = [run(*size) for size in sizes]
    print(json.dumps({"host": host, "sizes": rows}, indent=1))


if __name__ == "__main__":
    main()

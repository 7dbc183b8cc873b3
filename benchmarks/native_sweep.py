"""What a sweep would gain from C++: one walker's numbers stay in the first-level cache.

``python benchmarks/native_sweep.py`` compiles ``native_sweep.cc`` with the machine's
C++ compiler, checks that it moves every walker as the product's sampler does, times
both in turn, and prints one JSON object.  A ratio above 1 means that C++ is faster.
Random numbers and the numbers u of the first configuration are part of both.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
#: (sites, alpha, dtype)
CASES = (
    (64, 4, "real"),
    (256, 1, "real"),
    (64, 4, "complex"),
    (128, 4, "complex"),
)
N_WALKERS = 1024


def library(folder: Path, planes: int) -> Any:
    """The compiled function for real (1) or complex (2) numbers.

    Raises:
        SystemExit: there is no C++ compiler.
    """
    import jax

    compiler = shutil.which(os.environ.get("CXX", "c++"))
    if compiler is None:
        raise SystemExit("no C++ compiler: install one, or name it in CXX")
    out = folder / f"sweep{planes}.so"
    flags = ["-O3", "-march=native", "-ffast-math", "-std=c++17", "-fPIC", "-shared"]
    source = str(HERE / "native_sweep.cc")
    include = [f"-I{jax.ffi.include_dir()}", f"-DPLANES={planes}", "-w"]
    subprocess.run([compiler, *flags, *include, source, "-o", str(out)], check=True)
    return ctypes.CDLL(str(out)).sweep


def best_ms(function: Callable[[], Any], repeats: int = 20) -> float:
    """Smallest wall time of a call."""
    import jax

    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        jax.block_until_ready(function())
        times.append(1e3 * (time.perf_counter() - began))
    return min(times)


def measure(n_sites: int, alpha: int, dtype: str, repeats: int) -> dict[str, Any]:
    """Times of a sweep in XLA's form and in C++, alternating."""
    import jax
    import jax.numpy as jnp
    import numpy as np
    from jax import lax

    import vmc
    from vmc.base import WALKERS
    from vmc.distributed import BY_WALKER, REPLICATED, compiled
    from vmc.keys import Purpose, derive, numbers, root_key, shared_integers

    ansatz = {"name": "rbm", "alpha": alpha, "dtype": dtype, "symmetry": "none"}
    sampler = {"n_chains": N_WALKERS, "n_samples": N_WALKERS}
    job = vmc.Job(
        lattice={"name": "chain", "size": [n_sites]},
        hamiltonian={"name": "tfim"},
        ansatz=ansatz | {"init_scale": 0.05},
        sampler=sampler,
    )
    run = vmc.build(job).vmc
    metropolis: Any = run.sampler.sample.__self__  # pyright: ignore
    table, name = jnp.asarray(metropolis.moves.sites)[:, 0], f"sweep_{dtype}"

    def xla(key: Any, params: Any, sigma: Any) -> tuple[Any, Any]:
        sigma, acceptance, *_ = metropolis.walk(key, params, sigma, n_sites)
        return sigma, acceptance[None]

    def native(key: Any, params: Any, sigma: Any) -> tuple[Any, Any]:
        n = len(sigma)
        ids = lax.axis_index(WALKERS) * n + jnp.arange(n)
        moves = shared_integers(derive(key, Purpose.PROPOSAL), n_sites, n_sites)
        bits = numbers(derive(key, Purpose.ACCEPT), ids, n_sites)
        cache = run.wavefunction.cache(params, sigma)
        assert cache.u[0].shape[0] % 64 == 0
        out = [
            jax.ShapeDtypeStruct((n, n_sites), jnp.float64),
            jax.ShapeDtypeStruct((n,), jnp.float64),
        ]
        found, count = jax.ffi.ffi_call(name, out)(
            jnp.concatenate([x.T for x in cache.u], axis=1),
            jnp.concatenate(cache.up, axis=1),
            jnp.concatenate(cache.down, axis=1),
            cache.c.real,
            sigma.astype(jnp.float64),
            table[moves].astype(jnp.int32),
            jnp.log(bits.astype(jnp.float64) * 2.0**-32).T,
        )
        # What the product's sampler also does: its check of the cache.
        log_psi = run.wavefunction.log_psi(params, found.astype(sigma.dtype)).real
        acceptance = jnp.mean(count) / n_sites + 0 * log_psi[0]
        return found.astype(sigma.dtype), acceptance[None]

    specs = (REPLICATED, REPLICATED, BY_WALKER), (BY_WALKER, BY_WALKER)
    programs = [compiled(function, run._mesh, *specs) for function in (xla, native)]
    state, key = run.init(), root_key(3)
    ours, theirs = [p(key, state.params, state.chains) for p in programs]
    if not np.array_equal(ours[0], theirs[0]):
        raise SystemExit(f"{dtype}, {n_sites} sites: the walkers moved differently")
    times: list[list[float]] = [
        [best_ms(lambda p=p: p(key, state.params, state.chains)) for p in programs]
        for _ in range(repeats)
    ]
    ratios = [before / after for before, after in times]
    return {
        "case": f"{n_sites} sites, alpha = {alpha}, {dtype}",
        "acceptance": float(np.mean(ours[1])),
        "xla_ms": [row[0] for row in times],
        "native_ms": [row[1] for row in times],
        "ratio": {
            "min": min(ratios),
            "median": statistics.median(ratios),
            "max": max(ratios),
        },
    }


def main() -> None:
    """Read the arguments and print the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    keys = parser.parse_args()
    from vmc.cli.environment import set_threads, start_jax

    set_threads(N_WALKERS)
    start_jax()
    import jax

    with tempfile.TemporaryDirectory() as folder:
        for planes, dtype in ((1, "real"), (2, "complex")):
            function = library(Path(folder), planes)
            capsule = jax.ffi.pycapsule(function)
            jax.ffi.register_ffi_target(f"sweep_{dtype}", capsule, platform="cpu")
        rows = [measure(*case, keys.repeats) for case in CASES]
    machine = {"cpus": os.cpu_count(), "jax": jax.__version__}
    print(json.dumps({"rows": rows, "machine": machine}, indent=2))


if __name__ == "__main__":
    main()

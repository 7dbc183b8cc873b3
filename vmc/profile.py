"""Where the time of a step goes, and how close each part is to the machine's limits.

The parts of a step are compiled as programs of their own (`vmc.profile_parts`) and
timed warm, beside the whole step as the driver runs it.  The two need not agree: XLA
fuses across parts within the whole step, and each part alone writes to memory what it
hands on.  Work is counted (`vmc.flops`), not measured; the limits, the rates of
products of matrices and of a triad on all devices of the job, are measured in the same
run.
"""

from __future__ import annotations

import functools
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.sharding import Mesh

from vmc import cluster, distributed
from vmc.assembly import Built
from vmc.base import VMCState
from vmc.distributed import BY_WALKER, REPLICATED
from vmc.flops import Cost, count
from vmc.profile_parts import Part, Parts, refuse_unknown

#: Seconds that the repetitions of one part may take, and the fewest of them.
BUDGET = 1.0
FEWEST = 3
#: Seconds of one measurement of a limit.
LIMIT_SECONDS = 0.08
#: Bytes of each array of the triad on one process's devices together: beyond caches.
TRIAD_BYTES = {"cpu": 2**26, "gpu": 2**29}
#: Largest order of the products, and the order of the trial that chooses it.
PRODUCT_ORDER, TRIAL_ORDER = 8192, 256


class Times(NamedTuple):
    """Seconds of one call: the best and the median of several."""

    best: float
    median: float


def profile(
    built: Built, state: VMCState | None = None, *, n_steps: int = 20
) -> dict[str, Any]:
    """Times, work and rates of a step and its parts, as JSON values.

    All processes of a job must call it.

    Args:
        built: the objects of the job.
        state: where to start; None is step 0.  It is not changed.
        n_steps: steps of the driver that are timed, after the first one, and the most
            repetitions of a part.

    Returns:
        ``step`` and ``parts`` (each with ms, share of the step, gflop, rates and
        fractions of the limits; None where nothing is known), ``start`` (seconds),
        ``memory`` (bytes), ``limits`` and the sizes of the job.

    Raises:
        JobError: several ranks were started and never joined, or the parts of such a
            step are not known.
        NumericalError: a step went wrong.
    """
    cluster.refuse_unjoined()
    refuse_unknown(built)
    started = time.perf_counter()
    state = built.first_state() if state is None else state
    jax.block_until_ready(state.params)
    at_step = int(state.step)
    start: dict[str, float] = {"init": time.perf_counter() - started}
    whole, host, state, start["first_step"] = _steps(built, state, n_steps)
    start["compile"] = max(0.0, start["first_step"] - whole.median)
    memory = _memory()

    parts = Parts(built, state)
    found: list[tuple[Part, Times]] = []
    parts.run(lambda part, _: found.append((part, _times(part, n_steps))))
    dtypes = {part.dtype for part, _ in found}
    limits = machine_limits(built.vmc._mesh, sorted(dtypes))
    rows = [_row(part, times, whole, limits) for part, times in found]
    branch = "larger" if any(part.fell_back for part, _ in found) else "smaller"
    function, args = parts.whole()
    step_row = _rates(count(function, *args, branch=branch), whole, limits, found)
    step_row |= {"n_steps": n_steps, "ms": 1e3 * whole.best}
    step_row["median_ms"] = 1e3 * whole.median
    sum_ms = sum(row["ms"] for row in rows)
    return {
        "n_sites": built.n_sites,
        "n_parameters": built.vmc.n_parameters,
        "n_samples": built.vmc.sampler.n_chains * built.vmc.sampler.n_draws,
        "n_devices": built.vmc._mesh.size,
        "device": jax.devices()[0].device_kind,
        "precision": built.job.precision,
        "optimizer": built.job.optimizer.name,
        "form": parts.form,
        "at_step": at_step,
        "start": start,
        "memory": memory,
        "limits": limits,
        "step": step_row,
        "parts": rows,
        "host": {"ms": 1e3 * host, "share": host / whole.best},
        "sum": {"ms": sum_ms, "share": sum_ms / (1e3 * whole.best)},
        "warnings": list(built.warnings),
    }


def _steps(
    built: Built, state: VMCState, n_steps: int
) -> tuple[Times, float, VMCState, float]:
    """Seconds per step, of the host per step, last state, seconds of the first step.

    The host's part of a dispatch is what is left of its wall time when the driver has
    seen its results, and placing its arguments.
    """
    run, size = built.vmc, built.vmc.steps_per_dispatch
    before = time.perf_counter()
    state, _ = run.advance(state, 1)
    first = time.perf_counter() - before
    # Dispatches end at multiples of their size: on to the next, so that all are whole.
    state = state._replace(
        step=np.asarray(-(-int(state.step) // size) * size, np.int32)
    )
    per_step: list[float] = []
    host: list[float] = []
    done = 0
    while done < n_steps:
        before = time.perf_counter()
        state, records = run.advance(state, min(n_steps - done, size))
        wall, n = time.perf_counter() - before, len(records["step"])
        on_devices = n * float(records["seconds"][-1])
        per_step.append(wall / n)
        host.append((wall - on_devices) / n)
        done += n
    args = (run._placed_hamiltonian, (state.params, state.opt_state), state.chains)
    specs = (REPLICATED, REPLICATED, BY_WALKER)
    before = time.perf_counter()
    distributed.place(args, run._mesh, specs)
    placing = (time.perf_counter() - before) / size
    times = Times(min(per_step), statistics.median(per_step))
    return times, statistics.median(host) + placing, state, first


def _times(part: Part, most: int) -> Times:
    """Times of a part, whose program is compiled."""
    return _repeat(lambda: part.call(*part.args), most)


def _repeat(call: Callable[[], Any], most: int) -> Times:
    def once() -> float:
        before = time.perf_counter()
        jax.block_until_ready(call())
        return time.perf_counter() - before

    # Every process must call as often as the others.
    (trial,) = cluster.largest(once())
    n = max(FEWEST, min(most, int(BUDGET / max(trial, 1e-9))))
    seconds = [once() for _ in range(n)]
    return Times(min(seconds), statistics.median(seconds))


def _row(part: Part, times: Times, whole: Times, limits: dict) -> dict[str, Any]:
    branch = "larger" if part.fell_back else "smaller"
    cost = count(part.call, *part.args, branch=branch)
    ms = {"ms": 1e3 * times.best, "median_ms": 1e3 * times.median}
    row = {"name": part.name, **ms, "share": times.best / whole.best}
    row |= _rates(cost, times, limits, [(part, times)])
    per_element = cost.transcendentals / part.n_elements
    known = row["transcendentals"] is not None
    row["transcendentals_per_element"] = per_element if known else None
    return row | {"element": part.element, "dtype": part.dtype}


def _rates(
    cost: Cost, times: Times, limits: dict, parts: list[tuple[Part, Times]]
) -> dict[str, Any]:
    """Work, rates and fractions of the limits of the dtype that took most time."""
    seconds: dict[str, float] = {}
    for part, its in parts:
        seconds[part.dtype] = seconds.get(part.dtype, 0.0) + its.best
    products = limits["products"][max(seconds, key=lambda name: seconds[name])]
    fastest = max(products.values())
    numbers: dict[str, Any] = {
        "gflop": cost.flops / 1e9,
        "gflop_per_s": cost.flops / 1e9 / times.best,
        "gb": cost.bytes / 1e9,
        "gb_per_s": cost.bytes / 1e9 / times.best,
        "transcendentals": cost.transcendentals,
    }
    numbers["product_fraction"] = numbers["gflop_per_s"] / fastest
    numbers["triad_fraction"] = numbers["gb_per_s"] / limits["triad_gb_per_s"]
    if cost.unknown:
        numbers = dict.fromkeys(numbers)
    return numbers | {"unknown": list(cost.unknown)}


def _memory() -> dict[str, int | None]:
    """Peak memory in bytes, the largest of all processes.

    Returns:
        ``peak_rss`` of a process, and ``peak_device`` of a device that counts (None
        where none does, as on a CPU).
    """
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    stats = [device.memory_stats() or {} for device in jax.local_devices()]
    peak = max(int(one.get("peak_bytes_in_use", 0)) for one in stats)
    rss, peak = map(int, cluster.largest(rss, peak))
    return {"peak_rss": rss, "peak_device": peak or None}


def machine_limits(mesh: Mesh, dtypes: list[str]) -> dict[str, Any]:
    """What the devices of a mesh reach together, measured in about a second.

    Args:
        mesh: the devices, which all work at the same time.
        dtypes: of real products, "float64" or "float32"; the complex ones belong to it.

    Returns:
        ``products``: dtype -> {"real", "complex"} -> GFLOP/s of products of square
        matrices (a complex one counts 8 n^3), and ``triad_gb_per_s``: GB/s of
        a <- b + s a on arrays larger than a cache, 3 numbers per element (arrays of
        `TRIAD_BYTES`: a machine with a larger cache shows the rate of that cache).
    """
    products = {
        dtype: {
            "real": _product_rate(mesh, jnp.dtype(dtype)),
            "complex": _product_rate(mesh, jnp.result_type(dtype, jnp.complex64)),
        }
        for dtype in dtypes
    }
    widest = jnp.dtype(max(dtypes))  # "float64" where there is one
    return {"products": products, "triad_gb_per_s": _triad_rate(mesh, widest)}


def _product_rate(mesh: Mesh, dtype: Any) -> float:
    """GFLOP/s of products of matrices that are large enough."""
    is_complex = jnp.issubdtype(dtype, jnp.complexfloating)

    def rate(n: int) -> tuple[float, float]:
        def fill() -> Array:
            x = jnp.cos(jnp.arange(n * n, dtype=jnp.float32)).reshape(n, n)
            return x.astype(dtype) * (1 + 1j if is_complex else 1)

        matrix = distributed.compiled(fill, mesh, (), BY_WALKER)()
        times = distributed.compiled(lambda x: x @ x, mesh, BY_WALKER, BY_WALKER)
        call = functools.partial(times.program, matrix)
        jax.block_until_ready(call())
        seconds = _repeat(call, FEWEST).best
        flops = mesh.size * 2 * n**3 * (4 if is_complex else 1)
        return seconds, flops / seconds / 1e9

    (trial,) = cluster.largest(rate(TRIAL_ORDER)[0])
    n = TRIAL_ORDER
    while n < PRODUCT_ORDER and trial * (2 * n / TRIAL_ORDER) ** 3 <= LIMIT_SECONDS:
        n *= 2
    return rate(max(n, 2 * TRIAL_ORDER))[1]


def _triad_rate(mesh: Mesh, dtype: Any) -> float:
    """GB/s of a triad on all devices at the same time."""
    kind = mesh.devices.flat[0].platform
    shared = TRIAD_BYTES["cpu" if kind == "cpu" else "gpu"]
    size = shared // dtype.itemsize // (len(mesh.local_devices) if kind == "cpu" else 1)

    def fill() -> Array:
        return jnp.ones((size,), dtype)

    def triad(a: Array, b: Array, n: Array) -> Array:
        half = jnp.asarray(0.5, dtype)
        return lax.fori_loop(0, n, lambda i, a: b + half * a, a)

    a = distributed.compiled(fill, mesh, (), BY_WALKER)()
    specs = (BY_WALKER, BY_WALKER, REPLICATED)
    program = distributed.compiled(triad, mesh, specs, BY_WALKER)

    def seconds(n: int) -> float:
        call = functools.partial(program, a, a, jnp.int32(n))
        jax.block_until_ready(call())
        return _repeat(call, FEWEST).best

    # Enough passes to hide that each call makes a new array for its result.
    (trial,) = cluster.largest(seconds(2))
    n = min(max(4, int(4 * LIMIT_SECONDS / trial)), 64)
    moved = (3 * n + 2) * size * mesh.size * dtype.itemsize
    return moved / seconds(n) / 1e9

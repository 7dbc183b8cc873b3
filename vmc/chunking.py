"""Fixed-size chunks: large batches in bounded memory, inside ``jit``.

A batch is cut into chunks of one size, so that nothing recompiles; the tail is
padded with copies of row 0, whose results are dropped.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.extend.core
import jax.numpy as jnp
from jax import lax

#: Bytes that one chunk may use, by kind of device.  On a CPU small enough for the
#: cache hierarchy to help and large enough to hide the loop; on accelerators a few
#: per cent of a small card.
BUDGETS = {"cpu": 2**26, "gpu": 2**30, "tpu": 2**29}
#: Chunks of rows that are wanted: so many, unless they would be smaller than that.
PIECES, LEAST_ROWS = 32, 256


def default_budget(kind: str | None = None) -> int:
    """Bytes that one chunk may use: a constant per kind of device.

    Args:
        kind: "cpu", "gpu" or "tpu"; None asks JAX for its default backend.  A kind
            that is not listed is treated as "cpu", the smallest.
    """
    kind = jax.default_backend() if kind is None else kind
    return BUDGETS.get(kind, BUDGETS["cpu"])


def chunk_size(n_items: int, bytes_per_item: int, budget_bytes: int) -> int:
    """Items per chunk: fits the budget and divides the work evenly.

    The smallest number of chunks that fit is used, and the items are spread over
    them, so that fewer than one item per chunk is padding.

    Args:
        n_items: items in all, 0 or more.
        bytes_per_item: memory that one item needs while it is worked on.
        budget_bytes: memory that one chunk may use.

    Returns:
        Between 1 and max(1, n_items).  It is 1 where even one item is too large.
    """
    fits = max(1, budget_bytes // max(1, bytes_per_item))
    n_chunks = max(1, -(-n_items // fits))
    return max(1, -(-n_items // n_chunks))


def map_chunks(fn: Callable[[Any], Any], arrays: Any, chunk: int) -> Any:
    """Apply a batched function chunk by chunk, one after the other.

    Works inside ``jit``, ``lax.scan`` and ``shard_map``.

    Args:
        fn: takes a pytree like ``arrays`` with leading axes of length ``chunk`` and
            returns a pytree of arrays with leading axes of that length, row by row.
        arrays: pytree of arrays with a common leading axis of n rows.
        chunk: rows per call.  If it is at least n, ``fn`` is called once on all.

    Returns:
        What ``fn`` returns, with n rows.
    """
    arrays = jax.tree.map(jnp.asarray, arrays)
    n_rows = jax.tree.leaves(arrays)[0].shape[0]
    if n_rows == 0:
        return _no_rows(fn, arrays)
    if n_rows <= chunk:
        return fn(arrays)
    n_chunks = -(-n_rows // chunk)
    padding = n_chunks * chunk - n_rows

    def cut(x: jax.Array) -> jax.Array:
        if padding:
            tail = jnp.broadcast_to(x[:1], (padding, *x.shape[1:]))
            x = jnp.concatenate([x, tail])
        return x.reshape(n_chunks, chunk, *x.shape[1:])

    def join(y: jax.Array) -> jax.Array:
        return y.reshape(n_chunks * chunk, *y.shape[2:])[:n_rows]

    return jax.tree.map(join, lax.map(fn, jax.tree.map(cut, arrays)))


def map_wanted(
    fn: Callable[[jax.Array], jax.Array], wanted: jax.Array, most: int
) -> jax.Array:
    """Apply a batched function to those rows that are wanted, in bounded memory.

    They are packed into chunks; a chunk that would be empty is skipped.  With `PIECES`
    chunks in all, the one that is half empty costs little.

    Args:
        fn: numbers of rows (chunk,) -> values (chunk,).
        wanted: bool (n,).
        most: rows of a chunk that memory allows.

    Returns:
        Values (n,), 0 where they are not wanted.
    """
    n_rows = wanted.shape[0]
    if n_rows == 0:
        return _no_rows(fn, jnp.zeros(0, jnp.int32))
    pieces = max(1, min(PIECES, n_rows // LEAST_ROWS))
    chunk = max(1, min(most, -(-n_rows // pieces)))
    n_chunks = -(-n_rows // chunk)
    (rows,) = jnp.nonzero(wanted, size=n_chunks * chunk, fill_value=n_rows)
    rows = rows.astype(jnp.int32)
    dtype = jax.eval_shape(fn, rows[:chunk]).dtype
    # Varies over devices as the rows do, also where JAX checks that.
    zeros = jnp.zeros((), dtype) * rows[:chunk]

    def some(part: jax.Array) -> jax.Array:
        inside = jnp.minimum(part, n_rows - 1)
        return lax.cond(part[0] < n_rows, fn, lambda _: zeros, inside)

    values = lax.map(some, rows.reshape(n_chunks, chunk)).reshape(-1)
    empty = jnp.zeros((), dtype) * wanted
    return empty.at[rows].set(values, mode="drop")


def _no_rows(fn: Callable[[Any], Any], arrays: Any) -> Any:
    """Empty results of the right shapes and dtypes, without running ``fn``."""
    one = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype), arrays
    )
    out = jax.eval_shape(fn, one)
    return jax.tree.map(lambda y: jnp.zeros((0, *y.shape[1:]), y.dtype), out)


def bytes_per_row(fn: Callable[..., Any], fixed: Any, row: jax.ShapeDtypeStruct) -> int:
    """Memory that one more row of a batch costs: what all its intermediates fill.

    An upper bound for evaluation, and about right for a gradient, which keeps the
    intermediates.  By tracing only: nothing is computed.

    Args:
        fn: (fixed, rows) -> anything, batched over the leading axis of rows.
        fixed: pytree of arrays (or shapes) that are the same for all rows.
        row: shape and dtype of one row, without the leading axis.

    Returns:
        Bytes per row, at least 1.
    """

    def size(n_rows: int) -> int:
        rows = jax.ShapeDtypeStruct((n_rows, *row.shape), row.dtype)
        return _traced_bytes(jax.make_jaxpr(fn)(fixed, rows).jaxpr)

    return max(1, (size(4) - size(2)) // 2)


def _traced_bytes(jaxpr: Any) -> int:
    """Bytes of every value that a jaxpr writes, loops of known length unrolled."""
    total = 0
    for equation in jaxpr.eqns:
        inner = [x for v in equation.params.values() for x in _jaxprs(v)]
        if inner:
            repeats = equation.params.get("length", 1)
            total += repeats * sum(_traced_bytes(x) for x in inner)
        else:
            # Keys and tokens have no itemsize; they are small.
            total += sum(
                math.prod(v.aval.shape) * getattr(v.aval.dtype, "itemsize", 0)
                for v in equation.outvars
            )
    return total


def _jaxprs(value: Any) -> list[Any]:
    """The jaxprs in one parameter of an equation (a call, a branch, a loop)."""
    if isinstance(value, jax.extend.core.ClosedJaxpr):
        return [value.jaxpr]
    if isinstance(value, jax.extend.core.Jaxpr):
        return [value]
    if isinstance(value, tuple | list):
        return [x for v in value for x in _jaxprs(v)]
    return []

"""Chunks change memory, not results."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from vmc.base import WALKERS
from vmc.chunking import (
    LEAST_ROWS,
    PIECES,
    bytes_per_row,
    chunk_size,
    default_budget,
    map_chunks,
    map_wanted,
)


@pytest.mark.parametrize(
    ("n_items", "bytes_per_item", "budget", "expected"),
    [
        (100, 10, 1000, 100),
        (101, 10, 1000, 51),  # two even chunks, not 100 and 1
        (10, 10, 35, 3),
        (5, 100, 10, 1),  # one item is too large already
        (0, 10, 100, 1),
        (7, 0, 100, 7),
    ],
)
def test_chunk_size(
    n_items: int, bytes_per_item: int, budget: int, expected: int
) -> None:
    assert chunk_size(n_items, bytes_per_item, budget) == expected


@pytest.mark.parametrize("n_items", [1, 2, 17, 64, 1000])
@pytest.mark.parametrize("budget", [1, 40, 333, 10**6])
def test_chunks_fit_and_waste_little(n_items: int, budget: int) -> None:
    chunk = chunk_size(n_items, 8, budget)
    n_chunks = -(-n_items // chunk)
    assert chunk == 1 or chunk * 8 <= budget
    assert n_chunks * chunk - n_items < n_chunks


def test_budget_knows_devices() -> None:
    assert default_budget("cpu") < default_budget("gpu")
    assert default_budget("a new kind") == default_budget("cpu") == default_budget()


def double(batch: dict) -> tuple:
    return batch["x"] * 2, {"sum": batch["x"].sum(axis=1) + batch["y"]}


@pytest.mark.parametrize("chunk", [1, 3, 4, 11, 12, 50])
def test_map_chunks_keeps_pytrees_and_order(chunk: int) -> None:
    batch = {"x": jnp.arange(33.0).reshape(11, 3), "y": jnp.arange(11)}
    sizes = []

    def watched(part: dict) -> tuple:
        sizes.append(len(part["y"]))
        return double(part)

    out = jax.jit(lambda b: map_chunks(watched, b, chunk))(batch)
    jax.tree.map(np.testing.assert_array_equal, out, double(batch))
    assert set(sizes) == {min(chunk, 11)}, "chunks of more than one size"


def test_map_chunks_of_nothing() -> None:
    batch = {"x": jnp.zeros((0, 3)), "y": jnp.zeros((0,), jnp.int32)}
    first, second = map_chunks(double, batch, 4)
    assert first.shape == (0, 3) and second["sum"].shape == (0,)
    assert second["sum"].dtype == jnp.float64


@pytest.mark.parametrize("check_vma", [True, False])
def test_map_chunks_in_shard_map(mesh_of, check_vma: bool) -> None:
    x = jnp.arange(28.0).reshape(28, 1)
    run = jax.shard_map(
        lambda part: map_chunks(lambda c: jnp.sin(c), part, 3),
        mesh=mesh_of(4),
        in_specs=PartitionSpec(WALKERS),
        out_specs=PartitionSpec(WALKERS),
        check_vma=check_vma,
    )
    np.testing.assert_array_equal(jax.jit(run)(x), jnp.sin(x))


@pytest.mark.parametrize("part", [0.0, 0.003, 0.4, 1.0])
@pytest.mark.parametrize(("n_rows", "most"), [(7, 3), (1000, 10**6), (20_000, 10**6)])
def test_only_what_is_wanted_is_evaluated(n_rows: int, most: int, part: float) -> None:
    wanted = np.random.default_rng(0).random(n_rows) < part
    seen: list[int] = []

    def slow(rows: jax.Array) -> jax.Array:
        jax.debug.callback(lambda x: seen.append(len(x)), rows)
        return jnp.exp(1j * rows)

    run = jax.jit(lambda w: map_wanted(slow, w, most))
    got = jax.block_until_ready(run(jnp.asarray(wanted)))
    jax.effects_barrier()
    want = np.where(wanted, np.exp(1j * np.arange(n_rows)), 0)
    np.testing.assert_allclose(got, want, atol=1e-12)
    chunk = max(min(most, LEAST_ROWS), min(most, -(-n_rows // PIECES)))
    assert all(size <= 2 * chunk for size in seen)
    assert sum(seen) < np.sum(wanted) + 2 * chunk
    assert map_wanted(slow, jnp.zeros(0, bool), 3).dtype == complex


@pytest.mark.parametrize("check_vma", [True, False])
def test_map_wanted_in_shard_map(mesh_of, check_vma: bool) -> None:
    wanted = jnp.arange(4000) % 7 < jnp.arange(4000) // 1000
    run = jax.shard_map(
        lambda part: map_wanted(jnp.sin, part, 10**6),
        mesh=mesh_of(4),
        in_specs=PartitionSpec(WALKERS),
        out_specs=PartitionSpec(WALKERS),
        check_vma=check_vma,
    )
    want = jnp.where(wanted, jnp.sin(jnp.arange(4000) % 1000), 0)
    np.testing.assert_allclose(jax.jit(run)(wanted), want, atol=1e-12)


def test_bytes_per_row_counts_intermediates_but_not_parameters() -> None:
    row = jax.ShapeDtypeStruct((5,), jnp.float64)
    weights = jax.ShapeDtypeStruct((5, 100), jnp.float64)

    def dense(w, x):
        return jnp.sum((w * 2 + 1)[0][None, :] + x @ w, axis=1)

    # x @ w and the sum with the row: 100 numbers each; the result: one.
    assert bytes_per_row(dense, weights, row) == 8 * 201

    def looped(w, x):
        step = lambda carry, _: (jnp.tanh(carry), None)  # noqa: E731
        return jax.lax.scan(step, x @ w, None, length=6)[0].sum(axis=1)

    assert bytes_per_row(looped, weights, row) == 8 * (100 + 600 + 1)

"""Random numbers depend on global walker ids, not on the number of devices."""

from collections.abc import Callable

import jax
import numpy as np
import pytest
from jax import Array
from jax.sharding import Mesh, PartitionSpec

from vmc.base import BLOCK, WALKERS
from vmc.keys import Purpose, block_keys, derive, root_key, take_rows, walker_bits
from vmc.space import spins

MeshOf = Callable[[int], Mesh]


def per_device(mesh: Mesh, draw: Callable[[Array, int], Array], n: int) -> np.ndarray:
    n_local = n // mesh.size
    run = jax.shard_map(
        lambda key: draw(key, n_local),
        mesh=mesh,
        in_specs=PartitionSpec(),
        out_specs=PartitionSpec(WALKERS),
        check_vma=False,
    )
    key = derive(root_key(7), Purpose.ACCEPT, 3, 0)
    return np.asarray(jax.jit(run)(key))


# 96 over 4 is 24 a device and 40 over 4 is 10: devices start and end inside blocks;
# 4 over 4 is one walker each.
@pytest.mark.parametrize("n", [64, 96, 128, 40, 4])
def test_bits_do_not_depend_on_the_number_of_devices(mesh_of: MeshOf, n: int) -> None:
    def draw(key: Array, n_local: int) -> Array:
        return walker_bits(key, n_local, (3,))

    one, two, four = (per_device(mesh_of(d), draw, n) for d in (1, 2, 4))
    assert one.shape == (n, 3) and one.dtype == np.uint32
    np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(one, four)
    assert len(np.unique(one)) == one.size, "two walkers share random bits"


@pytest.mark.parametrize("n", [64, 96])
def test_starts_do_not_depend_on_the_number_of_devices(mesh_of: MeshOf, n: int) -> None:
    space = spins(6, total_sz=0)

    def draw(key: Array, n_local: int) -> Array:
        keys, offset = block_keys(key, n_local)
        return take_rows(space.random(keys, BLOCK), offset, n_local)

    one, two, four = (per_device(mesh_of(d), draw, n) for d in (1, 2, 4))
    np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(one, four)


def test_more_walkers_keep_the_first(mesh_of: MeshOf) -> None:
    def draw(key: Array, n_local: int) -> Array:
        return walker_bits(key, n_local, ())

    few, many = (per_device(mesh_of(2), draw, n) for n in (36, 128))
    np.testing.assert_array_equal(few, many[:36])


def test_every_purpose_step_and_attempt_has_its_own_stream() -> None:
    root = root_key(1)
    paths = [
        (p, step, attempt) for p in Purpose for step in (0, 1) for attempt in (0, 1)
    ]
    keys = {tuple(np.asarray(jax.random.key_data(derive(root, *p)))) for p in paths}
    assert len(keys) == len(paths)
    other = jax.random.key_data(derive(root_key(2), *paths[0]))
    assert tuple(np.asarray(other)) not in keys

"""Random numbers depend on global walker ids, not on the number of devices."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array
from jax.sharding import Mesh, PartitionSpec
from scipy import stats

from vmc import keys
from vmc.base import WALKERS
from vmc.keys import Purpose, derive, numbers, philox, root_key, walker_bits
from vmc.space import spins

MeshOf = Callable[[int], Mesh]

#: Counter, key and result of Philox4x32-10 in kat_vectors of Random123.
KNOWN = [
    ([0] * 4, [0] * 2, "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    (
        [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
        [0xA4093822, 0x299F31D0],
        "d16cfe09 94fdcceb 5001e420 24126ea1",
    ),
]


@pytest.mark.parametrize("x64", [True, False])
def test_philox_gives_the_published_numbers(x64: bool) -> None:
    jax.config.update("jax_enable_x64", x64)
    try:
        for counter, key, want in KNOWN:
            words = [jnp.asarray(np.uint32(x)) for x in (*counter, *key)]
            got = philox(tuple(words[:4]), (words[4], words[5]))
            assert " ".join(f"{int(x):08x}" for x in got) == want
        ids = jnp.arange(5, dtype=jnp.uint32)
        bits = np.asarray(numbers(derive(root_key(3), 1, 2), ids, 7))
        sites = np.asarray(keys.scaled(jnp.asarray(bits), 1000))
    finally:
        jax.config.update("jax_enable_x64", True)
    np.testing.assert_array_equal(sites, bits.astype(np.uint64) * 1000 >> 32)
    np.testing.assert_array_equal(bits, numbers(derive(root_key(3), 1, 2), ids, 7))


def per_device(mesh: Mesh, draw: Callable[[Array, int], Array], n: int) -> np.ndarray:
    """What n walkers on the devices of a mesh draw: (n, ...)."""
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


# Shares of 16, 24, 10 and 1 walkers on four devices: whole powers of two or not.
@pytest.mark.parametrize("n", [64, 96, 40, 4])
def test_bits_do_not_depend_on_the_number_of_devices(mesh_of: MeshOf, n: int) -> None:
    def draw(key: Array, n_local: int) -> Array:
        return walker_bits(key, n_local, 6).T

    one, two, four = (per_device(mesh_of(d), draw, n) for d in (1, 2, 4))
    assert one.shape == (n, 6) and one.dtype == np.uint32
    np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(one, four)
    assert len(np.unique(one)) == one.size, "two walkers share random bits"


def test_starts_do_not_depend_on_the_number_of_devices(mesh_of: MeshOf) -> None:
    space = spins(6, total_sz=0)

    def draw(key: Array, n_local: int) -> Array:
        return space.random(walker_bits(key, n_local, 6))

    one, two, four = (per_device(mesh_of(d), draw, 96) for d in (1, 2, 4))
    np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(one, four)


def test_more_walkers_or_numbers_keep_the_first() -> None:
    key = root_key(5)
    many = numbers(key, jnp.arange(40), 9)
    np.testing.assert_array_equal(numbers(key, jnp.arange(7), 9), many[:, :7])
    np.testing.assert_array_equal(numbers(key, jnp.arange(40), 3), many[:3])


def test_words_are_uniform_and_walkers_uncorrelated() -> None:
    words = np.asarray(numbers(root_key(1), jnp.arange(20_000), 4)) >> 28
    for other in (np.roll(words, 1, axis=1), np.roll(words, 1, axis=0)):
        joint = np.bincount((16 * words + other).reshape(-1), minlength=256)
        assert stats.chisquare(joint).pvalue > 1e-3


def test_every_path_has_its_own_stream() -> None:
    root = root_key(1)
    triples = [
        (p, step, attempt) for p in Purpose for step in (0, 1) for attempt in (0, 1)
    ]
    paths = [*triples, (), (0,), (0, 0), (0, 0, 0, 0), (1,), (0, 1), (1, 0)]
    words = {tuple(np.asarray(jax.random.key_data(derive(root, *p)))) for p in paths}
    assert len(words) == len(paths)
    other = jax.random.key_data(derive(root_key(2), *paths[0]))
    assert tuple(np.asarray(other)) not in words
    bits = {int(numbers(derive(root, *p), jnp.arange(1), 1)[0, 0]) for p in paths}
    assert len(bits) == len(paths)


def test_shared_integers_are_uniform() -> None:
    draws = np.asarray(keys.shared_integers(root_key(4), 12, 6000))
    assert draws.dtype == np.int32 and set(draws) == set(range(12))
    assert stats.chisquare(np.bincount(draws)).pvalue > 1e-3


@pytest.mark.parametrize("seed", [0, 1, 2**32 - 1, 2**32 + 5, 2**63 + 3])
def test_root_keys_are_those_of_jax(seed: int) -> None:
    expected = jax.random.key_data(jax.random.key(np.uint64(seed)))
    np.testing.assert_array_equal(jax.random.key_data(root_key(seed)), expected)

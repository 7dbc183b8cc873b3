"""Random keys by purpose, step and global walker id.

A key never evolves.  Every random number of a run is a pure function of the
run's seed, a purpose, the step, the attempt (retries of a rejected step) and
the global id of a block of `vmc.base.BLOCK` walkers, so that results do not
depend on how walkers are spread over devices and ranks.
"""

from __future__ import annotations

import enum

import jax
import jax.numpy as jnp
from jax import Array, lax

from vmc.base import BLOCK, WALKERS, Key


class Purpose(enum.IntEnum):
    """What a stream of random numbers is for."""

    INIT = 0
    PROPOSAL = 1
    ACCEPT = 2
    DIRECT = 3
    MEASURE = 4
    PARAMS = 5
    PROBE = 6


def root_key(seed: int) -> Key:
    """The root key of a run."""
    return jax.random.key(seed, impl="threefry2x32")


def derive(key: Key, *path: int | Array) -> Key:
    """Fold a path of integers, such as (purpose, step, attempt), into a key."""
    for part in path:
        key = jax.random.fold_in(key, part)
    return key


def walker_offset(n_local: int) -> Array:
    """Global id of this device's first walker; call inside ``shard_map``."""
    return lax.axis_index(WALKERS) * n_local


def block_keys(key: Key, n_local: int) -> tuple[Key, Array]:
    """Keys of the blocks that this device's walkers lie in.

    Args:
        key: parent key, equal on all devices.
        n_local: walkers on this device.

    Returns:
        Keys of every block touched, and the offset of the first local walker
        inside the first of them (see `take_rows`).
    """
    start = walker_offset(n_local)
    if n_local % BLOCK == 0:
        n_blocks = n_local // BLOCK
    else:
        # A device may start in the middle of a block and end in another.
        n_blocks = (n_local + BLOCK - 2) // BLOCK + 1
    ids = start // BLOCK + jnp.arange(n_blocks)
    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(ids)
    return keys, start % BLOCK


def take_rows(blocks: Array, offset: Array, n_local: int) -> Array:
    """Rows of this device from numbers generated block by block.

    Args:
        blocks: (n_blocks * BLOCK, ...), generated with `block_keys`.
        offset: second result of `block_keys`.
        n_local: walkers on this device.

    Returns:
        (n_local, ...).
    """
    if blocks.shape[0] == n_local:
        return blocks
    return lax.dynamic_slice_in_dim(blocks, offset, n_local, axis=0)


def walker_bits(key: Key, n_local: int, shape: tuple[int, ...]) -> Array:
    """32 random bits per walker: uint32 (n_local, *shape), rank invariant."""
    keys, offset = block_keys(key, n_local)
    draw = jax.vmap(lambda k: jax.random.bits(k, (BLOCK, *shape), jnp.uint32))
    bits = draw(keys).reshape(-1, *shape)
    return take_rows(bits, offset, n_local)

"""Random numbers by purpose, step and global walker id.

A key never evolves.  Every random number of a run is a pure function of the
run's seed, a path of integers (purpose, step, attempt, ...) and the global id of
the walker that uses it, so results do not depend on how walkers are spread over
devices and ranks.

The generator is Philox4x32-10 (Salmon et al., SC 2011): counter based, so that a
walker's numbers need no state, no communication and no common block size.
Measured against one ``jax.random`` key per block of 32 walkers, numbers for a
sweep (64 moves, 1024 walkers) take 0.24 ms instead of 0.40, and four times less
time to compile.
"""

from __future__ import annotations

import enum
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from vmc.base import WALKERS, Key

_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
#: Last counter word: separates derived keys from walkers' numbers.
_WALKER, _DERIVE = 0, 1


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
    """The root key of a run: ``jax.random.key(seed)``, with nothing compiled for it."""
    words = np.asarray([seed >> 32 & 0xFFFFFFFF, seed & 0xFFFFFFFF], np.uint32)
    return jax.random.wrap_key_data(jnp.asarray(words), impl="threefry2x32")


def _multiply(a: Array, constant: int) -> tuple[Array, Array]:
    """High and low words of a 32 x 32 bit product."""
    if jax.config.read("jax_enable_x64"):
        product = a.astype(jnp.uint64) * jnp.uint64(constant)
        return (product >> 32).astype(jnp.uint32), product.astype(jnp.uint32)
    half = jnp.uint32(0xFFFF)
    a0, a1 = a & half, a >> 16
    b0, b1 = jnp.uint32(constant & 0xFFFF), jnp.uint32(constant >> 16)
    cross = a1 * b0 + (a0 * b0 >> 16)
    middle = a0 * b1 + (cross & half)
    return a1 * b1 + (cross >> 16) + (middle >> 16), a * jnp.uint32(constant)


def _round(_: Any, state: tuple[Array, ...]) -> tuple[Array, ...]:
    """One of the ten rounds: counter words c0 to c3 and key words k0, k1."""
    c0, c1, c2, c3, k0, k1 = state
    high0, low0 = _multiply(c0, _MULTIPLIERS[0])
    high1, low1 = _multiply(c2, _MULTIPLIERS[1])
    c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
    return c0, c1, c2, c3, k0 + jnp.uint32(_WEYL[0]), k1 + jnp.uint32(_WEYL[1])


@jax.jit
def philox(counter: tuple[Array, ...], key: tuple[Array, Array]) -> tuple[Array, ...]:
    """Philox4x32-10: four random words for four counter words and two key words.

    Args:
        counter: four uint32 arrays of one shape.
        key: two uint32 scalars.

    Returns:
        Four uint32 arrays.
    """
    state = (*counter, *key)
    if counter[0].size == 1:
        # A step derives many keys: a loop over one array is quick to trace and compile.
        words = jnp.stack([x.reshape(()) for x in state])
        words = lax.fori_loop(0, 10, lambda n, x: jnp.stack(_round(n, tuple(x))), words)
        return tuple(x.reshape(counter[0].shape) for x in words[:4])
    for number in range(10):
        state = _round(number, state)
    return state[:4]


def _words(key: Key) -> tuple[Array, Array]:
    data = jax.random.key_data(key)
    return data[0], data[1]


def _word(x: int | Array) -> Array:
    return jnp.asarray(x).astype(jnp.uint32)


def derive(key: Key, *path: int | Array) -> Key:
    """The key at the end of a path of integers, such as (purpose, step, attempt)."""
    for start in range(0, len(path), 3):
        part = [_word(x) for x in path[start : start + 3]]
        # The number of words tells (1,) and (1, 0) apart.
        tag = _word(_DERIVE + 2 * len(part))
        counter = (*part, *[_word(0)] * (3 - len(part)), tag)
        words = philox(counter, _words(key))  # pyright: ignore
        data = jnp.stack([words[0], words[1]])
        key = jax.random.wrap_key_data(data, impl="threefry2x32")
    return key


def numbers(key: Key, ids: Array, n: int, skip: int | Array = 0) -> Array:
    """Random words of given walkers.

    Args:
        key: equal on all devices.
        ids: integer (B,), global walker ids.
        n: words per walker.
        skip: groups of four words that were drawn before.

    Returns:
        uint32 (n, B).
    """
    groups = -(-n // 4)
    rows = jnp.arange(groups, dtype=jnp.uint32)[:, None] + _word(skip)
    shape = (groups, ids.shape[0])
    counter = (
        jnp.broadcast_to(ids.astype(jnp.uint32)[None, :], shape),
        jnp.broadcast_to(rows, shape),
        jnp.zeros(shape, jnp.uint32),
        jnp.full(shape, _WALKER, jnp.uint32),
    )
    words = jnp.stack(philox(counter, _words(key)), axis=1)
    return words.reshape(4 * groups, -1)[:n]


def walker_bits(key: Key, n_local: int, n: int, skip: int | Array = 0) -> Array:
    """`numbers` of this device's walkers: uint32 (n, B); inside ``shard_map``."""
    start = lax.axis_index(WALKERS) * n_local
    return numbers(key, start + jnp.arange(n_local), n, skip)


def shared_integers(key: Key, bound: int, n: int) -> Array:
    """Integers in [0, bound), equal on every device: int32 (n,).

    Uniform up to a relative error of bound / 2^32.
    """
    words = numbers(key, jnp.zeros((1,), jnp.uint32), n)[:, 0]
    return scaled(words, bound)


def scaled(words: Array, bound: int) -> Array:
    """Random words as integers in [0, bound), int32."""
    return _multiply(words, bound)[0].astype(jnp.int32)

"""Walks in one kernel, of every registered ansatz that has them."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from ansatze import ANSATZE
from tests.contracts.test_ansatze import (
    DTYPES,
    B,
    Case,
    N,
    build,
    plainest,
    random_sigma,
    ring_table,
)
from vmc.base import Moves
from vmc.moves import apply_move


def walked(case: Case, moves: Moves, words: np.ndarray, which: np.ndarray) -> Any:
    """What `WaveFunction.walk` is to give, by try_move and commit, move by move."""
    wf, params = case.wf, case.params
    sigma = jnp.asarray(random_sigma("flips"))
    cache, gain, accepted = wf.cache(params, sigma), 0.0, 0
    for row, i in zip(words, which):
        ratio, pending = wf.try_move(params, cache, sigma, moves[int(i)])
        accept = row * 2.0**-32 < np.exp(np.asarray(ratio))
        cache = wf.commit(cache, pending, jnp.asarray(accept))
        sigma = apply_move(sigma.T, moves[int(i)], accept, (2,) * N).T
        gain, accepted = gain + np.where(accept, ratio, 0), accepted + accept.sum()
    return sigma, gain, accepted


@pytest.mark.parametrize("dtype", DTYPES)
def test_walks_in_one_kernel(dtype: str) -> None:
    """Of every family that has one: the interpreter against single moves."""
    have = [n for n in ANSATZE if build(n, dtype, plainest(n)).raw.walk is not None]
    assert "rbm" in have
    rng = np.random.default_rng(4)
    moves = ring_table("mixed")
    words = rng.integers(0, 2**32, (12, B), np.uint32)
    which = rng.integers(0, moves.n_moves, 12)
    # Rows of padding are refused, wherever they are.
    sites = np.insert(np.asarray(moves.sites)[which], 5, N, axis=0)
    for name in have:
        case = build(name, dtype, plainest(name))
        want = walked(case, moves, words, which)
        assert 0 < want[2] < words.size
        assert case.raw.walk is not None
        got = case.raw.walk(
            case.params,
            jnp.asarray(random_sigma("flips")),
            jnp.asarray(sites),
            jnp.asarray(np.insert(words, 5, 0, axis=0)),
            fixed_sz=False,
            interpret=True,
        )
        np.testing.assert_array_equal(got[0], want[0])
        np.testing.assert_allclose(got[1], want[1], rtol=0, atol=1e-12)
        assert got[2] == want[2]

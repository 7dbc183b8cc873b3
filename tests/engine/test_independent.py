"""The kernel of independent proposals, enumerated from the sampler's own decisions."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array

from tests.engine.helpers import MeshOf
from vmc import distributed, independent
from vmc.base import Exact, Params, Problem, WaveFunction
from vmc.distributed import REPLICATED
from vmc.keys import root_key
from vmc.space import spins
from vmc.wavefunction import from_functions

N = 4
STATES = spins(N).all_states()
DIM = len(STATES)


def table() -> WaveFunction:
    """psi = exp(theta / 2), one parameter per configuration."""

    def log_psi(params: Params, sigma: Array) -> Array:
        bits = (1 - sigma.astype(jnp.int32)) // 2
        code = jnp.sum(bits << jnp.arange(N - 1, -1, -1)[None], axis=1)
        return 0.5 * jnp.asarray(params)[code]

    return from_functions(
        lambda key: jnp.zeros(DIM),
        log_psi,
        problem=Problem(spins(N), "real"),
        range="positive",
    )


def acceptance(
    log_p: np.ndarray, log_q: np.ndarray, mesh: Any, monkeypatch: pytest.MonkeyPatch
) -> np.ndarray:
    """Probability of every step s -> s' as the sampler decides it, (16, 16).

    One step of the sampler with 256 walkers: walker (s, s') stands at s and is offered
    s'.  Only its random numbers are replaced, and the largest one with which it still
    moves is found by bisection, to the last bit.
    """
    given: dict[str, Array] = {}
    original = independent.walker_bits

    def walker_bits(key: Array, n_local: int, n: int) -> Array:
        return given["words"][None] if n == 1 else original(key, n_local, n)

    def offer(params: Params, words: Array) -> tuple[Array, Array]:
        assert words.shape == (N, DIM**2)
        return jnp.tile(jnp.asarray(STATES), (DIM, 1)), jnp.tile(params, DIM)

    monkeypatch.setattr(independent, "walker_bits", walker_bits)
    psi, phi = table(), table()._replace(exact=Exact(sample=offer))
    sampler = independent.independent(psi, phi, log_q, spins(N), n_chains=DIM**2)

    def step(key: Array, params: Params, uniform: Array) -> tuple[Array, Array]:
        # The sampler takes words of 32 bits, as floats here: any number below one.
        given["words"] = uniform.reshape(-1) * 2.0**32
        start = jnp.repeat(jnp.asarray(STATES), DIM, axis=0)
        _, samples, info = sampler.sample(key, params, start)
        return samples[0], info.acceptance

    program = distributed.compiled(step, mesh, (REPLICATED,) * 3, (REPLICATED,) * 2)

    def moves(uniform: np.ndarray) -> np.ndarray:
        end, rate = program(root_key(1), log_p, uniform)
        end = np.asarray(end).reshape(DIM, DIM, N)
        moved = np.all(end == STATES[None], axis=2)
        assert np.all(moved | np.all(end == STATES[:, None], axis=2))
        off = ~np.eye(DIM, dtype=bool)
        assert rate == (moved[off].sum() + np.sum(uniform[~off] < 1)) / DIM**2
        return moved

    low, high = np.zeros((DIM, DIM)), np.ones((DIM, DIM))
    assert np.all(moves(low)), "a number of 0 always accepts"
    for _ in range(60):
        middle = (low + high) / 2
        ok = moves(middle)
        low, high = np.where(ok, middle, low), np.where(ok, high, middle)
    return high


def test_kernel_of_all_states(
    mesh_of: MeshOf, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stationary law, relaxation (J. S. Liu, Stat. Comput. 6, 113) and acceptance."""
    log_p, log_q = 1.2 * rng.normal(size=(2, DIM))
    log_p, log_q = (x - np.log(np.sum(np.exp(x))) for x in (log_p, log_q))
    p, q = np.exp(log_p), np.exp(log_q)
    accept = acceptance(log_p, log_q, mesh_of(1), monkeypatch)
    assert np.any(accept < 0.1) and np.mean(accept == 1) > 0.4
    kernel = q[None, :] * accept
    np.fill_diagonal(kernel, 0)
    np.fill_diagonal(kernel, 1 - kernel.sum(axis=1))
    np.testing.assert_allclose(p @ kernel, p, rtol=0, atol=1e-15)
    balance = p[:, None] * kernel
    np.testing.assert_allclose(balance, balance.T, rtol=0, atol=1e-16)
    root = np.sqrt(p)
    values = np.linalg.eigvalsh(root[:, None] * kernel / root[None, :])
    np.testing.assert_allclose(values[-1], 1, rtol=1e-14)
    np.testing.assert_allclose(values[-2], 1 - 1 / np.max(p / q), rtol=1e-13)
    mean = np.sum(p[:, None] * q[None, :] * accept)
    both = np.minimum(np.outer(p, q), np.outer(q, p))
    np.testing.assert_allclose(mean, np.sum(both), rtol=1e-14)

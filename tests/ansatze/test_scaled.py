"""Scaled vectors: values, phases, zeros, gradients and the calibrated start."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ansatze.convac import convac
from ansatze.cp import cp
from ansatze.scaled import (
    LOG_ZERO,
    draw_state,
    log_amplitude,
    log_quotient,
    near_one,
    product,
    renormalise,
)
from ansatze.ttn import ttn
from tests.ansatze.cases import quick_jit
from vmc.base import Problem
from vmc.space import spins


@pytest.mark.parametrize("is_complex", [False, True])
def test_values_survive(rng: np.random.Generator, is_complex: bool) -> None:
    v = rng.normal(size=(3, 4, 5)) * 10.0 ** rng.integers(-9, 9, (3, 4, 1))
    v = v * (1 + 2j) if is_complex else v
    s = rng.normal(size=(3, 4))
    unit, scale = renormalise(jnp.asarray(v), jnp.asarray(s))
    np.testing.assert_allclose(np.max(np.abs(unit), axis=-1), 1, atol=1e-15)
    want = v * np.exp(s)[..., None]
    np.testing.assert_allclose(unit * np.exp(scale)[..., None], want, rtol=1e-13)
    unit, scale = product(jnp.asarray(v), jnp.asarray(s), 1)
    np.testing.assert_allclose(
        unit * np.exp(scale)[..., None], np.prod(want, axis=1), rtol=1e-12
    )


def test_zeros_phases_and_range() -> None:
    zero, scale = renormalise(jnp.zeros((2, 3)), jnp.ones(2))
    assert np.all(zero == 0) and np.all(scale == 1)
    out = log_amplitude(jnp.array([2.0, -2.0, 0.0]), jnp.full(3, 5000.0))
    np.testing.assert_allclose(out[:2], np.log(2) + 5000 + np.array([0, 1j * np.pi]))
    assert out[2] == LOG_ZERO
    out = log_amplitude(jnp.array([2j, 0]), jnp.zeros(2))
    np.testing.assert_allclose(out[0], np.log(2j))
    new, old = jnp.array([1.0, 0.0, 1.0, 0.0]), jnp.array([-2.0, 1.0, 0.0, 0.0])
    want = [-np.log(2) + 1j * np.pi, LOG_ZERO, -LOG_ZERO, 0]
    np.testing.assert_allclose(log_quotient(new, old), want)


@pytest.mark.parametrize("real", [np.float32, np.float64])
def test_draws_never_take_an_impossible_state(real: type) -> None:
    words = jnp.array([0, 2**31, 2**32 - 1, 0, 2**32 - 1], jnp.uint32)
    last, first = [0.25, 0.75, 0.0], [0.0, 0.3, 0.1]
    weights = jnp.array([last, last, last, first, first], real).T
    index, log_prob = quick_jit(draw_state)(weights, words)
    assert index.tolist() == [0, 1, 1, 1, 2] and log_prob.dtype == real
    want = np.log(np.array([0.25, 0.75, 0.75, 0.75, 0.25]))
    np.testing.assert_allclose(log_prob, want, rtol=1e-6)


def test_gradients_are_exact_and_zero_at_zeros() -> None:
    def value(x: jax.Array) -> jax.Array:
        v, s = renormalise(x * 1e-200, jnp.zeros(()))
        v, s = product(jnp.stack([v, v + 0.5 * v[::-1]]), jnp.stack([s, s]), 0)
        return log_amplitude(jnp.sum(v), s)

    x = jnp.array([1 + 2j, -0.3j, 0.7])
    got = quick_jit(jax.grad(value, holomorphic=True))(x)

    def plain(x: jax.Array) -> jax.Array:
        return jnp.log(jnp.sum(x * (x + 0.5 * x[::-1])))

    want = quick_jit(jax.grad(plain, holomorphic=True))(x)
    np.testing.assert_allclose(got, want, rtol=1e-13)
    dead = quick_jit(jax.grad(lambda x: log_amplitude(x, jnp.zeros(())).real))(0.0)
    assert dead == 0


@pytest.mark.parametrize(
    ("family", "dtype"),
    [
        (cp, "complex"),
        pytest.param(cp, "real", marks=pytest.mark.slow),
        *(
            pytest.param(family, dtype, marks=pytest.mark.slow)
            for family in (convac, ttn)
            for dtype in ("real", "complex")
        ),
    ],
)
def test_start_is_calibrated(family, dtype: str) -> None:
    """Spread 0.5 of Re log psi on other configurations than it was set with."""
    space = spins(16, total_sz=0)
    wf = family(Problem(space, dtype=dtype))
    params = quick_jit(wf.init)(jax.random.key(5))
    bits = jax.random.bits(jax.random.key(9), (16, 2048), jnp.uint32)
    out = np.asarray(quick_jit(wf.log_psi)(params, space.random(bits)))
    assert 0.4 < np.std(out.real) < 0.6
    if dtype == "real":
        assert np.all(out.imag == 0), "psi starts without sign changes"
    assert wf.exact is None, "a tree does not conserve Sz"


def test_near_one_keeps_signs(rng: np.random.Generator) -> None:
    noise = jnp.asarray(rng.normal(size=1000))
    out = near_one(noise, jnp.asarray(2.0))
    assert np.all(np.asarray(out) > 0)
    small = near_one(noise * (1 + 1j), jnp.asarray(1e-6))
    np.testing.assert_allclose(small, 1 + 1e-6 * noise * (1 + 0.5j), atol=1e-10)

"""Scaled vectors: numbers far outside the range of floating point, kept exact.

A scaled vector (v, s) stands for v exp(s), with v of order one along its last axis
and a real logarithm s.  Products over thousands of sites then neither overflow nor
underflow, at the cost of one division per node; and since the norm that is divided
out is a constant to differentiation and comes back through s, gradients are exact.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from vmc import elementary
from vmc.base import Key, Params, Problem
from vmc.wavefunction import float_dtype

#: Re log psi of an exact zero: finite, and far below any other amplitude.
LOG_ZERO = -1e30

#: Standard deviation of Re log psi over random configurations at the start.  A
#: random vector of Hilbert space has pi / (2 sqrt 6) = 0.64.
TARGET_SPREAD = 0.5

#: Limits of the scale that `calibrate` chooses from, and its number of bisections.
SCALES = (1e-3, 4.0)
BISECTIONS = 14


def largest(v: Array, axis: int = -1) -> Array:
    """max |v| along an axis (kept, length 1), 1 where all are zero.

    A constant to differentiation.
    """
    size = jnp.max(jnp.abs(lax.stop_gradient(v)), axis=axis, keepdims=True)
    return jnp.where(size > 0, size, jnp.ones_like(size))


def renormalise(v: Array, log_scale: Array) -> tuple[Array, Array]:
    """The same scaled vectors with max |v| = 1; zero vectors stay as they are.

    Args:
        v: real or complex (..., c).
        log_scale: real (...).

    Returns:
        (v, log_scale) of the same shapes.
    """
    size = largest(v)
    return v / size, log_scale + jnp.log(size[..., 0])


def product(v: Array, log_scale: Array, axis: int) -> tuple[Array, Array]:
    """Elementwise product of scaled vectors along one axis, renormalised.

    Args:
        v: (..., c).
        log_scale: real (...), without the last axis of v.
        axis: a non-negative axis other than the last.

    Returns:
        (v, log_scale) without that axis.
    """
    return renormalise(jnp.prod(v, axis=axis), jnp.sum(log_scale, axis=axis))


def log_amplitude(value: Array, log_scale: Array) -> Array:
    """Log psi = log(value) + log_scale, complex; exact zeros give Re = LOG_ZERO.

    A negative real value has the phase pi.  The derivative is exact, and holomorphic
    for complex values; it is 0 where the amplitude is zero.

    Args:
        value: real or complex (...).
        log_scale: real (...).

    Returns:
        Complex (...).
    """
    zero = value == 0
    safe = jnp.where(zero, jnp.ones_like(value), value)
    if jnp.iscomplexobj(value):
        log = elementary.log(safe) + log_scale
    else:
        phase = jnp.asarray(math.pi, value.dtype) * (safe < 0).astype(value.dtype)
        log = lax.complex(elementary.log(jnp.abs(safe)) + log_scale, phase)
    return jnp.where(zero, jnp.full_like(log, LOG_ZERO), log)


def log_quotient(new: Array, old: Array) -> Array:
    """log(new / old), complex; zeros count as exp(LOG_ZERO)."""
    dead, empty = new == 0, old == 0
    one = jnp.ones_like(new)
    quotient = jnp.where(dead, one, new) / jnp.where(empty, one, old)
    log = log_amplitude(quotient, jnp.zeros(new.shape, new.real.dtype))
    real = log.real.dtype
    jump = LOG_ZERO * (dead.astype(real) - empty.astype(real))
    return jnp.where(jump == 0, log, jump.astype(log.dtype))


def draw_state(weights: Array, words: Array) -> tuple[Array, Array]:
    """Draw a state per column in proportion to its weight; never one of weight 0.

    Args:
        weights: real (d, B), not negative, with a positive sum.
        words: uint32 (B,), uniform random words.

    Returns:
        Index of the state, int32 (B,), and the logarithm of its probability, (B,).
    """
    real = weights.dtype
    # Just below one, so that no product with it rounds up to the whole sum.
    top = 1 - jnp.finfo(real).epsneg
    uniform = jnp.minimum(words.astype(real) * 2.0**-32, top.astype(real))
    # Sums in a fixed order never decrease: a weight of 0 adds an empty interval.
    sums = [weights[0]]
    for weight in weights[1:]:
        sums.append(sums[-1] + weight)
    index = jnp.zeros(words.shape, jnp.int32)
    chosen = weights[0]
    for before, weight in zip(sums[:-1], weights[1:]):
        beyond = before <= uniform * sums[-1]
        index = index + beyond.astype(jnp.int32)
        chosen = jnp.where(beyond, weight, chosen)
    return index, jnp.log(chosen / sums[-1])


def weight_dtype(problem: Problem) -> np.dtype:
    """Dtype of the weights of a tensor network: real, or complex by default.

    Raises:
        JobError: float64 is wanted but JAX runs without it.
    """
    real = float_dtype(problem)
    return np.result_type(real, np.complex64) if problem.dtype == "complex" else real


def soft_normal(key: Key, shape: tuple[int, ...], dtype: np.dtype) -> Array:
    """Normal numbers, with half as large imaginary parts where they are complex.

    At the start the phases of psi should scatter less than a full turn.
    """
    noise = jax.random.normal(key, shape, dtype)
    if jnp.iscomplexobj(noise):
        noise = lax.complex(noise.real, 0.5 * noise.imag)
    return noise


def near_one(noise: Array, scale: Array) -> Array:
    """Weights exp(scale noise), for a start that is close to the uniform state.

    To first order 1 + scale * noise, but never of the other sign, so that psi starts
    without sign changes.  Half as much noise goes into the phases, and never so much
    that they turn freely: small circuits need a large scale.

    Args:
        noise: standard normal numbers, real or complex.
        scale: positive real scalar.

    Returns:
        Weights like the noise.
    """
    if not jnp.iscomplexobj(noise):
        return jnp.exp(scale.astype(noise.dtype) * noise)
    scale = scale.astype(noise.real.dtype)
    phase = 0.5 * jnp.minimum(scale, 0.5) * noise.imag
    return jnp.exp(lax.complex(scale * noise.real, phase))


def calibrate(
    log_psi: Callable[[Params, Array], Array],
    params_of_scale: Callable[[Array], Params],
    problem: Problem,
    key: Key,
) -> Params:
    """Parameters whose amplitudes have a sensible spread, by bisection.

    Amplitudes of products over N sites spread exponentially in N if the weights are
    simply drawn at random.  The scale of the noise is bisected (in its logarithm)
    until Re log psi has the standard deviation `TARGET_SPREAD` over random
    configurations.  Deterministic in the key; may be traced.

    Args:
        log_psi: (params, sigma (B, N)) -> log psi (B,).
        params_of_scale: positive real scalar -> parameters; the spread grows with it.
        problem: gives configurations and precision.
        key: for the configurations.

    Returns:
        Parameters at the largest scale tried whose spread is at most the target, or
        at the lower limit of `SCALES`.
    """
    # Fewer configurations where each one averages over more sites.
    n_rows = min(1024, max(128, 2**17 // problem.space.n_sites))
    sigma = problem.space.random(
        jax.random.bits(key, (problem.space.n_sites, n_rows), jnp.uint32)
    )
    real = jnp.dtype(problem.precision)

    def halve(_: int, limits: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = limits
        middle = 0.5 * (low + high)
        out = log_psi(params_of_scale(jnp.exp(middle)), sigma).real
        spread = jnp.std(out)
        # A spread that is not a number counts as too large.
        small = spread <= TARGET_SPREAD
        return jnp.where(small, middle, low), jnp.where(small, high, middle)

    limits = tuple(jnp.asarray(math.log(x), real) for x in SCALES)
    low, _ = lax.fori_loop(0, BISECTIONS, halve, (limits[0], limits[1]))
    return params_of_scale(jnp.exp(low))


def without_phase(
    log_psi: Callable[[Params, Array], Array],
    params: Params,
    leaf: str,
    power: int,
    problem: Problem,
    key: Key,
) -> Params:
    """Parameters turned by one phase, so that psi scatters around positive numbers.

    Complex noise turns all amplitudes by some common phase, which means nothing, but
    would put the cut of the logarithm anywhere among them.

    Args:
        log_psi: (params, sigma (B, N)) -> log psi (B,).
        params: a dictionary; returned unchanged if psi is real.
        leaf: the parameter to turn.
        power: how often it is a factor of psi.
        problem: gives configurations.
        key: for the configurations.
    """
    if problem.dtype == "real":
        return params
    bits = jax.random.bits(key, (problem.space.n_sites, 64), jnp.uint32)
    phase = log_psi(params, problem.space.random(bits)).imag
    angle = jnp.arctan2(jnp.mean(jnp.sin(phase)), jnp.mean(jnp.cos(phase))) / power
    turn = lax.complex(jnp.cos(angle), -jnp.sin(angle))
    return params | {leaf: params[leaf] * turn}


def calibrated_start(
    log_psi: Callable[[Params, Array], Array],
    params_of_scale: Callable[[Array], Params],
    problem: Problem,
    key: Key,
    leaf: str,
    power: int = 1,
) -> Params:
    """Parameters whose amplitudes have a sensible spread around positive numbers.

    `calibrate` and then `without_phase`, whose arguments these are.
    """
    params = calibrate(log_psi, params_of_scale, problem, key)
    return without_phase(log_psi, params, leaf, power, problem, key)

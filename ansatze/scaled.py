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
from jax import Array, lax

from vmc.base import Key, Params, Problem

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
        log = jnp.log(safe) + log_scale
    else:
        phase = jnp.asarray(math.pi, value.dtype) * (safe < 0).astype(value.dtype)
        log = lax.complex(jnp.log(jnp.abs(safe)) + log_scale, phase)
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


def near_one(noise: Array, scale: Array) -> Array:
    """Weights exp(scale noise), for a start that is close to the uniform state.

    To first order 1 + scale * noise, but never of the other sign, so that psi starts
    without sign changes.  Half as much noise goes into the phases.

    Args:
        noise: standard normal numbers, real or complex.
        scale: positive real scalar.

    Returns:
        Weights like the noise.
    """
    if jnp.iscomplexobj(noise):
        noise = lax.complex(noise.real, 0.5 * noise.imag)
    return jnp.exp(scale.astype(noise.dtype) * noise)


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

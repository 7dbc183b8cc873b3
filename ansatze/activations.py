"""Nonlinear pieces of deep networks, safe against overflow.

Features have the walkers on the last axis, which keeps every loop over elements
contiguous: (C channels, P positions, B walkers).
"""

from __future__ import annotations

import math

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from ansatze.scaled import log_amplitude
from vmc import elementary

#: Variance below which `layer_norm` does not divide any more.
EPSILON = 1e-6

#: Sums of terms of order one below this many rounding errors are zero.
ROUNDING = 8


def soft_abs(x: Array) -> Array:
    """sqrt(1 + x^2) - 1: even in x, and |x| where that is large.

    As the first activation, after a layer without bias, it makes a network exactly
    even under the global spin flip.
    """
    return jnp.sqrt(1 + x * x) - 1


def log_cosh(z: Array) -> Array:
    """Ln cosh z of real or complex z, without overflow."""
    if jnp.iscomplexobj(z):
        return lax.complex(*log_cosh_planes(z.real, z.imag))
    size = jnp.abs(z)
    return size + elementary.log(1 + jnp.exp(-2 * size)) - math.log(2.0)


def log_cosh_planes(re: Array, im: Array) -> tuple[Array, Array]:
    """Real and imaginary part of ln cosh, of real and imaginary part.

    XLA drops the part that is not asked for, which it cannot do with complex numbers.
    """
    sign = jnp.where(re < 0, -1, 1).astype(re.dtype)
    re, im = re * sign, im * sign
    size = jnp.exp(-2 * re)
    cos, sin = elementary.cos_sin(2 * im)
    one_plus, turned = 1 + size * cos, -size * sin
    squares = one_plus**2 + turned**2
    re = re + 0.5 * elementary.log(squares) - math.log(2.0)
    return re, im + elementary.arctan2(turned, one_plus)


def layer_norm(x: Array, scale: Array, shift: Array) -> Array:
    """Features with mean 0 and variance 1 over the channels, times scale plus shift.

    Args:
        x: (C, ...).
        scale: (C,).
        shift: (C,).

    Returns:
        (C, ...), arXiv:1607.06450.
    """
    centred = x - jnp.mean(x, axis=0, keepdims=True)
    variance = jnp.mean(centred * centred, axis=0, keepdims=True)
    each = (-1,) + (1,) * (x.ndim - 1)
    centred = centred * lax.rsqrt(variance + EPSILON)
    return centred * scale.reshape(each) + shift.reshape(each)


def weighted_log_sum(y: Array, weights: np.ndarray) -> Array:
    """Log of the mean over t of w_t exp(y_t), without overflow.

    Args:
        y: real or complex (T, B).
        weights: w, real or complex (T,).

    Returns:
        (B,): real if y is real and no weight is negative or complex, otherwise
        complex, with Re = -1e30 where the sum is zero up to rounding.
    """
    real = y.real.dtype
    top = jnp.max(lax.stop_gradient(y.real), axis=0)
    terms = elementary.exp(y - top[None])
    if np.any(weights != 1):
        kind = np.result_type(real, np.complex64) if np.iscomplexobj(weights) else real
        terms = terms * jnp.asarray(weights, kind)[:, None]
    mean = jnp.mean(terms, axis=0)
    if not signed(weights):
        if jnp.iscomplexobj(y):
            return log_amplitude(mean, top)
        return elementary.log(mean) + top
    # Where the weights cancel the terms exactly, rounding is left of them.
    rounding = ROUNDING * jnp.finfo(real).eps
    mean = jnp.where(jnp.abs(mean) > rounding, mean, jnp.zeros_like(mean))
    return log_amplitude(mean, top)


def signed(weights: np.ndarray) -> bool:
    """Whether a weight is not a positive number."""
    return np.iscomplexobj(weights) or bool(np.any(weights < 0))

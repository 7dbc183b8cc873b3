"""How far the model of a step can be trusted: Levenberg-Marquardt for samples.

A step d promises a change of the energy; the next samples tell what came of it.  For
a trust region both are needed, but the noise of two energies hides the change of most
steps.  Slopes along the step have far less of it.  With the forces F at both ends,

before = 2 Re F_k . d_k (< 0),   after = 2 Re F_(k+1) . d_k,

and where the energy is quadratic along d, it changes by (before + after) / 2.  The
ratio after / before is 1 for a step much shorter than the way to the minimum, 0 for
one that ends there, and -1 for one that is as high on the other side.  The gain is

gain = (before + after) / (2 before) = (1 + after / before) / 2

of what the slope had promised.  Below a quarter, after / before < -1/2, the diagonal
shift is raised by `RAISE` and the step shortened by its root; above three quarters,
after / before > 1/2, both go back by `RELAX`.  These are the usual limits of a trust
region (Nocedal and Wright, Numerical Optimization, 4.1).

F_(k+1) . d_k is the covariance of local energies with the scores along d, and d is
from other samples: with d^H S d = K / 2 (`vmc.precondition.limit_kl`) its squared
error is close to 2 K Var(E) / Ns, which a step that is too long exceeds by far.  Both
tests count in these errors, with a memory of about three steps; the shift is raised
for what is `ERRORS` of them off.  The slope before a step is from the samples that made
it, and so exaggerated by their noise, by 2 eta d_eff Var(E) / Ns.  At the end of a run,
where that is nearly all of it, the slope after is positive but small: noise alone
raises no shift.

The factor is one on what the schedule and the noise of a step ask for, and never below
one.  Optimisers without a KL divergence are left alone.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from vmc.base import Params

#: Factor on the shift where a step overshoots, and by which it goes back otherwise:
#: where steps are shorter than need be, and in between.
RAISE, RELAX, EASE = 4.0, 1.04, 1.01
#: It goes no further than that.
MOST = RAISE**6
#: Limits of after / before.
OVERSHOOT, SHORT = -0.5, 0.5
#: Standard errors beyond the limit.
ERRORS = 4.0
#: What a single step can say at most, in standard errors: that it was short, or long.
#: Where steps overshoot, every other one may go back the same way and look short.
LEAST_WORD, LAST_WORD = -6.0, 100.0
#: Part of the sums that a step leaves.
MEMORY = 0.7


class Damping(NamedTuple):
    """What is carried from step to step; equal on every device.

    Attributes:
        factor: on the diagonal shift, >= 1.
        last: parameters before the last step.
        slope: of the energy along it, before it; nan if there was none.
        kl: its KL divergence.
        noise: of the local energies that it is from, Var(E) / Ns.
        over: decaying sum of (after - OVERSHOOT before) / error, > 0 where steps are
            too long.
        short: of (after - SHORT before) / error, < 0 where they could be longer.
        weight: of the squares of what entered the sums, each 1.
    """

    factor: Any
    last: Params
    slope: Any
    kl: Any
    noise: Any
    over: Any
    short: Any
    weight: Any


class Slopes(NamedTuple):
    """Change of the energy along two steps, to first order.

    Attributes:
        after: along the last step, at its end; means nothing if that was no step.
        before: along the new step, at its start.
        kl: KL divergence of the new step, or nan.
        variance: of the local energies that the slopes are from.
        size: number of those, infinite for full sums.
    """

    after: Array
    before: Array
    kl: Array
    variance: Array
    size: float


def start(params: Params, dtype: Any) -> Damping:
    """The model is trusted.

    Args:
        params: parameters.
        dtype: of the numbers.
    """
    zero, one = np.zeros((), dtype), np.ones((), dtype)
    none = np.full((), np.nan, dtype)
    return Damping(one, params, none, zero, zero, zero, zero, zero)


def slope(gradient: Params, step: Params) -> Array:
    """Change of the energy per unit of a step, to first order.

    Args:
        gradient: 2F, a pytree.
        step: change of the parameters, likewise.

    Returns:
        2 Re F^H d, a real scalar.
    """
    parts = jax.tree.map(lambda g, d: jnp.sum((jnp.conj(g) * d).real), gradient, step)
    return jnp.sum(jnp.stack(jax.tree.leaves(parts)))


def learned(
    damping: Damping, slopes: Slopes, params: Params, good: Array, new: Array
) -> Damping:
    """What the last step was worth, and what the new one promises.

    Args:
        damping: before.
        slopes: along both.
        params: parameters between them.
        good: whether these are.
        new: whether the next samples are from the end of the new step.
    """
    dtype = damping.factor.dtype
    after, before, kl, variance = (x.astype(dtype) for x in slopes[:4])
    noise = variance / slopes.size
    error = jnp.sqrt(2 * damping.kl * (noise + OVERSHOOT**2 * damping.noise))
    known = good & jnp.isfinite(damping.slope + after + error)
    # No step; without errors (in full sums) the sign is certain.
    known &= (error > 0) | (damping.slope != 0)

    def summed(old: Array, limit: float) -> Array:
        off = (after - limit * damping.slope) / error
        off = jnp.clip(jnp.nan_to_num(off, nan=0.0), LEAST_WORD, LAST_WORD)
        return jnp.where(known, MEMORY * old + off, old)

    over, short = summed(damping.over, OVERSHOOT), summed(damping.short, SHORT)
    weight = jnp.where(known, MEMORY**2 * damping.weight + 1, damping.weight)
    too_long = known & (over > ERRORS * jnp.sqrt(weight))
    relax = jnp.where(short < 0, RELAX, EASE)
    factor = jnp.where(known, jnp.maximum(damping.factor / relax, 1.0), damping.factor)
    factor = jnp.where(too_long, jnp.minimum(RAISE * damping.factor, MOST), factor)
    # The same evidence is not used twice.
    sums = [jnp.where(too_long, 0.0, x) for x in (over, short, weight)]
    slope = jnp.where(new, before, jnp.nan)
    numbers = [x.astype(dtype) for x in (factor, slope, kl, noise, *sums)]
    return Damping(numbers[0], params, *numbers[1:])

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
from other samples: its error follows from the spread of their shares, and a step that
is too long exceeds it by far.  (2 K Var(E) / Ns, with d^H S d = K / 2, would be its
square if energies and scores knew nothing of one another.  Near nodes of psi both are
large: on a frustrated lattice that was off so far that noise raised the shift a
thousand times.)  The shift is raised at once for what is `ERRORS` of them beyond the
limit: a step that is too long spoils the next ones, and one raise too many costs
little.  The slope before a step is from the samples that made it, and so exaggerated by
their noise, by 2 eta d_eff Var(E) / Ns.  At the end of a run, where that is nearly all
of it, the slope after is positive but small: noise alone hardly raises the shift.

The factor is one on what the schedule and the noise of a step ask for, and never below
one.  Optimisers without scores are left alone.
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
ERRORS = 2.0


class Damping(NamedTuple):
    """What is carried from step to step; equal on every device.

    Attributes:
        factor: on the diagonal shift, >= 1.
        last: parameters before the last step.
        slope: of the energy along it, before it; nan if there was none.
    """

    factor: Any
    last: Params
    slope: Any


class Slopes(NamedTuple):
    """Change of the energy along two steps, to first order.

    Attributes:
        after: along the last step, at its end; means nothing if that was no step.
        variance: of ``after``, 0 in full sums.
        before: along the new step, at its start; nan where no step is to be judged.
    """

    after: Array
    variance: Array
    before: Array


def start(params: Params, dtype: Any) -> Damping:
    """The model is trusted.

    Args:
        params: parameters.
        dtype: of the numbers.
    """
    return Damping(np.ones((), dtype), params, np.full((), np.nan, dtype))


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
    after, variance, before = (x.astype(dtype) for x in slopes)
    # That of the slope before the step is much the same.
    error = jnp.sqrt((1 + OVERSHOOT**2) * variance)
    known = good & jnp.isfinite(damping.slope + after + error)
    # Without errors (in full sums) the sign is certain, unless there was no step.
    known &= (error > 0) | (damping.slope != 0)
    too_long = after - OVERSHOOT * damping.slope > ERRORS * error
    relax = jnp.where(after < SHORT * damping.slope, RELAX, EASE)
    factor = jnp.where(
        too_long,
        jnp.minimum(RAISE * damping.factor, MOST),
        jnp.maximum(damping.factor / relax, 1.0),
    )
    factor = jnp.where(known, factor, damping.factor)
    slope = jnp.where(new, before, jnp.nan)
    return Damping(factor.astype(dtype), params, slope.astype(dtype))

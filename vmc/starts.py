"""Random first parameters of which |psi|^2 is a few peaks: drawn closer to zero.

Walkers that start on such peaks stay there.  Gradients know what walkers have seen:
the search ends in the lowest state of the configurations that are on peaks, with a
variance that goes to zero, and nothing tells that there are others.

How uneven |psi|^2 = p is says the symmetric divergence from uniform weights u,

J = KL(p, u) + KL(u, p) = <ln p>_p - <ln p>_u,

which needs no norm.  Both means are taken over uniformly random configurations, the
first with weights p; that makes J too small where it is large, which does not matter.
It is 0.05 for eight spins and default weights, 2.3 for the ground state of a Heisenberg
chain of eight, and 7 to 15 for weights ten times too large, of which a third (all, with
a sign problem) get stuck.

The first step of a run looks at J and, where there is too much of it, halves all
parameters instead of moving them; then the next step looks again.  It leaves them as
they are once J does not come down: of a tensor network it does not depend on the scale.
Parameters that were given, of an earlier run for instance, or that are the same for
every seed, are not touched.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from vmc import distributed
from vmc.base import Key, Params, Space, WaveFunction
from vmc.keys import root_key, walker_bits

#: J per site, and J, that may stay.
PER_SITE, LEAST = 0.5, 4.0
#: What the parameters are multiplied by.
SHRINK = 0.5
#: J in units of the one before that is no progress.
PROGRESS = 0.9


def are_random(init: Callable[[Key], Params]) -> bool:
    """Whether first parameters depend on the key: others are meant as they are.

    Args:
        init: key -> parameters; it is traced, not run.
    """
    traced = jax.make_jaxpr(init)(root_key(0)).jaxpr
    # A flax module splits keys that a constant never asks for.
    reached = {id(x) for x in traced.invars}
    for equation in traced.eqns:
        if any(id(x) in reached for x in equation.invars):
            reached |= {id(x) for x in equation.outvars}
    return any(id(x) in reached for x in traced.outvars)


def unevenness(
    wavefunction: WaveFunction, params: Params, space: Space, key: Key, n_local: int
) -> Array:
    """J, estimated; the same on every device.

    Args:
        wavefunction: psi.
        params: its parameters.
        space: the configurations.
        key: of the random configurations.
        n_local: how many this device draws.

    Returns:
        A real scalar, >= 0; not finite where psi is 0 or no number.
    """
    sigma = space.random(walker_bits(key, n_local, space.n_sites))
    log_p = 2 * wavefunction.log_psi(params, sigma).real
    top = distributed.largest(jnp.max(log_p))
    p = jnp.exp(log_p - top)
    ones = jnp.ones_like(p)
    weight, weighted, plain, count = distributed.total(
        (jnp.sum(p), jnp.sum(p * log_p), jnp.sum(log_p), jnp.sum(ones))
    )
    return weighted / weight - plain / count


def is_uneven(found: Array, before: Array, n_sites: int) -> Array:
    """Whether random parameters are to be shrunk.

    Args:
        found: their `unevenness`.
        before: that of the parameters that they were shrunk from; infinite at first.
        n_sites: N.
    """
    limit = max(LEAST, PER_SITE * n_sites)
    return (found > limit) & (found < PROGRESS * before)


def shrunk(params: Params) -> Params:
    """Parameters closer to zero."""
    return jax.tree.map(lambda x: (SHRINK * x).astype(x.dtype), params)

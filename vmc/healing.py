"""What a run does about a bad step: notice it, go back, try again with more care.

The samples of a step judge the update before it.  A point is bad if its energy is not
finite or off that of earlier good points by more than statistics allow, if the walkers
stand still all at once, if cached amplitudes have drifted, or if too many walkers are
where psi is no number.  Parameters, optimiser and walkers then return to the last good
point (kept beside the present ones: twice the memory of parameters and optimiser), and
the next step starts there again, with new random numbers, with `CAUTION` times the
diagonal shift and a shorter step.  An update that is not finite is not taken, with the
same consequences.  Care goes down again over good steps; after more than `RETRIES`
failures without a new good point in between, the run ends.

Everything happens inside the traced step, from numbers that all devices have.  Steps
that are too long without being bad are the business of `vmc.damping`, and random first
parameters that no walker gets away from that of `vmc.starts`.

A healthy run hardly ever trips over it.  A point of energy E, standard error err and
local-energy variance V shows that the run can be below U = E + sqrt(V) + 4 err +
|E| / 1000; the lowest U so far, which slowly forgets, is the ceiling.  A later point is
bad if

E - 4 err > ceiling.

To first order a step of KL divergence K changes the energy by at most sqrt(2 K V):
steps that are limited to K = 0.02 stay below 0.2 sqrt(V).  The rest has to come from
noise, of eight standard errors and 0.8 sqrt(V), which for Ns independent samples are
another 0.8 sqrt(Ns): Gaussian noise of two energies does that with a probability below
1e-20 for Ns = 64.  Rare large local energies, which are not Gaussian, raise err with E:
one of them alone makes no more than one standard error.  Next to an eigenstate V may
miss rare configurations and with them nearly everything: hence the last term.  As the
ceiling outlasts single steps, a run that climbs bit by bit is noticed, too.

Energies may fall, but a leap downwards is one into a state with walkers where psi is
tiny, and E_loc huge: with running means E_0, V_0 and err_0, E_0 - E > 10 sqrt(V_0) +
6 err_0 + |E_0| / 10 is as bad.  Where P(E_loc > x) goes like x^-3, as near a node, a
sample of Ns energies does so by chance with a probability of 1e-3 / Ns^2.

Walkers need some steps to follow a leap, and its energy shows bit by bit: a point is
worth returning to if its own U is at most ceiling + (U - E of the point that made the
ceiling).  That last good point itself, when the run is back there, sets a new ceiling
if it is above the old one: there is nothing better to return to.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array, lax

from vmc import damping
from vmc.base import Params

#: Factor on the diagonal shift after a failure; the step is shortened by its root.
CAUTION = 4.0
#: It goes no further than that.
MOST_CAUTION = CAUTION**6
#: Factor by which it goes down again with every good step: slowly, for what was too
#: bold once may be so again.
RELIEF = 1.03
#: Failures in a row that are borne.
RETRIES = 6
#: Standard errors on either side of the ceiling, standard deviations below it.
CEILING_ERRORS, CEILING_DEVIATIONS, CEILING_PART = 4.0, 1.0, 1e-3
#: What a fall may have in the errors and deviations of earlier points.
FALL_ERRORS, FALL_DEVIATIONS, FALL_PART = 6.0, 10.0, 0.1
#: Steps that running means look back, about, and in which the ceiling rises as far as
#: it was above the energy that made it.
MEMORY, CEILING_MEMORY = 10, 100
#: Part of the mean acceptance below which the walkers stand still all at once ...
COLLAPSE = 0.02
#: ... where that is no accident of the moves that were drawn: least number of moves
#: in a step, and of accepted ones.  If moves that carry nearly all acceptance are an
#: eighth of all, the chance to draw none of them in 64 is 2e-4, and smaller in larger
#: systems.
COLLAPSE_MOVES, COLLAPSE_ACCEPTED = 64, 1000
#: Part of the walkers that may be replaced in a step.
SICK_PART = 0.1


class Healing(NamedTuple):
    """What is carried from step to step; part of the state of a run.

    Attributes:
        caution: factor on the diagonal shift, >= 1.
        failures: since a new point was last found good.
        fresh: whether the present parameters have not been judged yet.
        seen: good points so far, at most `MEMORY`.
        ceiling: lowest U so far; infinite before the first good point.
        width: U - E of the point that made it.
        energy: running mean over good points.
        variance: of the local energy, likewise.
        error2: squared standard error of an energy, likewise.
        acceptance: likewise.
        params: parameters of the last good point.
        opt_state: the optimiser's state there.
        chains: walkers there, after its samples.
        damping: how far the model of a step is trusted.  None, from a checkpoint that
            lacks it: starts anew, see `completed`.
        uneven: J of random parameters before they were shrunk, see `vmc.starts`;
            infinite before the first look, 0 once it is over or if there is none.
    """

    caution: Any
    failures: Any
    fresh: Any
    seen: Any
    ceiling: Any
    width: Any
    energy: Any
    variance: Any
    error2: Any
    acceptance: Any
    params: Params
    opt_state: Any
    chains: Any
    damping: Any = None
    uneven: Any = None


class Seen(NamedTuple):
    """What the samples of a step say about its parameters.

    Attributes:
        energy: mean local energy; nan if too many walkers were sick.
        variance: of the local energy.
        error2: squared standard error of ``energy``.
        acceptance: accepted / proposed moves.
        sound: whether the cache did not drift.
    """

    energy: Array
    variance: Array
    error2: Array
    acceptance: Array
    sound: Array


def start(
    params: Params, opt_state: Any, chains: Any, dtype: Any, *, random: bool = False
) -> Healing:
    """Nothing has gone wrong yet; there is no better point to return to.

    Args:
        params: where the run starts.
        opt_state: the optimiser's state there.
        chains: walkers.
        dtype: of the numbers, as `vmc.step.real_dtype` gives it.
        random: whether ``params`` are random numbers, which `vmc.starts` may shrink.
    """
    zero = np.zeros((), dtype)
    return Healing(
        caution=np.ones((), dtype),
        failures=np.zeros((), np.int32),
        fresh=np.asarray(True),
        seen=np.zeros((), np.int32),
        ceiling=np.full((), np.inf, dtype),
        width=zero,
        energy=zero,
        variance=zero,
        error2=zero,
        acceptance=zero,
        params=params,
        opt_state=opt_state,
        chains=chains,
        damping=damping.start(params, dtype),
        uneven=np.full((), np.inf if random else 0.0, dtype),
    )


def completed(healing: Healing) -> Healing:
    """With what older checkpoints lack."""
    if healing.damping is not None:
        return healing
    dtype = np.dtype(healing.caution.dtype)
    begin = damping.start(healing.params, dtype)
    return healing._replace(damping=begin, uneven=np.zeros((), dtype))


def total_caution(healing: Healing) -> Array:
    """Factor on the diagonal shift: after failures, and from damping."""
    return jnp.minimum(healing.caution * healing.damping.factor, MOST_CAUTION)


def is_good(
    healing: Healing, seen: Seen, n_moves: int, n_proposals: int
) -> tuple[Array, Array]:
    """Whether the parameters that gave these samples may stay.

    Args:
        healing: what is known of earlier points.
        seen: the samples.
        n_moves: moves that were drawn in this step, at least.
        n_proposals: proposals of all walkers in this step, at least.

    Returns:
        That, and whether they are worth returning to, bool scalars.
    """
    finite = jnp.isfinite(seen.energy) & jnp.isfinite(seen.variance)
    fall = FALL_DEVIATIONS * jnp.sqrt(healing.variance)
    fall = fall + FALL_ERRORS * jnp.sqrt(healing.error2)
    fall = fall + FALL_PART * jnp.abs(healing.energy)
    leapt = _is_above(healing, seen) | (healing.energy - seen.energy > fall)
    still = jnp.asarray(False)
    if n_moves >= COLLAPSE_MOVES:
        enough = healing.acceptance * n_proposals > COLLAPSE_ACCEPTED
        still = enough & (seen.acceptance < COLLAPSE * healing.acceptance)
    # With what it should be compared is known, and it is not that itself.
    comparable = (healing.seen > 0) & healing.fresh
    good = finite & seen.sound & ~(comparable & (leapt | still))
    limit = healing.ceiling + healing.width
    return good, good & (seen.energy + _width(seen) <= limit)


def _is_above(healing: Healing, seen: Seen) -> Array:
    error = CEILING_ERRORS * jnp.sqrt(seen.error2)
    return seen.energy - error > healing.ceiling


def _width(seen: Seen) -> Array:
    """U - E."""
    error = CEILING_ERRORS * jnp.sqrt(seen.error2)
    width = CEILING_DEVIATIONS * jnp.sqrt(seen.variance) + error
    return width + CEILING_PART * jnp.abs(seen.energy)


def remembered(healing: Healing, seen: Seen, good: Array) -> Healing:
    """Running means and a ceiling that know of a good point."""
    count = jnp.where(good, jnp.minimum(healing.seen + 1, MEMORY), healing.seen)
    weight = 1 / jnp.maximum(count, 1).astype(seen.energy.dtype)

    def mean(old: Array, new: Array) -> Array:
        new = old + weight.astype(old.dtype) * (new.astype(old.dtype) - old)
        return jnp.where(good, new, old)

    width = _width(seen).astype(healing.width.dtype)
    above = seen.energy.astype(width.dtype) + width
    # Above the ceiling and good: the last good point itself.
    new = good & ((above < healing.ceiling) | _is_above(healing, seen))
    rise = jnp.minimum(above - healing.ceiling, healing.width) / CEILING_MEMORY
    raised = healing.ceiling + jnp.where(good, rise, 0)
    return healing._replace(
        seen=count,
        ceiling=jnp.where(new, above, raised),
        width=jnp.where(new, width, healing.width),
        energy=mean(healing.energy, seen.energy),
        variance=mean(healing.variance, seen.variance),
        error2=mean(healing.error2, seen.error2),
        acceptance=mean(healing.acceptance, seen.acceptance),
    )


def judged(healing: Healing, good: Array, taken: Array) -> tuple[Healing, Array]:
    """Care and failures after a step.

    Args:
        healing: before it.
        good: whether its parameters may stay.
        taken: whether they may, and its update was finite too.

    Returns:
        ``healing``, and whether the run may go on.
    """
    new = taken & healing.fresh
    failures = jnp.where(new, 0, healing.failures + ~taken)
    goes_on = failures <= RETRIES
    relieved = jnp.maximum(healing.caution / RELIEF, 1.0)
    caution = jnp.where(new, relieved, healing.caution)
    more = jnp.minimum(CAUTION * healing.caution, MOST_CAUTION)
    caution = jnp.where(taken, caution, more)
    healing = healing._replace(
        caution=caution,
        # Who goes on from here has changed something.
        failures=jnp.where(goes_on, failures, 0).astype(jnp.int32),
        fresh=taken,
    )
    return healing, goes_on


def counted(opt_state: Any, step: Any) -> Any:
    """A state of an optimiser whose schedules are at another step.

    The moments of Adam keep the count that corrects them.
    """

    def belongs_to_schedule(path: Any, value: Any) -> bool:
        del value
        return getattr(path[-1], "tuple_name", "") != "ScaleByAdamState"

    find = optax.tree_utils.tree_get_all_with_path
    counts = find(opt_state, "count", filtering=belongs_to_schedule)
    if not counts:
        return opt_state
    step = jnp.asarray(step, jnp.result_type(counts[0][1]))
    return optax.tree_utils.tree_set(opt_state, belongs_to_schedule, count=step)


def either(condition: Any, one: Any, other: Any) -> Any:
    """One of two pytrees; a branch, since a selection of each leaf is a kernel each."""
    one, other = jax.tree.map(jnp.asarray, (one, other))
    return lax.cond(condition, lambda: one, lambda: other)

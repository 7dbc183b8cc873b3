"""One step: sample, local energies, estimate, force, precondition, apply."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array, lax

from vmc import damping, distributed, healing, starts
from vmc.base import (
    Hamiltonian,
    Key,
    Params,
    Sampler,
    SamplerInfo,
    VMCState,
    WaveFunction,
)
from vmc.distributed import BY_WALKER, REPLICATED
from vmc.errors import NumericalError
from vmc.estimators import clipped, local_energies, weighted_scores
from vmc.geometry import Geometry
from vmc.healing import Healing, Seen, either
from vmc.keys import derive
from vmc.penalties import Penalty, own, penalised, with_own
from vmc.walkers import Drawn, cured

#: Largest tolerated difference of a cached and a recomputed Re log psi.
DRIFT_LIMIT = {"float64": 1e-6, "mixed": 5e-2, "float32": 5e-2}
#: What the compiled step reports; "ok" is 0 where the run cannot go on.
TRACED = (
    "energy",
    "variance",
    "acceptance",
    "grad_norm",
    "update_norm",
    "kl",
    "diag_shift",
    "condition",
    "learning_rate",
    "drift",
    "rank",
    "rejected",
    "replaced",
    "shrunk",
    "ok",
)


def real_dtype(precision: str) -> Any:
    """Dtype of what is reported at a precision."""
    return jnp.float32 if precision == "float32" else jnp.float64


class Carry(NamedTuple):
    """What one traced step hands to the next; ``good`` falls once and stays."""

    params: Params
    opt_state: Any
    chains: Any
    healing: Healing
    good: Array | np.ndarray


def carry_specs() -> Carry:
    """How a `Carry` lies on the devices."""
    one: Any = REPLICATED
    healing = Healing(*[one] * len(Healing._fields))._replace(chains=BY_WALKER)
    return Carry(one, one, BY_WALKER, healing, one)


class Samples(NamedTuple):
    """Samples of a step, whose sick walkers are replaced.

    Attributes:
        sigma: int8 (B T, N), walker by walker: their order over all devices is then
            that of one device.
        eloc: their local energies, (B T,).
        weights: (B T,) of sum 1 over all devices, or None for samples of |psi|^2.
        energy: mean of ``eloc`` over all devices, or None where it is not known yet.
        replaced: number of sick walkers.
        chains: state of the sampler.
        info: of the sampler.
    """

    sigma: Array
    eloc: Array
    weights: Array | None
    energy: Array | None
    replaced: Array
    chains: Any
    info: SamplerInfo


@dataclasses.dataclass(frozen=True, eq=False)
class Step:
    """The traced step of a `vmc.driver.VMC`, whose attributes these are.

    With penalties the sampler is `vmc.penalties.accompanied` by their states.
    """

    wavefunction: WaveFunction
    sampler: Sampler
    optimizer: optax.GradientTransformation
    learning_rate: Callable[[Any], Any] | float
    precision: str
    chunk: int | None
    clip: float | None = None
    penalties: tuple[Penalty, ...] = ()

    def __call__(
        self, hamiltonian: Hamiltonian, carry: Carry, root: Key, step: Array
    ) -> tuple[Carry, Array, Array]:
        """One optimisation step on one device's walkers.

        Returns:
            What the next step needs, the numbers named in `TRACED`, and the mean local
            energy of every chain, (n_chains,).
        """
        samples = self._draw(hamiltonian, carry, derive(root, step, 0))
        geometry, variance = self._geometry(carry.params, samples)
        gradient = _first_order_gradient(
            self.wavefunction, carry.params, samples.sigma, geometry
        )
        caution = healing.total_caution(carry.healing)
        optimizer = optax.with_extra_args_support(self.optimizer)
        updates, opt_state = optimizer.update(
            gradient, carry.opt_state, carry.params, geometry=geometry, caution=caution
        )
        shorter = 1 / jnp.sqrt(caution)
        updates = jax.tree.map(lambda u: (u * shorter).astype(u.dtype), updates)
        new_params = optax.apply_updates(carry.params, updates)

        if geometry.was_used:
            gradient = jax.tree.map(lambda f: 2 * f, geometry.force)
        chain_means, seen, drift = self._look(samples, geometry, variance)
        slopes = _slopes(carry, gradient, updates, geometry)
        row = {
            "energy": seen.energy,
            "variance": variance,
            "acceptance": seen.acceptance,
            "grad_norm": _norm(gradient),
            "update_norm": _norm(updates),
            "kl": _from_state(opt_state, "kl") / caution,
            "diag_shift": _from_state(opt_state, "diag_shift"),
            "condition": _from_state(opt_state, "condition"),
            "learning_rate": _rate(self.learning_rate, step),
            "drift": drift,
            "rank": _from_state(opt_state, "rank"),
            "replaced": samples.replaced,
        }
        after = (new_params, opt_state, samples.chains)
        finite = jnp.isfinite(row["update_norm"])
        n_moves = samples.sigma.shape[1] * self.sampler.n_draws
        verdict = healing.is_good(
            carry.healing, seen, n_moves, n_moves * self.sampler.n_chains
        )
        uneven, shrinks = self._uneven(hamiltonian, carry, derive(root, step, 1))
        instead = _shrunk(carry, samples.chains, uneven, step)
        carry, rejected = _next(carry, after, seen, *verdict, finite, step, slopes)
        carry = either(shrinks, instead, carry)
        row["rejected"], row["shrunk"] = rejected & ~shrinks, shrinks
        row["ok"] = jnp.asarray(carry.good)
        dtype = real_dtype(self.precision)
        numbers = [row[name].astype(dtype) for name in TRACED]
        return carry, jnp.stack(numbers), chain_means.reshape(-1).astype(dtype)

    def _uneven(
        self, hamiltonian: Hamiltonian, carry: Carry, key: Key
    ) -> tuple[Array, Array]:
        """J of random parameters, and whether they are to be shrunk."""
        before, space = carry.healing.uneven, hamiltonian.space
        n_local = self.sampler.n_chains // distributed.n_devices()

        def look(params: Params) -> Array:
            found = starts.unevenness(self.wavefunction, params, space, key, n_local)
            return found.astype(before.dtype)

        found = lax.cond(
            before > 0, look, lambda params: jnp.zeros_like(before), carry.params
        )
        return found, starts.is_uneven(found, before, space.n_sites)

    def _draw(self, hamiltonian: Hamiltonian, carry: Carry, key: Key) -> Samples:
        """Samples of |psi|^2 and their local energies, with the penalties."""
        wf, params = self.wavefunction, carry.params
        chains, samples, info = self.sampler.sample(key, params, carry.chains)
        sigma = jnp.swapaxes(samples, 0, 1).reshape(-1, samples.shape[-1])
        eloc = local_energies(wf, hamiltonian, params, sigma, self.chunk)
        if self.precision == "mixed":
            eloc = eloc.astype(jnp.promote_types(eloc.dtype, jnp.float64))
        if self.penalties:
            drawn = self.penalties, info.others
            eloc = penalised(eloc, wf, params, sigma, *drawn)
        none = jnp.zeros((), eloc.real.dtype)
        if info.weights is not None:
            weights = info.weights.T.reshape(-1)
            return Samples(sigma, eloc, weights, None, none, chains, info)
        # The walkers of other states are not sick where psi is.
        drawn, energy, sick = cured(Drawn(sigma, eloc, own(chains)), info.log_psi)
        chains = with_own(chains, drawn.chains)
        lost = sick > healing.SICK_PART * self.sampler.n_chains
        energy = jnp.where(lost, jnp.nan, energy)
        return Samples(*drawn[:2], None, energy, sick, chains, info)

    def _geometry(self, params: Params, samples: Samples) -> tuple[Geometry, Array]:
        """The geometry of the step, and the variance of the local energy."""
        scores = functools.partial(self.wavefunction.scores, params, samples.sigma)
        solve = "float32" if self.precision == "float32" else "float64"
        rest = (solve, samples.weights)
        geometry = Geometry(scores, params, samples.eloc, *rest, samples.energy)
        variance = geometry.variance
        if self.clip is not None:
            # Outliers count in what is reported, not in what is followed.
            bounded = clipped(samples.eloc, geometry.weights, self.clip)
            reported, geometry = geometry, Geometry(scores, params, bounded, *rest)
            geometry.reported = reported.energy
        return geometry, variance

    def _look(
        self, samples: Samples, geometry: Geometry, variance: Array
    ) -> tuple[Array, Seen, Array]:
        """Mean energies of the chains, what the step saw, and the largest drift."""
        info, energy = samples.info, geometry.reported.real
        draws = samples.eloc.real.reshape(-1, self.sampler.n_draws)
        if self.sampler.is_full:
            draws = jnp.full_like(draws, energy)
        chain_means, acceptance, drifts = distributed.gather_all(
            (jnp.mean(draws, axis=1), info.acceptance, info.drift)
        )
        drift = jnp.max(drifts)
        if self.sampler.n_chains > 1:
            spread = jnp.var(chain_means.reshape(-1), ddof=1)
            error2 = spread / self.sampler.n_chains
        else:
            error2 = variance / self.sampler.n_draws
        sound = drift <= DRIFT_LIMIT[self.precision]
        seen = Seen(energy, variance, error2, jnp.mean(acceptance), sound)
        return chain_means, seen, drift


def _next(
    carry: Carry,
    after: tuple[Params, Any, Any],
    seen: Seen,
    stays: Array,
    proved: Array,
    finite: Array,
    step: Array,
    slopes: damping.Slopes,
) -> tuple[Carry, Array]:
    """Go on, or back to the last good point; and whether it was back.

    Args:
        carry: before the step.
        after: parameters, state of the optimiser and walkers after it.
        seen: what its samples say.
        stays: whether the point that they are from is good.
        proved: whether it is worth returning to.
        finite: whether the update is.
        step: number of steps before this one.
        slopes: along the step that led here and along the new one.
    """
    known = carry.healing
    here = (carry.params, carry.opt_state, after[2])
    last = (known.params, known.opt_state, known.chains)
    taken = stays & finite
    params, opt_state, chains = either(stays, here, last)
    # Back in the parameters, not in the schedules.
    back = (params, healing.counted(opt_state, step + 1), chains)
    params, opt_state, chains = either(proved, here, last)
    new, goes_on = healing.judged(healing.remembered(known, seen, stays), stays, taken)
    new = new._replace(
        params=params,
        opt_state=opt_state,
        chains=chains,
        damping=damping.learned(known.damping, slopes, carry.params, stays, taken),
        uneven=jnp.zeros_like(known.uneven),
    )
    params, opt_state, chains = either(taken, after, back)
    there = Carry(params, opt_state, chains, new, carry.good & goes_on)
    # Who has given up stays where he is.
    return either(carry.good, there, carry), ~taken


def _shrunk(carry: Carry, chains: Any, uneven: Array, step: Array) -> Carry:
    """The run starts once more, from smaller parameters."""
    params = starts.shrunk(carry.params)
    opt_state = healing.counted(carry.opt_state, step + 1)
    known = carry.healing._replace(
        params=params, opt_state=opt_state, chains=chains, uneven=uneven
    )
    return Carry(params, opt_state, chains, known, carry.good)


def _first_order_gradient(
    wavefunction: WaveFunction, params: Params, sigma: Array, geometry: Geometry
) -> Params:
    """2F by one reverse pass; compiled away where the optimiser ignores it."""
    weights = 2 * geometry.centred * geometry.weights
    weights = weights.astype(
        jnp.promote_types(weights.dtype, jax.tree.leaves(params)[0].real.dtype)
    )
    out = weighted_scores(wavefunction, params, sigma, weights)
    out = distributed.total(out)
    return jax.tree.map(lambda g, p: g.astype(p.dtype), out, params)


def _slopes(
    carry: Carry, gradient: Params, updates: Params, geometry: Geometry
) -> damping.Slopes:
    """Along the last step, and along the new one; none without natural gradients."""
    if not geometry.was_used:
        none = jnp.full_like(geometry.variance, jnp.nan)
        return damping.Slopes(none, none, none)
    last = jax.tree.map(jnp.subtract, carry.params, carry.healing.damping.last)
    return damping.Slopes(*geometry.slope(last), damping.slope(gradient, updates))


def _norm(tree: Any) -> Array:
    squares = [jnp.sum(jnp.abs(leaf) ** 2) for leaf in jax.tree.leaves(tree)]
    return jnp.sqrt(jnp.sum(jnp.stack(squares)))


def _rate(rate: Callable[[Any], Any] | float, step: Array) -> Array:
    return jnp.asarray(rate(step) if callable(rate) else rate)


def _from_state(opt_state: Any, name: str) -> Array:
    """A number that some link of the optimiser reports, or nan."""
    value = optax.tree_utils.tree_get(opt_state, name)
    return jnp.asarray(jnp.nan if value is None else value)


def gave_up(
    step: int,
    row: Mapping[str, float],
    state: VMCState,
    records: dict[str, np.ndarray],
    precision: str,
) -> NumericalError:
    """What to say when care did not help.

    Args:
        step: steps done.
        row: numbers of `TRACED` of the step that failed.
        state: the last good state.
        records: per-step columns so far.
        precision: of the job.
    """
    seen = ", ".join(
        f"{name} = {row[name]:.6g}"
        for name in ("energy", "variance", "update_norm", "drift", "replaced")
    )
    limit = DRIFT_LIMIT[precision]
    if row["drift"] > limit:
        cause = (
            f"the sampler's cached amplitudes drifted by more than {limit:g}: weights "
            'have grown beyond the range of the cache (precision = "float64" has more)'
        )
    else:
        cause = (
            "likely causes: a learning_rate too large, a diag_shift too small, or "
            "walkers stuck where psi is almost zero"
        )
    return NumericalError(
        f"step {step + 1} went wrong ({seen}), and so did {healing.RETRIES} tries "
        f"before it, each more careful than the one before; {cause}. The last good "
        "state is kept; go on from it with a smaller optimizer.learning_rate or a "
        "larger optimizer.diag_shift.",
        state,
        records,
    )

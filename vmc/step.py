"""One step: sample, local energies, estimate, force, precondition, apply."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from vmc import distributed
from vmc.base import Hamiltonian, Key, Params, Sampler, WaveFunction
from vmc.estimators import local_energies, weighted_scores
from vmc.geometry import Geometry
from vmc.keys import derive

#: Largest tolerated difference of a cached and a recomputed Re log psi.
DRIFT_LIMIT = {"float64": 1e-6, "mixed": 5e-2, "float32": 5e-2}
#: What the compiled step reports; "ok" is 0 where a step went wrong.
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
    good: Array | np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Step:
    """The traced step of a `vmc.driver.VMC`, whose attributes these are."""

    wavefunction: WaveFunction
    sampler: Sampler
    optimizer: optax.GradientTransformation
    learning_rate: Callable[[Any], Any] | float
    precision: str
    chunk: int | None

    def __call__(
        self, hamiltonian: Hamiltonian, carry: Carry, root: Key, step: Array
    ) -> tuple[Carry, Array, Array]:
        """One optimisation step on one device's walkers.

        Returns:
            What the next step needs, the numbers named in `TRACED`, and the mean local
            energy of every chain, (n_chains,).
        """
        wf, params = self.wavefunction, carry.params
        key = derive(root, step, 0)

        chains, samples, info = self.sampler.sample(key, params, carry.chains)
        # Walker by walker: their order over all devices is then that of one device.
        sigma = jnp.swapaxes(samples, 0, 1).reshape(-1, samples.shape[-1])
        eloc = local_energies(wf, hamiltonian, params, sigma, self.chunk)
        if self.precision == "mixed":
            eloc = eloc.astype(jnp.promote_types(eloc.dtype, jnp.float64))

        weights = None if info.weights is None else info.weights.T.reshape(-1)
        solve = "float32" if self.precision == "float32" else "float64"
        scores = functools.partial(wf.scores, params, sigma)
        geometry = Geometry(scores, params, eloc, solve, weights)
        gradient = _first_order_gradient(self.wavefunction, params, sigma, geometry)
        optimizer = optax.with_extra_args_support(self.optimizer)
        updates, opt_state = optimizer.update(
            gradient, carry.opt_state, params, geometry=geometry
        )
        new_params = optax.apply_updates(params, updates)

        if geometry.was_used:
            gradient = jax.tree.map(lambda f: 2 * f, geometry.force)
        draws = eloc.real.reshape(samples.shape[1::-1])
        if self.sampler.is_full:
            draws = jnp.full_like(draws, geometry.energy.real)
        chain_means, acceptance, drifts = distributed.gather_all(
            (jnp.mean(draws, axis=1), info.acceptance, info.drift)
        )
        drift = jnp.max(drifts)
        row = {
            "energy": geometry.energy.real,
            "variance": geometry.variance,
            "acceptance": jnp.mean(acceptance),
            "grad_norm": _norm(gradient),
            "update_norm": _norm(updates),
            "kl": _from_state(opt_state, "kl"),
            "diag_shift": _from_state(opt_state, "diag_shift"),
            "condition": _from_state(opt_state, "condition"),
            "learning_rate": _rate(self.learning_rate, step),
            "drift": drift,
        }
        finite = [jnp.isfinite(row[x]) for x in ("energy", "variance", "update_norm")]
        ok = functools.reduce(jnp.logical_and, finite)
        ok = ok & (drift <= DRIFT_LIMIT[self.precision])
        row["ok"] = ok
        good = carry.good & ok
        new = (new_params, opt_state, chains)
        old = (params, carry.opt_state, carry.chains)
        params, opt_state, chains = jax.tree.map(
            lambda a, b: jnp.where(good, a, b), new, old
        )
        dtype = real_dtype(self.precision)
        numbers = [row[name].astype(dtype) for name in TRACED]
        carry = Carry(params, opt_state, chains, good)
        return carry, jnp.stack(numbers), chain_means.reshape(-1).astype(dtype)


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


def _norm(tree: Any) -> Array:
    squares = [jnp.sum(jnp.abs(leaf) ** 2) for leaf in jax.tree.leaves(tree)]
    return jnp.sqrt(jnp.sum(jnp.stack(squares)))


def _rate(rate: Callable[[Any], Any] | float, step: Array) -> Array:
    return jnp.asarray(rate(step) if callable(rate) else rate)


def _from_state(opt_state: Any, name: str) -> Array:
    """A number that some link of the optimiser reports, or nan."""
    value = optax.tree_utils.tree_get(opt_state, name)
    return jnp.asarray(jnp.nan if value is None else value)

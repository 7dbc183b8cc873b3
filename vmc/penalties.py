"""Excited states: a penalty on the overlap with states that are known already.

With H' = H + sum_i lambda_i |phi_i><phi_i| / <phi_i|phi_i>, the energy of psi is

<psi|H'|psi> / <psi|psi> = E + sum_i lambda_i F_i,

F_i = |<psi|phi_i>|^2 / (<psi|psi> <phi_i|phi_i>).  If the phi_i are the lowest
eigenstates and every lambda_i exceeds the gap above its state, the ground state of H'
is the next one.  A penalty adds to the local energy, at samples of |psi|^2,

lambda_i phi_i(sigma) / psi(sigma) B_i,   B_i = <phi_i|psi> / <phi_i|phi_i>,

and B_i is the mean of psi / phi_i over samples of |phi_i|^2, fresh ones in every step.
Both ratios have finite mean squares, also at the nodes of either state; the noise of
B_i goes down with the number of samples (penalty method: arXiv:2009.09130).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from vmc import distributed, elementary
from vmc.base import Chains, Key, Params, Sampler, SamplerInfo, WaveFunction
from vmc.keys import Purpose, derive
from vmc.observables_states import gauge_signs


@dataclasses.dataclass(frozen=True, eq=False)
class Penalty:
    """A state phi that psi is to be orthogonal to.

    Attributes:
        name: of the run that phi is from.
        hamiltonian: of that run, in the sign gauge of phi.
        wavefunction: phi.
        params: its parameters, arrays of the host, which stay as they are.
        sampler: of |phi|^2, with as many chains and draws as that of |psi|^2.
        strength: lambda > 0, in units of energy.
        signs: site signs a_i by which the gauges of phi and psi differ, int (N,); None
            where they are the same.
        burn_in: sweeps of phi's walkers before the first step.
    """

    name: str
    hamiltonian: Any
    wavefunction: WaveFunction
    params: Params
    sampler: Sampler
    strength: float
    signs: np.ndarray | None = None
    burn_in: int = 0

    def log_amplitudes(self, sigma: Array) -> tuple[Array, Array | None]:
        """log phi in its own gauge (B,), and the sign to that of psi (B,) or None."""
        params = jax.tree.map(jnp.asarray, self.params)
        log_phi = self.wavefunction.log_psi(params, sigma)
        if self.signs is None:
            return log_phi, None
        dims = self.hamiltonian.space.local_dims
        return log_phi, gauge_signs(self.signs, sigma, dims)


class Accompanied(NamedTuple):
    """State of a sampler that draws from other states as well.

    Attributes:
        own: chains of |psi|^2.
        others: chains of each |phi_i|^2.
    """

    own: Chains
    others: tuple[Chains, ...]


def own(chains: Chains) -> Chains:
    """The chains of |psi|^2 alone, whether others go with them or not."""
    return chains.own if isinstance(chains, Accompanied) else chains


def others(chains: Chains) -> tuple[Chains, ...]:
    """The chains of the other states; none where there are no penalties."""
    return chains.others if isinstance(chains, Accompanied) else ()


def with_own(chains: Chains, new: Chains) -> Chains:
    """The same chains of other states with new ones of |psi|^2."""
    return chains._replace(own=new) if isinstance(chains, Accompanied) else new


def accompanied(sampler: Sampler, penalties: Sequence[Penalty]) -> Sampler:
    """A sampler of |psi|^2 that also draws from every |phi_i|^2.

    The chains are `Accompanied`, and ``SamplerInfo.others`` has the other samples; the
    random numbers of psi's own walkers are what they are without the others.

    Args:
        sampler: of |psi|^2.
        penalties: the other states; without any, ``sampler`` itself is returned.
    """
    if not penalties:
        return sampler

    def init(key: Key, params: Params) -> Accompanied:
        mine = sampler.init(key, params)
        keys = [derive(key, Purpose.PROBE, i) for i in range(len(penalties))]
        return Accompanied(mine, tuple(map(_started, penalties, keys)))

    def build(draws: int) -> Sampler:
        mine = sampler if draws == sampler.n_draws else sampler.with_draws(draws)

        def sample(
            key: Key, params: Params, chains: Accompanied
        ) -> tuple[Accompanied, Array, SamplerInfo]:
            new, samples, info = mine.sample(key, params, chains.own)
            kept, drawn = [], []
            for i, penalty in enumerate(penalties):
                phi = penalty.sampler
                phi = phi if draws == phi.n_draws else phi.with_draws(draws)
                fixed = jax.tree.map(jnp.asarray, penalty.params)
                here = derive(key, Purpose.PROBE, i)
                after, sigma, about = phi.sample(here, fixed, chains.others[i])
                kept.append(after)
                drawn.append((sigma, about.weights))
            info = info._replace(others=tuple(drawn))
            return Accompanied(new, tuple(kept)), samples, info

        return sampler._replace(
            init=init, sample=sample, n_draws=draws, with_draws=build
        )

    return build(sampler.n_draws)


def _started(penalty: Penalty, key: Key) -> Chains:
    """Thermalised walkers of one other state."""
    params = jax.tree.map(jnp.asarray, penalty.params)
    chains = penalty.sampler.init(derive(key, Purpose.INIT), params)
    if penalty.burn_in == 0:
        return chains
    burn = penalty.sampler.with_draws(penalty.burn_in)
    return burn.sample(derive(key, Purpose.INIT, 1), params, chains)[0]


def penalised(
    eloc: Array,
    wavefunction: WaveFunction,
    params: Params,
    sigma: Array,
    penalties: Sequence[Penalty],
    drawn: Sequence[tuple[Array, Array | None]] | None,
) -> Array:
    """Local energies of H' from those of H; call inside ``shard_map``.

    Args:
        eloc: local energies of H, (B,).
        wavefunction: psi.
        params: its parameters.
        sigma: int8 (B, N), where ``eloc`` are.
        penalties: the other states.
        drawn: samples of each, ``SamplerInfo.others``.

    Returns:
        (B,), complex if psi or some phi is.
    """
    for penalty, (samples, weights) in zip(penalties, drawn or (), strict=True):
        theirs = samples.reshape(-1, samples.shape[-1])
        shares = None if weights is None else weights.reshape(-1)
        real = eloc.real.dtype
        log_psi = wavefunction.log_psi(params, jnp.concatenate([sigma, theirs]))
        log_phi, signs = penalty.log_amplitudes(jnp.concatenate([sigma, theirs]))
        # log psi / phi: one phase and one scale for both factors of a penalty.
        ratio = _as_precise(log_psi - log_phi, real)
        at_psi, at_phi = ratio[: len(sigma)], ratio[len(sigma) :]
        counted = jnp.ones(at_phi.shape, bool) if shares is None else shares > 0
        top = distributed.largest(jnp.max(jnp.where(counted, at_phi.real, -jnp.inf)))
        top = jnp.where(top == -jnp.inf, jnp.zeros_like(top), top)
        terms = elementary.exp(jnp.where(counted, at_phi - top, -jnp.inf))
        inverse = elementary.exp(top - at_psi)
        if signs is not None:
            signs = signs.astype(real)
            inverse, terms = inverse * signs[: len(sigma)], terms * signs[len(sigma) :]
        if shares is None:
            n_samples = len(theirs) * distributed.n_devices()
            shares = jnp.full(terms.shape, 1.0 / n_samples, real)
        mean = distributed.total(jnp.sum(shares.astype(real) * terms))
        eloc = eloc + penalty.strength * (mean * inverse)
    return eloc


def _as_precise(x: Array, real: Any) -> Array:
    """Real or complex numbers in the precision of ``real``."""
    complexity = jnp.result_type(real, jnp.complex64)
    return x.astype(complexity if jnp.iscomplexobj(x) else real)

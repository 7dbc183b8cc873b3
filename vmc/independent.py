"""Metropolis with independent proposals from a wave function that can be drawn from.

The proposal q = |phi|^2 does not look at the walker, so a chain forgets its past at
the rate at which proposals are accepted; where phi is close to psi that is at once.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import Array, lax

from vmc import distributed
from vmc.base import Key, Params, Sampler, SamplerInfo, WaveFunction
from vmc.distributed import check_divisible
from vmc.errors import JobError
from vmc.keys import Purpose, derive, walker_bits
from vmc.space import Spins


def independent(
    wavefunction: WaveFunction,
    proposal: WaveFunction,
    proposal_params: Params,
    space: Spins,
    *,
    n_chains: int,
    n_draws: int = 1,
    n_sweeps: int = 1,
    n_devices: int = 1,
) -> Sampler:
    """Accept sigma' drawn from |phi|^2 with min(1, w(sigma') / w(sigma)).

    w = |psi|^2 / |phi|^2.  One sweep is one proposal.

    Args:
        wavefunction: psi, any.
        proposal: phi, with ``exact.sample``, on the same space.
        proposal_params: its parameters, which stay as they are.
        space: the configurations; not a sector.
        n_chains: walkers over all devices.
        n_draws: T, samples per walker and call.
        n_sweeps: proposals before each sample.
        n_devices: devices that share the walkers.

    Raises:
        JobError: phi cannot be drawn from, the space is a sector, or a number does
            not fit.
    """
    if not space.is_free:
        raise JobError(
            "independent proposals are drawn from the whole space, not from a sector "
            f'({space.label}). Use sampler "auto", or total_sz = "free".'
        )
    if proposal.exact is None or proposal.exact.sample is None:
        raise JobError(
            "independent proposals need a wave function that can be drawn from (mps, "
            "ttn, convac, cp, rac of depth 1)"
        )
    check_divisible(n_chains, n_devices)
    if n_sweeps < 1 or n_draws < 1:
        raise JobError(
            f"n_sweeps is {n_sweeps} and n_draws is {n_draws}; both are at least 1"
        )
    draw = proposal.exact.sample

    def proposed(key: Key) -> tuple[Array, Array]:
        n_local = n_chains // distributed.n_devices()
        words = walker_bits(derive(key, Purpose.PROPOSAL), n_local, space.n_sites)
        return draw(proposal_params, words)

    def init(key: Key, params: Params) -> Array:
        del params
        return proposed(derive(key, Purpose.INIT))[0]

    def log_q(sigma: Array) -> Array:
        return 2 * proposal.log_psi(proposal_params, sigma).real

    def build(draws: int) -> Sampler:
        def sample(
            key: Key, params: Params, chains: Array
        ) -> tuple[Array, Array, SamplerInfo]:
            def weight(sigma: Array) -> Array:
                return 2 * wavefunction.log_psi(params, sigma).real - log_q(sigma)

            def one(carry: Any, t: Array) -> tuple[Any, Any]:
                sigma, w = carry
                step = derive(key, Purpose.DIRECT, t)
                new, _ = proposed(step)
                new_w = weight(new)
                n_local = sigma.shape[0]
                word = walker_bits(derive(step, Purpose.ACCEPT), n_local, 1)[0]
                uniform = word.astype(w.dtype) * 2.0**-32
                accept = uniform < jnp.exp(new_w - w)
                sigma = jnp.where(accept[:, None], new, sigma)
                w = jnp.where(accept, new_w, w)
                return (sigma, w), (sigma, jnp.mean(accept.astype(w.dtype)))

            start = (chains, weight(chains))
            n = draws * n_sweeps
            (sigma, _), (samples, accepted) = lax.scan(one, start, jnp.arange(n))
            samples = samples[n_sweeps - 1 :: n_sweeps]
            log_psi = wavefunction.log_psi(params, sigma).real
            zero = jnp.zeros((), log_psi.dtype)
            info = SamplerInfo(jnp.mean(accepted), zero, log_psi)
            return sigma, samples, info

        return Sampler(init, sample, n_chains, draws, build)

    return build(n_draws)

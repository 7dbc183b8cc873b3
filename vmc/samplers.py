"""Samplers of |psi|^2: Markov chains, independent draws, and full sums."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from vmc import distributed
from vmc.base import Key, Moves, Params, Sampler, SamplerInfo, WaveFunction
from vmc.distributed import check_divisible
from vmc.errors import JobError
from vmc.keys import Purpose, derive, walker_bits
from vmc.metropolis import Metropolis
from vmc.space import Spins

#: Largest space that `full` goes through.
FULL_STATES = 1 << 16


def metropolis(
    wavefunction: WaveFunction,
    space: Spins,
    moves: Moves,
    *,
    n_chains: int,
    n_draws: int = 1,
    n_sweeps: int = 1,
    burn_in: int = 0,
    n_devices: int = 1,
    kind: Callable[..., Metropolis] = Metropolis,
) -> Sampler:
    """Metropolis with symmetric proposals drawn uniformly from a move table.

    Moves that are not their own inverse (of spins larger than 1/2) are proposed
    forwards or backwards, walker by walker.  A sweep is N proposals.  Walkers start
    independent and uniformly random in the sector, persist between calls, and their
    cache is rebuilt at every draw.

    Args:
        wavefunction: psi.
        space: its configurations, which the moves must not leave.
        moves: the proposals.
        n_chains: walkers over all devices.
        n_draws: T, samples per walker and call.
        n_sweeps: sweeps before each sample.
        burn_in: sweeps after the random start (the driver has its own).
        n_devices: devices that share the walkers.
        kind: how the walkers are moved.

    Raises:
        JobError: a number is not positive, or the chains cannot be split evenly.
    """
    check_divisible(n_chains, n_devices)
    check_chain(moves, n_draws=n_draws, n_sweeps=n_sweeps)
    if burn_in < 0:
        raise JobError(f"burn_in is {burn_in}; it is at least 0")
    both_ways = two_way(space, moves)

    def build(draws: int) -> Sampler:
        static = kind(
            wavefunction, space, moves, n_chains, draws, n_sweeps, burn_in, both_ways
        )
        return Sampler(static.init, static.sample, n_chains, draws, build)

    return build(n_draws)


def check_chain(moves: Moves, **numbers: int) -> None:
    """Refuse a table without moves, and numbers that are not positive.

    Raises:
        JobError: says which.
    """
    for name, value in numbers.items():
        if value < 1:
            raise JobError(f"{name} is {value}; it is at least 1")
    if moves.n_moves == 0:
        raise JobError("the sampler has no moves; give a table with at least one")


def two_way(space: Spins, moves: Moves) -> bool:
    """Whether every move is its own inverse, as flips of spins 1/2 are.

    All walkers propose the same move.  Given the move, a chain keeps |psi|^2 only if
    the proposal is symmetric.  A raising move is not: where this is False each walker
    takes the move or its inverse, with equal chances, at twice the cost.
    """
    dims = np.append(np.asarray(space.local_dims), 1)
    back = 2 * np.asarray(moves.shift, np.int64) % dims[np.asarray(moves.sites)]
    return not np.any(back)


def direct(
    wavefunction: WaveFunction,
    space: Spins,
    *,
    n_chains: int,
    n_draws: int = 1,
    n_devices: int = 1,
) -> Sampler:
    """Independent draws of |psi|^2 from the structure of psi: no Markov chain.

    Every draw of every walker is independent, so tau = 1, and there is nothing to
    burn in.  The reported drift compares the drawn probabilities with |psi|^2.

    Args:
        wavefunction: psi, with ``exact.sample`` and ``exact.log_norm``.
        space: its configurations.  In a sector only psi that was built for it offers
            draws, which stay inside; others are refused or, where they were built for
            another space, show up as infinite drift.
        n_chains: draws at a time, over all devices.
        n_draws: T, draws per walker and call.
        n_devices: devices that share the walkers.

    Raises:
        JobError: psi cannot be drawn from, or not inside the sector.
    """
    exact = wavefunction.exact
    if exact is None or exact.sample is None or exact.log_norm is None:
        if not space.is_free:
            raise JobError(
                "direct sampling of this wave function draws from the whole space, not "
                f"from a sector ({space.label}); only autoregressive nets (arnn_dense, "
                'arnn_conv, arnn_rnn) stay inside. Use sampler "auto", or total_sz = '
                '"free".'
            )
        raise JobError(
            'sampler "direct" needs a wave function that can be drawn from exactly '
            "(arnn_dense, arnn_conv, arnn_rnn, mps, ttn, convac, cp, rac of depth 1). "
            'Use sampler "auto" with this one.'
        )
    check_divisible(n_chains, n_devices)
    draw_from, log_norm = exact.sample, exact.log_norm

    def init(key: Key, params: Params) -> Array:
        return draw(derive(key, Purpose.INIT, 0), params)[0]

    def draw(key: Key, params: Params) -> tuple[Array, Array]:
        n_local = n_chains // distributed.n_devices()
        return draw_from(params, walker_bits(key, n_local, space.n_sites))

    def build(n_draws: int) -> Sampler:
        def sample(
            key: Key, params: Params, chains: Array
        ) -> tuple[Array, Array, SamplerInfo]:
            del chains
            norm = log_norm(params)

            def one(carry: None, t: Array) -> tuple[None, Any]:
                sigma, log_prob = draw(derive(key, Purpose.DIRECT, t), params)
                log_psi = wavefunction.log_psi(params, sigma).real
                gap = jnp.abs(0.5 * (log_prob + norm) - log_psi)
                drift = jnp.max(jnp.where(_inside(space, sigma), gap, jnp.inf))
                return carry, (sigma, drift, log_psi)

            _, (samples, drift, log_psi) = lax.scan(one, None, jnp.arange(n_draws))
            acceptance = jnp.ones((), log_psi.dtype)
            info = SamplerInfo(acceptance, jnp.max(drift), log_psi[-1])
            return samples[-1], samples, info

        return Sampler(init, sample, n_chains, n_draws, build)

    return build(n_draws)


def _inside(space: Spins, sigma: Array) -> Array:
    """Whether configurations are in the sector: bool (B,)."""
    inside = jnp.ones(sigma.shape[:1], bool)
    if space.is_free:
        return inside
    if space.twice_sz is not None:
        inside = jnp.sum(sigma, axis=1, dtype=jnp.int32) == space.twice_sz
    lowered = (jnp.asarray(space.local_dims) - 1)[None, :] - sigma
    for charge in space.charges:
        weights = jnp.asarray(charge.weights)[None, :]
        total = jnp.sum(weights * (lowered // 2), axis=1)
        inside = inside & charge.fits(total - charge.value)
    if space.blockade:
        pairs = np.array(space.blockade)
        both = (lowered[:, pairs[:, 0]] > 0) & (lowered[:, pairs[:, 1]] > 0)
        inside = inside & ~jnp.any(both, axis=1)
    return inside


def full(
    wavefunction: WaveFunction, space: Spins, *, n_rows: int | None = None
) -> Sampler:
    """Every configuration once, with its weight |psi|^2 / <psi|psi>: no noise.

    For small spaces: references, and optimisation without statistical error.

    Args:
        wavefunction: psi.
        space: at most `FULL_STATES` configurations.
        n_rows: a multiple of the devices that share them, if their own number is none:
            what is beyond it are repetitions of weight 0.

    Raises:
        JobError: the space is too large, or there are fewer rows than configurations.
    """
    if space.n_states > FULL_STATES:
        raise JobError(
            f'sampler "full" visits every configuration, and there are '
            f"{space.n_states}; it takes at most {FULL_STATES}. Use sampler "
            '"auto", or fix a sector.'
        )
    states = space.all_states()
    n_states = len(states)
    if n_rows is not None and n_rows < n_states:
        raise JobError(f"n_rows is {n_rows}: there are {n_states} configurations")
    states = np.resize(states, (n_rows or n_states, space.n_sites))

    def init(key: Key, params: Params) -> Array:
        del key, params
        share = len(states) // distributed.n_devices()
        return distributed.local_rows(jnp.asarray(states), share)

    def sample(
        key: Key, params: Params, chains: Array
    ) -> tuple[Array, Array, SamplerInfo]:
        del key
        log_psi = wavefunction.log_psi(params, chains).real
        place = distributed.local_rows(jnp.arange(len(states)), len(chains))
        top = distributed.largest(jnp.max(log_psi))
        weights = jnp.where(place < n_states, jnp.exp(2 * (log_psi - top)), 0)
        weights = weights / distributed.total(jnp.sum(weights))
        one, zero = jnp.ones((), log_psi.dtype), jnp.zeros((), log_psi.dtype)
        info = SamplerInfo(one, zero, log_psi, weights[None])
        return chains, chains[None], info

    def build(n_draws: int) -> Sampler:
        if n_draws != 1:
            raise JobError(f'sampler "full" has one draw, not {n_draws}')
        return Sampler(init, sample, len(states), 1, build, is_full=True)

    return build(1)

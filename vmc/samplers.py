"""Samplers of |psi|^2.  All walkers propose the same random move at the same time.

Given the sequence of moves, chains with independent acceptance numbers stay
independent, and every step is a slice instead of a gather.  The walkers are kept
trailing, (N, B), inside the loop.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from vmc import distributed
from vmc.base import (
    Key,
    Move,
    Moves,
    Params,
    Sampler,
    SamplerInfo,
    WaveFunction,
)
from vmc.distributed import check_divisible
from vmc.errors import JobError
from vmc.keys import Purpose, derive, shared_integers, walker_bits
from vmc.moves import apply_move, inverse
from vmc.space import Spins

#: Acceptance numbers are drawn for this many moves of all walkers at a time.
MOVES_PER_DRAW = 1 << 22

#: Largest space that `full` goes through.
FULL_STATES = 1 << 16


@dataclasses.dataclass(frozen=True)
class _Metropolis:
    """Static part of the Metropolis sampler."""

    wavefunction: WaveFunction
    space: Spins
    moves: Moves
    n_chains: int
    n_draws: int
    n_sweeps: int
    burn_in: int
    two_way: bool

    def n_local(self) -> int:
        return self.n_chains // distributed.n_devices()

    def init(self, key: Key, params: Params) -> Array:
        bits = walker_bits(
            derive(key, Purpose.INIT, 0), self.n_local(), self.space.n_sites
        )
        sigma = self.space.random(bits)
        if self.burn_in == 0:
            return sigma
        burn_key = derive(key, Purpose.INIT, 1)
        return self._walk(burn_key, params, sigma, self.burn_in)[0]

    def sample(
        self, key: Key, params: Params, chains: Array
    ) -> tuple[Array, Array, SamplerInfo]:
        def draw(sigma: Array, t: Array) -> tuple[Array, Any]:
            step_key = derive(key, t)
            sigma, *info = self._walk(step_key, params, sigma, self.n_sweeps)
            return sigma, (sigma, *info)

        sigma, (samples, acceptance, drift, log_psi) = lax.scan(
            draw, chains, jnp.arange(self.n_draws)
        )
        info = SamplerInfo(jnp.mean(acceptance), jnp.max(drift), log_psi[-1])
        return sigma, samples, info

    def _try(
        self, params: Params, carry: Any, move: Move, word: Array, who: Array | bool
    ) -> Any:
        """One proposal to the walkers ``who``; the others stay as they are."""
        wf = self.wavefunction
        sigma_t, cache, log_p, accepted = carry
        log_ratio, pending = wf.try_move(params, cache, sigma_t.T, move)
        uniform = word.astype(log_ratio.dtype) * 2.0**-32
        allowed = self.space.allows(sigma_t.T, _one_row(move))[0] & who
        # A ratio that is not a number is refused, and shows up as drift.
        accept = allowed & (uniform < jnp.exp(log_ratio))
        cache = wf.commit(cache, pending, accept)
        sigma_t = apply_move(sigma_t, move, accept, self.space.local_dims)
        log_p = log_p + jnp.where(accept, log_ratio, 0)
        return sigma_t, cache, log_p, accepted + jnp.sum(accept, dtype=jnp.int32)

    def _walk(
        self, key: Key, params: Params, sigma: Array, n_sweeps: int
    ) -> tuple[Array, Array, Array, Array]:
        """``n_sweeps`` sweeps of N proposals each, from a fresh cache."""
        wf, n_local = self.wavefunction, sigma.shape[0]
        start = wf.log_psi(params, sigma).real
        cache = wf.cache(params, sigma)
        n_moves = n_sweeps * self.space.n_sites
        sequence = shared_integers(
            derive(key, Purpose.PROPOSAL), self.moves.n_moves, n_moves
        )
        table = jax.tree.map(jnp.asarray, self.moves)
        # How many are drawn at a time depends on the device, the numbers do not:
        # they come in groups of four, counted from the first move.
        chunk = min(-(-n_moves // 4), max(1, MOVES_PER_DRAW // n_local // 4)) * 4
        n_chunks = -(-n_moves // chunk)
        accept_key = derive(key, Purpose.ACCEPT)

        def propose(i: Array, carry: Any) -> Any:
            bits, walkers = carry
            word, move = bits[i % chunk], table[sequence[i]]
            if self.two_way:
                return bits, self._try(params, walkers, move, word, True)
            back = inverse(move, self.space.local_dims)
            forth = word % 2 == 0
            walkers = self._try(params, walkers, move, word, forth)
            return bits, self._try(params, walkers, back, word, ~forth)

        def run_chunk(c: Array, carry: Any) -> Any:
            bits = walker_bits(accept_key, n_local, chunk, c * (chunk // 4))
            stop = jnp.minimum((c + 1) * chunk, n_moves)
            return lax.fori_loop(c * chunk, stop, propose, (bits, carry))[1]

        carry = (sigma.T, cache, 2 * start, jnp.zeros((), jnp.int32))
        if n_chunks == 1:
            carry = run_chunk(jnp.zeros((), jnp.int32), carry)
        else:
            carry = lax.fori_loop(0, n_chunks, run_chunk, carry)
        sigma_t, _, log_p, accepted = carry
        sigma = sigma_t.T
        log_psi = wf.log_psi(params, sigma).real
        drift = jnp.max(jnp.abs(0.5 * log_p - log_psi))
        acceptance = accepted.astype(log_psi.dtype) / (n_moves * n_local)
        return sigma, acceptance, drift, log_psi


def _one_row(move: Any) -> Moves:
    return Moves(move.sites[None], move.shift[None], move.exchange)


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

    Raises:
        JobError: a number is not positive, or the chains cannot be split evenly.
    """
    check_divisible(n_chains, n_devices)
    for name, value, least in (
        ("n_draws", n_draws, 1),
        ("n_sweeps", n_sweeps, 1),
        ("burn_in", burn_in, 0),
    ):
        if value < least:
            raise JobError(f"{name} is {value}; it is at least {least}")
    if moves.n_moves == 0:
        raise JobError("the sampler has no moves; give a table with at least one")
    two_way = _two_way(space, moves)

    def build(draws: int) -> Sampler:
        static = _Metropolis(
            wavefunction, space, moves, n_chains, draws, n_sweeps, burn_in, two_way
        )
        return Sampler(static.init, static.sample, n_chains, draws, build)

    return build(n_draws)


def _two_way(space: Spins, moves: Moves) -> bool:
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


def full(wavefunction: WaveFunction, space: Spins, *, n_devices: int = 1) -> Sampler:
    """Every configuration once, with its weight |psi|^2 / <psi|psi>: no noise.

    For small spaces: references, and optimisation without statistical error.

    Args:
        wavefunction: psi.
        space: at most `FULL_STATES` configurations.
        n_devices: devices that share them.

    Raises:
        JobError: the space is too large.
    """
    if space.n_states > FULL_STATES:
        raise JobError(
            f'sampler "full" visits every configuration, and there are '
            f"{space.n_states}; it takes at most {FULL_STATES}. Use sampler "
            '"auto", or fix a sector.'
        )
    states = space.all_states()
    n_states = len(states)
    n_local = -(-n_states // n_devices)
    # Devices get equal shares; what is left over is a repetition of weight 0.
    states = np.resize(states, (n_local * n_devices, space.n_sites))

    def init(key: Key, params: Params) -> Array:
        del key, params
        return distributed.local_rows(jnp.asarray(states), n_local)

    def sample(
        key: Key, params: Params, chains: Array
    ) -> tuple[Array, Array, SamplerInfo]:
        del key
        log_psi = wavefunction.log_psi(params, chains).real
        place = distributed.local_rows(jnp.arange(len(states)), n_local)
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

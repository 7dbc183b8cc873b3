"""Metropolis.  All walkers propose the same random move at the same time.

Given the sequence of moves, chains with independent acceptance numbers stay
independent, and every step is a slice instead of a gather.  The walkers are kept
trailing, (N, B), inside the loop.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from vmc import distributed
from vmc.base import (
    WALKERS,
    Key,
    Move,
    Moves,
    Params,
    SamplerInfo,
    WaveFunction,
)
from vmc.keys import Purpose, derive, numbers, shared_integers, walker_bits
from vmc.moves import apply_move, inverse
from vmc.space import Spins

#: Acceptance numbers are drawn for this many moves of all walkers at a time.
MOVES_PER_DRAW = 1 << 22
#: On CPUs walkers take their sweeps in blocks whose caches fit here, about what two
#: cores keep near them: half the time of one pass per proposal over 8 MB (complex RBM,
#: N = 128, M = 512, 1024 walkers) ...
BLOCK_BYTES = 4 << 20
#: ... and of at least this many walkers, or the loop costs more than it saves.
LEAST_BLOCK = 256


@dataclasses.dataclass(frozen=True)
class Metropolis:
    """Static part of the Metropolis sampler.

    ``exponents`` holds beta of every row of walkers in turn, which then follows
    |psi|^(2 beta); acceptance is that of the first one.  See `vmc.tempering`.
    """

    wavefunction: WaveFunction
    space: Spins
    moves: Moves
    n_chains: int
    n_draws: int
    n_sweeps: int
    burn_in: int
    two_way: bool
    exponents: tuple[float, ...] = (1.0,)

    def n_local(self) -> int:
        """Walkers of this device."""
        return self.n_chains // distributed.n_devices()

    def init(self, key: Key, params: Params) -> Array:
        """Independent random starts, and burn-in: (B, N)."""
        bits = walker_bits(
            derive(key, Purpose.INIT, 0), self.n_local(), self.space.n_sites
        )
        sigma = self.space.random(bits)
        if self.burn_in == 0:
            return sigma
        burn_key = derive(key, Purpose.INIT, 1)
        n_moves = self.burn_in * self.space.n_sites
        return self.walk(burn_key, params, sigma, n_moves)[0]

    def sample(
        self, key: Key, params: Params, chains: Array
    ) -> tuple[Array, Array, SamplerInfo]:
        """See `Sampler`."""

        def draw(sigma: Array, t: Array) -> tuple[Array, Any]:
            step_key = derive(key, t)
            n_moves = self.n_sweeps * self.space.n_sites
            sigma, *info = self.walk(step_key, params, sigma, n_moves)
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
        accept = allowed & (uniform < jnp.exp(self._tempered(log_ratio)))
        cache = wf.commit(cache, pending, accept)
        sigma_t = apply_move(sigma_t, move, accept, self.space.local_dims)
        log_p = log_p + jnp.where(accept, log_ratio, 0)
        counted = accept[:: len(self.exponents)]
        return sigma_t, cache, log_p, accepted + jnp.sum(counted, dtype=jnp.int32)

    def _tempered(self, log_ratio: Array) -> Array:
        """beta log |psi'/psi|^2 of every walker."""
        if self.exponents == (1.0,):
            return log_ratio
        beta = jnp.asarray(self.exponents, log_ratio.dtype)
        return log_ratio * jnp.tile(beta, log_ratio.shape[0] // len(beta))

    def walk(
        self,
        key: Key,
        params: Params,
        sigma: Array,
        n_moves: int,
        mirrored: bool = False,
    ) -> tuple[Array, Array, Array, Array]:
        """``n_moves`` proposals, from a fresh cache.

        Args:
            key: of this walk.
            params: of the wave function.
            sigma: (B, N).
            n_moves: how many; N are a sweep.
            mirrored: whether the second half of the moves is the first one backwards.
                Given the moves, the walk is then reversible.

        Returns:
            Configurations, acceptance, drift, and Re log psi (B,).
        """
        n_local = len(sigma)
        sequence = shared_integers(
            derive(key, Purpose.PROPOSAL), self.moves.n_moves, n_moves
        )
        if mirrored:
            half = sequence[: n_moves // 2]
            sequence = sequence.at[-(-n_moves // 2) :].set(half[::-1])
        key = derive(key, Purpose.ACCEPT)
        ids = lax.axis_index(WALKERS) * n_local + jnp.arange(n_local)
        block = self._block(params, sigma)

        def some(rows: tuple[Array, Array]) -> tuple[Array, ...]:
            return self._walk_together(key, params, *rows, sequence)

        if block == n_local:
            sigma, accepted, drift, log_psi = some((sigma, ids))
        else:
            blocks = sigma.reshape(-1, block, sigma.shape[1]), ids.reshape(-1, block)
            found = lax.map(some, blocks)
            sigma, log_psi = found[0].reshape(sigma.shape), found[3].reshape(-1)
            accepted, drift = jnp.sum(found[1]), jnp.max(found[2])
        n_counted = n_local // len(self.exponents)
        acceptance = accepted.astype(log_psi.dtype) / (n_moves * n_counted)
        return sigma, acceptance, drift, log_psi

    def _block(self, params: Params, sigma: Array) -> int:
        """Walkers that take their sweeps together, see `BLOCK_BYTES`."""
        n_local = len(sigma)
        if jax.default_backend() != "cpu":
            return n_local

        def size(rows: int) -> int:
            some = jax.ShapeDtypeStruct((rows, sigma.shape[1]), sigma.dtype)
            cache = jax.eval_shape(self.wavefunction.cache, params, some)
            return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(cache))

        if n_local < 2 * LEAST_BLOCK or size(n_local) <= BLOCK_BYTES:
            return n_local
        per_walker = size(2) - size(1)
        block, step = n_local, len(self.exponents)
        while (
            per_walker * block > BLOCK_BYTES
            and block >= 2 * LEAST_BLOCK
            and block % (2 * step) == 0
        ):
            block //= 2
        return block

    def _walk_together(
        self, key: Key, params: Params, sigma: Array, ids: Array, sequence: Array
    ) -> tuple[Array, ...]:
        """Walk walkers of given global ids through a sequence of moves.

        Returns:
            Configurations, accepted moves, drift, Re log psi (B,).
        """
        start = self.wavefunction.log_psi(params, sigma).real
        moved = self._through(key, params, sigma, ids, sequence, start)
        sigma, gain, accepted = moved
        log_psi = self.wavefunction.log_psi(params, sigma).real
        # Where psi is no number, there is nothing to compare: see `vmc.walkers`.
        known = jnp.isfinite(start) & jnp.isfinite(log_psi)
        gap = jnp.abs(start + 0.5 * gain - log_psi)
        return sigma, accepted, jnp.max(jnp.where(known, gap, 0)), log_psi

    def _through(
        self,
        key: Key,
        params: Params,
        sigma: Array,
        ids: Array,
        sequence: Array,
        start: Array,
    ) -> tuple[Array, Array, Array]:
        """Configurations, what log |psi|^2 has gained (B,), accepted moves.

        ``start`` is Re log psi (B,) of the first configurations.
        """
        wf, n_local, n_moves = self.wavefunction, len(sigma), len(sequence)
        cache = wf.cache(params, sigma)
        table = jax.tree.map(jnp.asarray, self.moves)
        chunk = self._chunk(n_moves, n_local)
        n_chunks = -(-n_moves // chunk)

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
            bits = numbers(key, ids, chunk, c * (chunk // 4))
            stop = jnp.minimum((c + 1) * chunk, n_moves)
            return lax.fori_loop(c * chunk, stop, propose, (bits, carry))[1]

        carry = (sigma.T, cache, jnp.zeros_like(start), jnp.zeros((), jnp.int32))
        if n_chunks == 1:
            carry = run_chunk(jnp.zeros((), jnp.int32), carry)
        else:
            carry = lax.fori_loop(0, n_chunks, run_chunk, carry)
        sigma_t, _, gain, accepted = carry
        return sigma_t.T, gain, accepted

    def _chunk(self, n_moves: int, n_local: int) -> int:
        """Moves whose acceptance numbers are drawn at a time, a multiple of 4.

        It depends on the device, the numbers do not: they come in groups of four,
        counted from the first move.
        """
        return min(-(-n_moves // 4), max(1, MOVES_PER_DRAW // n_local // 4)) * 4


def _one_row(move: Any) -> Moves:
    return Moves(move.sites[None], move.shift[None], move.exchange)

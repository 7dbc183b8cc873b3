"""Metropolis for targets with many wells: replicas, and flips of all spins.

Parallel tempering (Swendsen and Wang 1986; Hukushima and Nemoto,
arXiv:cond-mat/9512035): each walker has R replicas that follow |psi|^(2 beta_r) with
1 = beta_1 > ... > beta_R, and neighbours exchange their configurations with the chance
that keeps the product of all targets.  A flat replica crosses the barriers, and what it
finds moves up to the first one, which alone is sampled.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from vmc.base import Key, Moves, Params, Sampler, SamplerInfo, WaveFunction
from vmc.distributed import check_divisible
from vmc.errors import JobError
from vmc.keys import Purpose, derive, shared_integers, walker_bits
from vmc.metropolis import Metropolis
from vmc.samplers import check_chain, two_way
from vmc.space import Spins

#: Moves of a sweep beside the table: flips of all spins, exchanges of replicas.
_FLIP, _EXCHANGE = 0, 1


@dataclasses.dataclass(frozen=True)
class _Tempered(Metropolis):
    """The walkers of this device are kept as (B, R, N)."""

    global_flip: bool = False

    @property
    def n_replicas(self) -> int:
        return len(self.exponents)

    def n_local(self) -> int:
        return super().n_local() * self.n_replicas

    def init(self, key: Key, params: Params) -> Array:
        """Replicas of a walker start independent of one another."""
        bits = walker_bits(
            derive(key, Purpose.INIT, 0), self.n_local(), self.space.n_sites
        )
        sigma = self._folded(self.space.random(bits))
        if self.burn_in == 0:
            return sigma
        burn_key = derive(key, Purpose.INIT, 1)
        return self._sweeps(burn_key, params, sigma, self.burn_in)[0]

    def sample(
        self, key: Key, params: Params, chains: Array
    ) -> tuple[Array, Array, SamplerInfo]:
        """Draws of the first replicas."""

        def draw(sigma: Array, t: Array) -> tuple[Array, Any]:
            out = self._sweeps(derive(key, t), params, sigma, self.n_sweeps)
            sigma, *info = out
            return sigma, (sigma[:, 0], *info)

        chains, (samples, acceptance, drift, log_psi) = lax.scan(
            draw, chains, jnp.arange(self.n_draws)
        )
        info = SamplerInfo(jnp.mean(acceptance), jnp.max(drift), log_psi[-1])
        return chains, samples, info

    def _folded(self, x: Array) -> Array:
        return x.reshape(-1, self.n_replicas, *x.shape[1:])

    def _sweeps(
        self, key: Key, params: Params, sigma: Array, n: int
    ) -> tuple[Array, Array, Array, Array]:
        """Sweeps of N proposals, each with a flip and an exchange after it."""

        def sweep(sigma: Array, s: Array) -> tuple[Array, Any]:
            step = derive(key, Purpose.DIRECT, s)
            flat = sigma.reshape(-1, self.space.n_sites)
            n = self.space.n_sites
            flat, acceptance, drift, log_psi = self.walk(step, params, flat, n)
            if self.global_flip:
                flat, log_psi = self._flip(step, params, flat, log_psi)
            sigma, log_psi = self._folded(flat), self._folded(log_psi)
            if self.n_replicas > 1:
                sigma, log_psi = self._exchange(step, sigma, log_psi)
            return sigma, (acceptance, drift, log_psi[:, 0])

        sigma, (acceptance, drift, log_psi) = lax.scan(sweep, sigma, jnp.arange(n))
        return sigma, jnp.mean(acceptance), jnp.max(drift), log_psi[-1]

    def _uniform(self, key: Key, which: int, like: Array) -> Array:
        """A number in [0, 1) for every walker and replica, of the shape of ``like``."""
        words = walker_bits(derive(key, Purpose.ACCEPT, which), like.size, 1)[0]
        return words.reshape(like.shape).astype(like.dtype) * 2.0**-32

    def _flip(
        self, key: Key, params: Params, sigma: Array, log_psi: Array
    ) -> tuple[Array, Array]:
        """All spins of a walker at once."""
        other = self.wavefunction.log_psi(params, -sigma).real
        ratio = self._tempered(2 * (other - log_psi))
        accept = self._uniform(key, _FLIP, log_psi) < jnp.exp(ratio)
        sigma = jnp.where(accept[:, None], -sigma, sigma)
        return sigma, jnp.where(accept, other, log_psi)

    def _exchange(self, key: Key, sigma: Array, log_psi: Array) -> tuple[Array, Array]:
        """Neighbouring replicas, in pairs that start with an even or an odd one."""
        beta = np.asarray(self.exponents)
        steps = jnp.asarray(beta[:-1] - beta[1:], log_psi.dtype)[None]
        gain = steps * 2 * (log_psi[:, 1:] - log_psi[:, :-1])
        first = shared_integers(derive(key, Purpose.PROPOSAL, _EXCHANGE), 2, 1)[0]
        paired = (jnp.arange(self.n_replicas - 1) % 2 == first)[None]
        uniform = self._uniform(key, _EXCHANGE, log_psi)[:, :-1]
        accept = paired & (uniform < jnp.exp(gain))
        up = jnp.pad(accept, ((0, 0), (0, 1))).astype(jnp.int32)
        down = jnp.pad(accept, ((0, 0), (1, 0))).astype(jnp.int32)
        source = jnp.arange(self.n_replicas)[None] + up - down
        sigma = jnp.take_along_axis(sigma, source[..., None], axis=1)
        return sigma, jnp.take_along_axis(log_psi, source, axis=1)


def exponents(n_replicas: int, smallest: float) -> tuple[float, ...]:
    """beta from 1 to ``smallest`` in equal steps; (1,) for one replica.

    Raises:
        JobError: no replica, or a smallest beta outside [0, 1).
    """
    if n_replicas < 1 or not 0 <= smallest < 1:
        raise JobError(
            f"{n_replicas} replicas down to beta = {smallest}: there is at least one "
            "replica, and beta is at least 0 and below 1"
        )
    if n_replicas == 1:
        return (1.0,)
    return tuple(float(x) for x in np.linspace(1.0, smallest, n_replicas))


def tempered(
    wavefunction: WaveFunction,
    space: Spins,
    moves: Moves,
    *,
    n_chains: int,
    n_draws: int = 1,
    n_sweeps: int = 1,
    burn_in: int = 0,
    n_devices: int = 1,
    betas: tuple[float, ...] = (1.0,),
    global_flip: bool = False,
) -> Sampler:
    """`vmc.samplers.metropolis` with replicas, or with flips of all spins, or both.

    A sweep is N proposals to every replica, one flip of all spins (if asked for) and
    one exchange between neighbouring replicas.  It costs R times a plain one, and two
    evaluations of psi more.

    Args:
        wavefunction: psi.
        space: its configurations, which the moves must not leave.
        moves: the proposals.
        n_chains: walkers over all devices, each with all replicas.
        n_draws: T, samples per walker and call.
        n_sweeps: sweeps before each sample.
        burn_in: sweeps after the random start (the driver has its own).
        n_devices: devices that share the walkers.
        betas: exponents of the replicas, 1 first; see `exponents`.
        global_flip: propose sigma -> -sigma after each sweep.

    Raises:
        JobError: a number does not fit, the first beta is not 1, or flips of all spins
            leave the sector.
    """
    check_divisible(n_chains, n_devices)
    check_chain(moves, n_draws=n_draws, n_sweeps=n_sweeps)
    if burn_in < 0:
        raise JobError(f"burn_in is {burn_in}; it is at least 0")
    if not betas or betas[0] != 1.0 or min(betas) < 0:
        raise JobError(
            f"betas = {betas}: the first replica, which is sampled, has beta = 1, and "
            "none is negative"
        )
    if global_flip:
        _check_flips(space)
    both_ways = two_way(space, moves)

    def build(draws: int) -> Sampler:
        static = _Tempered(
            wavefunction,
            space,
            moves,
            n_chains,
            draws,
            n_sweeps,
            burn_in,
            both_ways,
            betas,
            global_flip,
        )
        return Sampler(static.init, static.sample, n_chains, draws, build)

    return build(n_draws)


def _check_flips(space: Spins) -> None:
    """Refuse flips of all spins that leave the sector.

    Raises:
        JobError: they do.
    """
    if space.total_sz or space.charges or space.blockade:
        raise JobError(
            f"[sampler] global_flip = true: flips of all spins leave the sector "
            f"({space.label}). Use global_flip = false; they need total_sz = 0 or "
            '"free", and no other charge or rule.'
        )

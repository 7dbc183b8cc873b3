"""Metropolis whose walks are one kernel of a GPU each."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
from jax import Array, lax

from vmc.base import Key, Moves, Params, Sampler, WaveFunction
from vmc.errors import JobError
from vmc.keys import numbers
from vmc.metropolis import Metropolis
from vmc.samplers import metropolis
from vmc.space import Spins


@dataclasses.dataclass(frozen=True)
class _InOneKernel(Metropolis):
    """The same walk, number for number, by ``wavefunction.walk``."""

    interpret: bool = False

    def _block(self, params: Params, sigma: Array) -> int:
        del params
        return len(sigma)

    def _through(
        self,
        key: Key,
        params: Params,
        sigma: Array,
        ids: Array,
        sequence: Array,
        start: Array,
    ) -> tuple[Array, Array, Array]:
        walk, n_moves = self.wavefunction.walk, len(sequence)
        assert walk is not None
        chunk = self._chunk(n_moves, len(sigma))
        n_chunks = -(-n_moves // chunk)
        # What fills the last chunk up changes no site, and is refused.
        sites = jnp.pad(
            jnp.asarray(self.moves.sites)[sequence],
            ((0, n_chunks * chunk - n_moves), (0, 0)),
            constant_values=self.space.n_sites,
        )
        fixed_sz = self.space.total_sz is not None

        def some(carry: tuple[Array, ...], c: Array) -> tuple[tuple[Array, ...], None]:
            sigma, gain, accepted = carry
            rows = lax.dynamic_slice_in_dim(sites, c * chunk, chunk)
            words = numbers(key, ids, chunk, c * (chunk // 4))
            sigma, more, count = walk(
                params, sigma, rows, words, fixed_sz=fixed_sz, interpret=self.interpret
            )
            return (sigma, gain + more, accepted + count), None

        carry = (sigma, jnp.zeros_like(start), jnp.zeros((), jnp.int32))
        chunks = jnp.arange(n_chunks, dtype=jnp.int32)
        sigma, gain, accepted = lax.scan(some, carry, chunks)[0]
        return sigma, gain, accepted


def in_one_kernel(
    wavefunction: WaveFunction,
    space: Spins,
    moves: Moves,
    *,
    interpret: bool = False,
    **numbers: int,
) -> Sampler:
    """`vmc.samplers.metropolis`, all moves of a draw in one kernel of a GPU.

    The walkers move as they do there.

    Args:
        wavefunction: psi, with ``walk``.
        space: its configurations, all of them or those of a total Sz.
        moves: the proposals, flips of spins 1/2.
        interpret: interpret the kernel, slowly, on any device: for tests.
        numbers: those of `vmc.samplers.metropolis`.

    Raises:
        JobError: psi has no such walk, there is no GPU, the space has other rules, or
            as `vmc.samplers.metropolis`.
    """
    if wavefunction.walk is None:
        raise JobError(
            '[sampler] kernel = "pallas": this wave function has no walk in one '
            'kernel; the RBM ("rbm") has. Use kernel = "xla".'
        )
    if space.charges or space.blockade or not space.is_spin_half:
        raise JobError(
            '[sampler] kernel = "pallas" takes spins 1/2, all states or those of one '
            f'total Sz, not {space.label}. Use kernel = "xla".'
        )
    platform = jax.default_backend()
    if not interpret and platform != "gpu":
        raise JobError(
            f'[sampler] kernel = "pallas" needs a GPU, and JAX runs on "{platform}". '
            'Use kernel = "xla".'
        )

    kind = functools.partial(_InOneKernel, interpret=interpret)
    return metropolis(wavefunction, space, moves, kind=kind, **numbers)

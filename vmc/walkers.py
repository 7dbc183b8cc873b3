"""Walkers that psi cannot do anything with: replaced by copies of healthy ones."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from vmc import distributed


class Drawn(NamedTuple):
    """The samples of a step on this device, walker by walker.

    Attributes:
        sigma: int8 (B T, N), T draws of each of B walkers.
        eloc: their local energies, (B T,).
        chains: state of the sampler after them.
    """

    sigma: Array
    eloc: Array
    chains: Any


def cured(drawn: Drawn, log_psi: Array) -> tuple[Drawn, Array, Array]:
    """Replace walkers whose log psi or one of whose local energies is not finite.

    A sick walker becomes a copy, with its draws, of the next healthy one by global
    number, whatever the number of devices.  A step without sick walkers sends no
    more than the mean energy.  Of the state of the sampler, arrays with one row per
    walker are copied.

    Args:
        drawn: the samples.
        log_psi: Re log psi of the last draw, (B,).

    Returns:
        The samples, their mean local energy, and the number of sick walkers over all
        devices (a real number).
    """
    n_local = log_psi.shape[0]
    finite = jnp.isfinite(drawn.eloc)
    sick = ~(jnp.isfinite(log_psi) & jnp.all(finite.reshape(n_local, -1), axis=1))
    n_samples = drawn.eloc.shape[0] * distributed.n_devices()

    def share(eloc: Array) -> Array:
        uniform = jnp.full(eloc.shape, 1.0 / n_samples, eloc.real.dtype)
        return jnp.tensordot(uniform, eloc, 1)

    count = jnp.sum(sick).astype(drawn.eloc.dtype)
    known = share(jnp.where(finite, drawn.eloc, 0))
    energy, count = distributed.total((known, count))

    def cure(drawn: Drawn, energy: Array) -> tuple[Drawn, Array]:
        del energy
        donors = _donors(distributed.gather(sick.astype(jnp.int32)) > 0)
        mine = distributed.local_rows(donors, n_local)

        def rows(x: Array) -> Array:
            if x.ndim == 0 or x.shape[0] % n_local:
                return x
            by_walker = x.reshape(n_local, -1)
            return distributed.gather(by_walker)[mine].reshape(x.shape)

        def row(x: Array) -> Array:
            return rows(x) if x.ndim and x.shape[0] == n_local else x

        chains = jax.tree.map(row, drawn.chains)
        new = Drawn(rows(drawn.sigma), rows(drawn.eloc), chains)
        return new, distributed.total(share(new.eloc))

    drawn, energy = lax.cond(
        count.real > 0, cure, lambda drawn, energy: (drawn, energy), drawn, energy
    )
    return drawn, energy, count.real


def _donors(sick: Array) -> Array:
    """For every walker itself or, if it is sick, the next healthy one: int32 (C,)."""
    count = sick.shape[0]
    number = jnp.arange(2 * count, dtype=jnp.int32)
    healthy = jnp.where(jnp.tile(sick, 2), 2 * count, number)

    def nearest(after: Array, own: Array) -> tuple[Array, Array]:
        found = jnp.minimum(after, own)
        return found, found

    # One by one: seldom needed, and quicker to compile than what does it at once.
    start = jnp.asarray(2 * count, jnp.int32)
    _, found = lax.scan(nearest, start, healthy, reverse=True)
    return found[:count] % count

"""Local energies and forces."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from vmc import distributed, elementary
from vmc.base import Hamiltonian, Params, WaveFunction
from vmc.chunking import map_chunks


def local_energies(
    wavefunction: WaveFunction,
    hamiltonian: Hamiltonian,
    params: Params,
    sigma: Array,
    chunk: int | None = None,
) -> Array:
    """E_loc(sigma) = sum_sigma' <sigma|H|sigma'> psi(sigma') / psi(sigma).

    Args:
        wavefunction: psi.
        hamiltonian: H.
        params: parameters of psi.
        sigma: int8 (B, N).
        chunk: samples at a time, to bound memory; None takes all at once.

    Returns:
        (B,); real where psi is positive and H real, complex otherwise.
    """

    def some(sigma: Array) -> Array:
        energy = hamiltonian.diagonal(sigma)
        moves = hamiltonian.moves
        if moves.n_moves == 0:
            return energy
        cache = wavefunction.cache(params, sigma)
        elements = hamiltonian.elements(sigma)
        wanted = elements != 0
        log_ratios = wavefunction.log_ratios(params, cache, sigma, moves, wanted)
        # Forbidden moves may have any ratio, infinite ones too: mask before exp.
        zero = jnp.zeros((), log_ratios.dtype)
        ratios = elementary.exp(jnp.where(wanted, log_ratios, zero))
        return energy + jnp.sum(elements * ratios, axis=0)

    if chunk is None or chunk >= sigma.shape[0]:
        return some(sigma)
    return map_chunks(some, sigma, chunk)


def weighted_scores(
    wavefunction: WaveFunction, params: Params, sigma: Array, weights: Array
) -> Any:
    """sum_b conj(O_b) w_b over this device's samples, by one reverse pass.

    No Jacobian is formed.  For real parameters the real part is returned.

    Args:
        wavefunction: psi.
        params: its parameters.
        sigma: int8 (B, N).
        weights: (B,), real or complex.

    Returns:
        A pytree like params.
    """
    log_psi, pull = jax.vjp(lambda p: wavefunction.log_psi(p, sigma), params)
    if not jnp.iscomplexobj(log_psi):
        weights = weights.real
    (out,) = pull(jnp.conj(weights).astype(log_psi.dtype))
    return jax.tree.map(jnp.conj, out)


def clipped(eloc: Array, weights: Array, width: float) -> Array:
    """Local energies without outliers: for gradients, not for energies.

    Those further from the median than ``width`` median absolute deviations are moved
    towards it, to that distance.  Of complex ones the median is that of real and
    imaginary parts, and the distance the modulus.  If more than half are equal, none
    is moved.

    Args:
        eloc: of this device's samples, (B,).
        weights: theirs, of sum 1 over all devices, (B,).
        width: in median absolute deviations.

    Returns:
        (B,).
    """
    everyone, shares = distributed.gather(eloc), distributed.gather(weights)
    centre = _median(everyone.real, shares)
    if jnp.iscomplexobj(eloc):
        centre = centre + 1j * _median(everyone.imag, shares)
    limit = width * _median(jnp.abs(everyone - centre), shares)
    distance = jnp.abs(eloc - centre)
    outside = (limit > 0) & (distance > limit)
    factor = jnp.where(outside, limit / jnp.where(outside, distance, 1), 1)
    return jnp.where(outside, centre + factor * (eloc - centre), eloc)


def _median(x: Array, weights: Array) -> Array:
    """The least x with half of the weight at or below it."""
    order = jnp.argsort(x)
    below = jnp.cumsum(weights[order])
    return x[order][jnp.searchsorted(below, below[-1] / 2)]

"""Overlaps with other states: symmetry images, other parameters, powers of H."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from vmc import elementary
from vmc.base import Move, Params
from vmc.estimators import local_energies
from vmc.observables import STATIC, Kernel, Sample, Table, ratios_of
from vmc.stats import Series
from vmc.wavefunction import apply_move


def gauge_signs(signs: Table, sigma: Array, dims: tuple[int, ...]) -> Array:
    """prod_i a_i^n_i, by which psi of the gauge differs from the physical one, (B,).

    Args:
        signs: a_i, +1 or -1, int (N,).
        sigma: int8 (B, N).
        dims: local dimensions.
    """
    index = (jnp.asarray(dims, jnp.int32)[None] - 1 - sigma.astype(jnp.int32)) // 2
    odd = jnp.sum(jnp.where(jnp.asarray(signs)[None] < 0, index, 0), axis=1) % 2
    return 1 - 2 * odd


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Symmetries(Kernel):
    """Averages of site permutations, some with a flip of all spins: real, imaginary.

    T moves the value of site i to site perm[i] (and inverts it where ``flips``);
    <psi|T|psi> is the average of conj(psi(T sigma) / psi(sigma)).

    Attributes:
        inverses: int (G, N), perm^-1.
        flips: +1 or -1, int8 (G,).
        signs: gauge, int (N,).
    """

    inverses: Table
    flips: Table
    signs: Table

    @property
    def n_features(self) -> int:
        """2 G."""
        return 2 * self.inverses.shape[0]

    def __call__(self, sample: Sample) -> Array:
        """See `Kernel`."""
        wf, sigma = sample.wavefunction, sample.sigma
        dims = sample.space.local_dims
        before = wf.log_psi(sample.params, sigma)
        sign = gauge_signs(self.signs, sigma, dims)

        def one(element: tuple[Array, Array]) -> Array:
            inverse, flip = element
            moved = sigma[:, inverse] * flip
            ratio = elementary.exp(wf.log_psi(sample.params, moved) - before)
            ratio = ratio * (sign * gauge_signs(self.signs, moved, dims))
            return jnp.stack([jnp.real(ratio), -jnp.imag(ratio)])

        elements = jnp.asarray(self.inverses), jnp.asarray(self.flips, jnp.int8)
        return lax.map(one, elements).reshape(self.n_features, -1)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Overlap(Kernel):
    """Average of phi(sigma) / psi(sigma) exp(-scale): real and imaginary part.

    Attributes:
        params: parameters of phi.
        scale: a typical log |phi / psi|.
        signs: product of the gauges of both, int (N,).
        log_phi: (params, sigma) -> log phi.
    """

    params: Params
    scale: Table
    signs: Table
    log_phi: Callable[[Params, Array], Array] = dataclasses.field(metadata=STATIC)

    @property
    def n_features(self) -> int:
        """2."""
        return 2

    def __call__(self, sample: Sample) -> Array:
        """See `Kernel`."""
        sigma = sample.sigma
        psi = sample.wavefunction.log_psi(sample.params, sigma)
        ratio = elementary.exp(self.log_phi(self.params, sigma) - psi - self.scale)
        sign = gauge_signs(self.signs, sigma, sample.space.local_dims)
        return jnp.stack([jnp.real(ratio) * sign, jnp.imag(ratio) * sign])


# ---- one Lanczos step ------------------------------------------------------------


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Powers(Kernel):
    """<H - c>, <(H - c)^2> and <(H - c)^3>, with c near the energy.

    The cube needs the local energy of every configuration that H connects to.

    Attributes:
        centre: c, float scalar.
    """

    centre: Table

    @property
    def n_features(self) -> int:
        """3."""
        return 3

    def near(self, energy: float) -> Powers:
        """With c = energy."""
        return Powers(np.asarray(energy, float))

    def __call__(self, sample: Sample) -> Array:
        """See `Kernel`."""
        wf, ham, params, sigma = sample[:4]
        centre = jnp.asarray(self.centre)

        def energy(sigma: Array) -> Array:
            return local_energies(wf, ham, params, sigma) - centre

        first = energy(sigma)
        second = (ham.diagonal(sigma) - centre) * first
        if ham.moves.n_moves:
            elements = ham.elements(sigma)
            weights = elements * ratios_of(sample, ham.moves, elements)

            def one(row: tuple[Array, Array, Array]) -> Array:
                sites, shift, weight = row
                move = Move(sites, shift, ham.moves.exchange)
                moved = energy(apply_move(sigma, move, ham.space.local_dims))
                # Forbidden moves may lead anywhere, infinite energies too.
                return jnp.where(weight == 0, 0, weight * moved)

            rows = jnp.asarray(ham.moves.sites), jnp.asarray(ham.moves.shift), weights
            second = second + jnp.sum(lax.map(one, rows), axis=0)
        cube = (jnp.conj(first) * second).real
        return jnp.stack([first.real, jnp.abs(first) ** 2, cube])


def lanczos_energy(powers: Series) -> Series:
    """Lowest energy of (1 + a (H - c)) psi over a, relative to c.

    Args:
        powers: <H - c>, its square and its cube, (..., 3).

    Returns:
        (...,): the lower root of the 2 x 2 problem of psi and H psi, with the third
        central moment k3 and the variance k2: -2 k2^2 / (k3 + sqrt(k3^2 + 4 k2^3))
        below the mean.
    """
    first, second, third = np.moveaxis(np.asarray(powers), -1, 0)
    k2 = np.maximum(second - first**2, 0)
    k3 = third - 3 * first * second + 2 * first**3
    root = k3 + np.sqrt(k3**2 + 4 * k2**3)
    safe = np.where(root > 0, root, 1)
    return first - np.where(root > 0, 2 * k2**2 / safe, 0)

"""Averages of a normalised wave function over a symmetry group, drawn exactly.

|psi|^2 is the mean of |psi_0|^2 over the images of s, and the phase of psi is that of
the sum of psi_0 over them (arXiv:2206.07729): psi is normalised as psi_0 is, and a draw
of psi_0, moved by a random element of the group, is a draw of psi.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from vmc import elementary
from vmc.base import Params, Problem
from vmc.errors import JobError
from vmc.space import Spins

#: Largest group that psi is averaged over.
MAX_IMAGES = 1 << 16


def images_of(
    problem: Problem, family: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Permutations (G, N), signs (G,) and characters (G,) of the group, or None.

    Raises:
        JobError: characters that a normalised average cannot have.
    """
    if problem.symmetry is None and not problem.spin_flip:
        return None
    space, n_sites = problem.space, problem.space.n_sites
    if problem.spin_flip and isinstance(space, Spins):
        if space.twice_sz or space.has_rules:
            raise JobError(
                f"the spin flip leaves the sector ({space.label}), so {family} cannot "
                'be made even under it. Use symmetry = "none", or total_sz = 0.'
            )
    perms = np.arange(n_sites)[None]
    if problem.symmetry is not None:
        perms = np.asarray(problem.symmetry)
    characters = np.ones(len(perms), complex)
    if problem.characters is not None:
        characters = np.asarray(problem.characters, complex)
    signs = np.ones(len(perms), np.int8)
    if problem.spin_flip:
        characters = np.concatenate([characters, problem.flip_character * characters])
        flips = np.array([1, -1], np.int8)
        perms, signs = np.tile(perms, (2, 1)), np.repeat(flips, len(signs))
    _check_characters(problem, characters, family)
    if len(perms) > MAX_IMAGES:
        raise JobError(
            f"the symmetry group has {len(perms)} elements; {family} is averaged over "
            f"at most {MAX_IMAGES}. Ask for fewer symmetries."
        )
    return perms, signs, characters


def _check_characters(problem: Problem, characters: np.ndarray, family: str) -> None:
    """Refuse characters whose psi must vanish somewhere: the average does not.

    Raises:
        JobError: they are refused.
    """
    if np.allclose(characters, 1):
        return
    odd_flip = problem.symmetry is None and any(
        d % 2 == 0 for d in problem.space.local_dims
    )
    if not odd_flip:
        raise JobError(
            f"{family} cannot have these quantum numbers: psi would have to vanish on "
            "symmetric configurations, where a normalised average does not. Use "
            'symmetry = "none", characters of 1, or another ansatz.'
        )
    if problem.dtype == "real":
        raise JobError(
            f"a positive {family} cannot be odd under the spin flip; use "
            'dtype = "complex", or flip_character = 1'
        )


@dataclasses.dataclass(frozen=True, eq=False)
class Average:
    """psi of a network averaged over the images s[perm] sign of configurations.

    Attributes:
        plain: (params, sigma (B, N)) -> log psi_0, (B,), for any number of rows.
        draw_plain: (params, words (N, B)) -> draws of |psi_0|^2 and their ln p.
        perms: int (G, N), the permutations.
        signs: int8 (G,), -1 where the spins are flipped too.
        characters: complex (G,), psi(image) / psi.
    """

    plain: Callable[[Params, Array], Array]
    draw_plain: Callable[[Params, Array], tuple[Array, Array]]
    perms: np.ndarray
    signs: np.ndarray
    characters: np.ndarray

    def each(self, params: Params, sigma: Array) -> Array:
        """Log psi_0 of all images, (B, G)."""
        moved = sigma[:, self.perms] * jnp.asarray(self.signs)[None, :, None]
        rows = moved.reshape(-1, sigma.shape[1])
        return self.plain(params, rows).reshape(-1, len(self.perms))

    def log_psi(self, params: Params, sigma: Array) -> Array:
        """Half of ln of the mean of |psi_0|^2, and the phase of the sum."""
        each = self.each(params, sigma)
        modulus = self.mean(2 * each.real) / 2
        if not jnp.iscomplexobj(each):
            return modulus
        top = lax.stop_gradient(jnp.max(each.real, axis=1, keepdims=True))
        terms = elementary.exp(each - top)
        if not np.allclose(self.characters, 1):
            factors = jnp.asarray(self.characters.conj(), each.dtype)
            terms = terms * factors[None, :]
        total = jnp.sum(terms, axis=1)
        return lax.complex(modulus, elementary.arctan2(total.imag, total.real))

    def mean(self, log_p: Array) -> Array:
        """Ln of the mean of exp(log_p) over the group, (B,)."""
        sums = jax.scipy.special.logsumexp(log_p, axis=1)
        return sums - math.log(len(self.perms))

    def draw(self, params: Params, words: Array) -> tuple[Array, Array]:
        """A draw of |psi_0|^2, moved by a random element of the group, and ln p.

        The bits of a uniform word are independent.  The low ones of every word, 32 in
        all where there are four sites or more, choose the element; the others, at
        least 24, draw the sites.  So the two are independent, and the words still
        decide everything.
        """
        low = min(8, -(-32 // words.shape[0]))
        sigma, log_p = self.draw_plain(params, words >> low << low)
        element = self.elements(words & ((1 << low) - 1), low)
        # The image under the element is the configuration that was drawn.
        back = jnp.asarray(np.argsort(self.perms, axis=1))[element]
        sigma = sigma * jnp.asarray(self.signs)[element][:, None]
        sigma = jnp.take_along_axis(sigma, back, axis=1)
        # What was drawn is not computed anew: a wrong cache shows up as drift.
        known = jnp.arange(len(self.perms))[None, :] == element[:, None]
        each = jnp.where(known, log_p[:, None], 2 * self.each(params, sigma).real)
        return sigma, self.mean(each)

    def elements(self, bits: Array, low: int) -> Array:
        """Elements of the group from ``low`` random bits per site, (B,)."""
        used = bits[: -(-32 // low)]
        word = jnp.zeros_like(bits[0])
        for k in range(used.shape[0]):
            word = word ^ (used[k] << (low * k))
        total = min(32, low * used.shape[0])
        word = word << (32 - total)
        # The high word of a product with less than 2^16, in 32-bit numbers.
        n = jnp.uint32(len(self.perms))
        half = jnp.uint32(0xFFFF)
        return ((word >> 16) * n + ((word & half) * n >> 16) >> 16).astype(jnp.int32)

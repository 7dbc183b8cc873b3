"""Configuration spaces: N spins, free or in a sector of fixed total Sz."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax import Array

from vmc import keys
from vmc.base import Moves
from vmc.errors import JobError

#: Largest number of states that `Spins.all_states` lists (about 27 sites).
MAX_STATES = 2**27


@dataclasses.dataclass(frozen=True)
class Spins:
    """N spins; site i takes the values 2m = -(d_i - 1), ..., d_i - 1 in steps of 2.

    Hashable and static: a jitted function may close over it.  Use `spins`.

    Attributes:
        local_dims: d_i = 2 S_i + 1 of every site.
        total_sz: sum of m_i of the sector, or None if it is free.
    """

    local_dims: tuple[int, ...]
    total_sz: float | None = None

    @property
    def n_sites(self) -> int:
        """N."""
        return len(self.local_dims)

    @property
    def is_spin_half(self) -> bool:
        """True if every site is a spin 1/2."""
        return all(d == 2 for d in self.local_dims)

    @property
    def twice_sz(self) -> int | None:
        """Sum of the sigma of the sector, 2 total_sz, or None."""
        return None if self.total_sz is None else round(2 * self.total_sz)

    @property
    def n_states(self) -> int:
        """Number of configurations in the sector."""
        if self.total_sz is None:
            return math.prod(self.local_dims)
        counts = {0: 1}
        for d in self.local_dims:
            new: dict[int, int] = {}
            for total, n in counts.items():
                for value in range(-(d - 1), d, 2):
                    new[total + value] = new.get(total + value, 0) + n
            counts = new
        return counts.get(self.twice_sz or 0, 0)

    def all_states(self) -> np.ndarray:
        """Every configuration of the sector, int8 (n_states, N).

        The order is lexicographic with the largest value (up) first; site 0 is
        the slowest.  For exact diagonalisation and tests only.

        Raises:
            JobError: there are too many to list.
        """
        if math.prod(self.local_dims) > MAX_STATES:
            raise JobError(
                f"{self.n_sites} sites have {math.prod(self.local_dims):.3g} "
                f"configurations; at most {MAX_STATES:.3g} can be enumerated. Use a "
                "Monte Carlo sampler instead of an exact one."
            )
        if self.is_spin_half and self.twice_sz is not None:
            return _half_filling(self.n_sites, (self.n_sites + self.twice_sz) // 2)
        grids = np.meshgrid(
            *(np.arange(d - 1, -d, -2, dtype=np.int8) for d in self.local_dims),
            indexing="ij",
        )
        states = np.stack([g.reshape(-1) for g in grids], axis=1)
        if self.twice_sz is None:
            return states
        return states[states.sum(axis=1, dtype=np.int64) == self.twice_sz]

    def random(self, bits: Array) -> Array:
        """Independent random configurations, uniform over the sector.

        Args:
            bits: uint32 (N, B), random words.

        Returns:
            int8 (B, N).
        """
        if self.total_sz is None:
            return self._random_free(bits).T
        if self.is_spin_half:
            n_up = (self.n_sites + (self.twice_sz or 0)) // 2
            # The ranks of N random words are a uniform shuffle.
            rank = jnp.argsort(jnp.argsort(bits, axis=0), axis=0)
            return jnp.where(rank < n_up, 1, -1).astype(jnp.int8).T
        return self._random_general_sector(bits).T

    def _random_free(self, bits: Array) -> Array:
        if self.is_spin_half:
            return (1 - 2 * (bits >> 31).astype(jnp.int32)).astype(jnp.int8)
        columns = [
            d - 1 - 2 * keys.scaled(bits[site], d)
            for site, d in enumerate(self.local_dims)
        ]
        return jnp.stack(columns).astype(jnp.int8)

    def _random_general_sector(self, bits: Array) -> Array:
        """Site by site, weighted by the number of ways to complete the rest."""
        ways = _completions(self.local_dims)
        width = ways.shape[1] // 2
        remaining = jnp.full((bits.shape[1],), self.twice_sz or 0, jnp.int32)
        columns = []
        for site, d in enumerate(self.local_dims):
            values = jnp.arange(d - 1, -d, -2, dtype=jnp.int32)
            left = jnp.clip(remaining[None, :] - values[:, None] + width, 0, 2 * width)
            weights = jnp.cumsum(jnp.asarray(ways[site + 1])[left], axis=0)
            # 24 bits are exact in single precision too: 32 could round up to one.
            uniform = (bits[site] >> 8).astype(weights.dtype) * 2.0**-24
            index = jnp.sum((uniform * weights[-1])[None, :] >= weights, axis=0)
            value = values[index]
            remaining = remaining - value
            columns.append(value.astype(jnp.int8))
        return jnp.stack(columns)

    def allows(self, sigma: Array, moves: Moves) -> Array:
        """Whether each move stays inside the sector.

        Args:
            sigma: int8 (B, N).
            moves: a table of K moves.

        Returns:
            bool (K, B).
        """
        k_moves, n_batch = moves.sites.shape[0], sigma.shape[0]
        if self.total_sz is None:
            return jnp.ones((k_moves, n_batch), bool)
        old = moved_values(sigma, moves, self.local_dims, before=True)
        new = moved_values(sigma, moves, self.local_dims, before=False)
        return jnp.sum(new - old, axis=1) == 0


def moved_values(
    sigma: Array, moves: Moves, local_dims: Sequence[int], *, before: bool
) -> Array:
    """Values of the sites of each move, int32 (K, k, B), before or after it.

    Padding entries give 0.
    """
    n_sites = len(local_dims)
    padded = jnp.concatenate(
        [sigma.T.astype(jnp.int32), jnp.zeros((1, sigma.shape[0]), jnp.int32)]
    )
    old = padded[moves.sites]
    if before:
        return old
    dims = jnp.asarray((*local_dims, 1), jnp.int32)[moves.sites][:, :, None]
    index = (dims - 1 - old) // 2
    index = jnp.mod(index + moves.shift.astype(jnp.int32)[:, :, None], dims)
    new = dims - 1 - 2 * index
    return jnp.where(moves.sites[:, :, None] == n_sites, 0, new)


def spins(
    n_sites: int, *, spin: float | Sequence[float] = 0.5, total_sz: float | None = None
) -> Spins:
    """A space of spins.

    Args:
        n_sites: N, at least 1.
        spin: S of every site, or one per site (0.5, 1, 1.5, ...).
        total_sz: sum of m_i of the sector; None leaves it free.

    Raises:
        JobError: a value makes no sense, or the sector is empty.
    """
    if n_sites < 1:
        raise JobError(f"n_sites is {n_sites}; a space needs at least one site")
    each = [spin] * n_sites if isinstance(spin, int | float) else list(spin)
    if len(each) != n_sites:
        raise JobError(f"{len(each)} spins were given for {n_sites} sites")
    for s in each:
        if s <= 0 or 2 * s != int(2 * s):
            raise JobError(f"spin {s} is not a positive multiple of 1/2")
    dims = tuple(int(2 * s) + 1 for s in each)
    largest = sum(d - 1 for d in dims)
    if total_sz is not None:
        twice = round(2 * total_sz)
        if abs(2 * total_sz - twice) > 1e-9 or abs(twice) > largest:
            raise JobError(
                f"total_sz = {total_sz} is impossible for {n_sites} sites: it is a "
                f"multiple of 1/2 between -{largest / 2} and {largest / 2}"
            )
        if (twice - largest) % 2:
            near = sorted((twice - 1, twice + 1), key=abs)[0] / 2
            raise JobError(
                f"total_sz = {total_sz} is impossible for {n_sites} sites: the sum "
                f"of their m is {'half-odd' if largest % 2 else 'an integer'}; the "
                f"nearest sector is total_sz = {near}"
            )
        total_sz = twice / 2
    return Spins(dims, total_sz)


def _half_filling(n_sites: int, n_up: int) -> np.ndarray:
    ups = np.array(list(itertools.combinations(range(n_sites), n_up)), np.int64)
    states = np.full((len(ups), n_sites), -1, np.int8)
    if n_up:
        np.put_along_axis(states, ups, 1, axis=1)
    return states


def _completions(dims: tuple[int, ...]) -> np.ndarray:
    """Ways that sites >= i reach a sum, scaled by rows: (N + 1, 2 W + 1)."""
    width = sum(d - 1 for d in dims)
    counts = np.zeros((len(dims) + 1, 2 * width + 1))
    counts[-1, width] = 1.0
    for site in range(len(dims) - 1, -1, -1):
        for value in range(-(dims[site] - 1), dims[site], 2):
            counts[site] += np.roll(counts[site + 1], value)
        counts[site] /= counts[site].max()
    return counts

"""Configuration spaces: N spins, free or in a sector of conserved charges."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax import Array

from vmc import keys
from vmc.base import Moves
from vmc.errors import JobError
from vmc.sectors import Charge, Layers, check_charge, completions, layers_of, neighbours

#: Largest number of states that `Spins.all_states` lists (about 27 sites).
MAX_STATES = 2**27


@dataclasses.dataclass(frozen=True)
class Spins:
    """N spins; site i takes the values 2m = -(d_i - 1), ..., d_i - 1 in steps of 2.

    Hashable and static: a jitted function may close over it.  Use `spins`.

    Attributes:
        local_dims: d_i = 2 S_i + 1 of every site.
        total_sz: sum of m_i of the sector, or None if it is free.
        charges: other charges that are fixed.
        blockade: pairs of sites of which at most one may be below its top state.
    """

    local_dims: tuple[int, ...]
    total_sz: float | None = None
    charges: tuple[Charge, ...] = ()
    blockade: tuple[tuple[int, int], ...] = ()

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
    def is_free(self) -> bool:
        """True if every configuration is allowed."""
        return self.total_sz is None and not self.has_rules

    @property
    def has_rules(self) -> bool:
        """True if more than total Sz restricts the configurations."""
        return bool(self.charges or self.blockade)

    def reordered(self, order: Sequence[int] | np.ndarray) -> Spins:
        """The same sector whose site k is site order[k] of this one."""
        place = np.argsort(order)
        pairs = (sorted((int(place[i]), int(place[j]))) for i, j in self.blockade)
        return dataclasses.replace(
            self,
            local_dims=tuple(self.local_dims[i] for i in order),
            charges=tuple(
                dataclasses.replace(c, weights=tuple(c.weights[i] for i in order))
                for c in self.charges
            ),
            blockade=tuple(sorted((i, j) for i, j in pairs)),
        )

    @property
    def label(self) -> str:
        """The sector in words; empty for the free space."""
        parts = [] if self.total_sz is None else [f"total Sz {self.total_sz:g}"]
        for charge in self.charges:
            modulo = f" mod {charge.modulus}" if charge.modulus else ""
            parts.append(f"charge {charge.value}{modulo}")
        if self.blockade:
            parts.append(f"blockade of {len(self.blockade)} pairs")
        return ", ".join(parts)

    def is_invariant(self, perm: np.ndarray) -> bool:
        """Whether moving site i to perm[i] maps the sector onto itself."""
        pairs = [(int(perm[i]), int(perm[j])) for i, j in self.blockade]
        rules = {tuple(sorted(pair)) for pair in self.blockade}
        return {tuple(sorted(pair)) for pair in pairs} == rules and all(
            np.array_equal(np.array(c.weights)[perm], c.weights) for c in self.charges
        )

    @property
    def layers(self) -> Layers:
        """The sector as an automaton, for counting, listing and drawing.

        Raises:
            JobError: it would have more than `vmc.sectors.MAX_LAYER` states at some
                site.
        """
        charges = self.charges
        if self.twice_sz is not None:
            lowered = (sum(self.local_dims) - self.n_sites - self.twice_sz) // 2
            charges = (*charges, Charge((1,) * self.n_sites, lowered))
        return layers_of(self.local_dims, charges, self.blockade, self.label)

    @property
    def n_states(self) -> int:
        """Number of configurations in the sector."""
        if self.has_rules:
            return self.layers.ways[0][0]
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
        codes = self.all_codes()
        columns = np.empty((self.n_sites, len(codes)), np.int8)
        for site in range(self.n_sites - 1, -1, -1):
            codes, index = np.divmod(codes, self.local_dims[site])
            columns[site] = self.local_dims[site] - 1 - 2 * index
        return np.ascontiguousarray(columns.T)

    def all_codes(self) -> np.ndarray:
        """Every configuration as one number, int64 (n_states,), ascending.

        The local indices n_i are its digits in base d_i; site 0 is the slowest.

        Raises:
            JobError: there are too many to list.
        """
        if math.prod(self.local_dims) >= 2**62 or self.n_states > MAX_STATES:
            raise JobError(
                f"{self.n_sites} sites have {self.n_states:.3g} configurations in the "
                f"sector; at most {MAX_STATES:.3g}, of up to 61 spins 1/2, can be "
                "enumerated. Use a Monte Carlo sampler instead of an exact one."
            )
        if self.is_free:
            return np.arange(self.n_states, dtype=np.int64)
        codes, state = np.zeros(1, np.int64), np.zeros(1, np.int32)
        for steps, d in zip(self.layers.steps, self.local_dims, strict=True):
            state = steps[state]
            kept = state >= 0
            codes = (codes[:, None] * d + np.arange(d))[kept]
            state = state[kept]
        return codes

    def random(self, bits: Array) -> Array:
        """Independent random configurations, uniform over the sector.

        Args:
            bits: uint32 (N, B), random words.

        Returns:
            int8 (B, N).
        """
        if self.has_rules:
            return self._random_by_rules(bits).T
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
        ways = completions(self.local_dims)
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

    def _random_by_rules(self, bits: Array) -> Array:
        """Site by site, weighted by the number of ways to complete the rest."""
        steps, ways = self.layers
        state = jnp.zeros((bits.shape[1],), jnp.int32)
        columns = []
        for site, d in enumerate(self.local_dims):
            after = [*ways[site + 1], 0]  # the last one is reached by -1
            weights = np.array(
                [
                    [after[t] / max(w, 1) for t in row]
                    for row, w in zip(steps[site].tolist(), ways[site], strict=True)
                ]
            )
            # The clamped last column is always the last local state with weight > 0.
            bounds = np.cumsum(weights, axis=1)
            bounds[bounds >= 1 - 1e-12] = 1.0
            uniform = (bits[site] >> 8).astype(jnp.float32) * np.float32(2.0**-24)
            here = jnp.asarray(bounds, jnp.float32)[state]
            index = jnp.sum(uniform[:, None] >= here, axis=1)
            state = jnp.asarray(steps[site])[state, index]
            columns.append((d - 1 - 2 * index).astype(jnp.int8))
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
        allowed = jnp.ones((k_moves, n_batch), bool)
        if self.is_free:
            return allowed
        old = moved_values(sigma, moves, self.local_dims, before=True)
        new = moved_values(sigma, moves, self.local_dims, before=False)
        if self.total_sz is not None:
            allowed = jnp.sum(new - old, axis=1) == 0
        for charge in self.charges:
            weights = jnp.asarray((*charge.weights, 0), jnp.int32)[moves.sites]
            change = jnp.sum(weights[:, :, None] * ((old - new) // 2), axis=1)
            allowed = allowed & charge.fits(change)
        if self.blockade:
            allowed = allowed & self._obeys_blockade(sigma, moves, new)
        return allowed

    def _obeys_blockade(self, sigma: Array, moves: Moves, new: Array) -> Array:
        """Whether no move lowers a site next to a lowered one: bool (K, B)."""
        n = self.n_sites
        tops = np.array(self.local_dims) - 1
        top = jnp.asarray([*tops.tolist(), 0], jnp.int32)
        lowered = sigma.T.astype(jnp.int32) < top[:n, None]
        lowered = jnp.concatenate([lowered, jnp.zeros((1, sigma.shape[0]), bool)])
        sites = jnp.asarray(moves.sites)
        moved = new < top[sites][:, :, None]  # (K, k, B)
        near = jnp.asarray(neighbours(n, self.blockade))[sites]  # (K, k, z)
        beside = lowered[near]  # (K, k, z, B)
        for c in range(sites.shape[1]):
            same = (near == sites[:, c, None, None]) & (near < n)
            beside = jnp.where(same[..., None], moved[:, c, None, None, :], beside)
        return ~jnp.any(moved[:, :, None, :] & beside, axis=(1, 2))


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
    n_sites: int,
    *,
    spin: float | Sequence[float] = 0.5,
    total_sz: float | None = None,
    charges: Sequence[Charge] = (),
    blockade: Sequence[Sequence[int]] | np.ndarray = (),
) -> Spins:
    """A space of spins.

    Args:
        n_sites: N, at least 1.
        spin: S of every site, or one per site (0.5, 1, 1.5, ...).
        total_sz: sum of m_i of the sector; None leaves it free.
        charges: other charges to fix.
        blockade: pairs of sites of which at most one may be lowered (for spins 1/2:
            down), as excited Rydberg atoms.

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
    for charge in charges:
        check_charge(charge, n_sites)
    pairs = tuple((int(i), int(j)) for i, j in (sorted(pair) for pair in blockade))
    for i, j in pairs:
        if not 0 <= i < j < n_sites:
            raise JobError(
                f"blockade pair ({i}, {j}) is not two different sites of 0 to "
                f"{n_sites - 1}"
            )
    space = Spins(dims, total_sz, tuple(charges), tuple(sorted(set(pairs))))
    if space.has_rules and space.n_states == 0:
        raise JobError(f"no configuration of {n_sites} sites has {space.label}")
    return space

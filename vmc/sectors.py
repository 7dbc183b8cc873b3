"""Sectors of conserved charges and blockades, counted site by site."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from vmc.errors import JobError

#: Most partial configurations that must be told apart at one site, see `Layers`.
MAX_LAYER = 2**16


@dataclasses.dataclass(frozen=True)
class Charge:
    """An Abelian charge Q = sum_i w_i n_i with a prescribed value.

    n_i = (d_i - 1 - sigma_i) / 2 counts the steps below the top state of site i: for
    a spin 1/2 it is 1 if the spin is down.  Weights of 1 and modulus 2 are the parity
    of the number of down spins, prod_i sz_i = (-1)^value.

    Attributes:
        weights: w_i, an integer per site.
        value: Q of the sector.
        modulus: 0, or n >= 2 for a charge that is conserved modulo n.
    """

    weights: tuple[int, ...]
    value: int
    modulus: int = 0

    def fits(self, change: Any) -> Any:
        """Whether a difference of Q counts as 0."""
        return (change % self.modulus if self.modulus else change) == 0


class Layers(NamedTuple):
    """A sector as an automaton that reads the sites in order.

    Attributes:
        steps: int32 (S_i, d_i) per site, the next state after each local index; -1
            where no configuration of the sector continues.
        ways: number of configurations of the remaining sites from every state.
    """

    steps: tuple[np.ndarray, ...]
    ways: tuple[tuple[int, ...], ...]


def check_charge(charge: Charge, n_sites: int) -> None:
    """Refuse a charge that does not fit N sites.

    Raises:
        JobError: wrong number of weights, numbers that are no integers, or a modulus
            that is none.
    """
    if len(charge.weights) != n_sites:
        raise JobError(
            f"a charge has {len(charge.weights)} weights; expected one integer for "
            f"each of the {n_sites} sites"
        )
    numbers = (*charge.weights, charge.value, charge.modulus)
    if any(isinstance(x, bool) or not isinstance(x, int) for x in numbers):
        raise JobError(f"weights, value and modulus of {charge} must be integers")
    if charge.modulus < 0 or charge.modulus == 1:
        raise JobError(
            f"modulus = {charge.modulus}: a charge needs 0 (none) or 2, 3, .."
        )


def neighbours(n_sites: int, pairs: Sequence[tuple[int, int]]) -> np.ndarray:
    """Sites that share a pair with each site, int32 (N + 1, z), padded with N."""
    near: list[list[int]] = [[] for _ in range(n_sites + 1)]
    for i, j in pairs:
        near[i].append(j)
        near[j].append(i)
    width = max(map(len, near))
    return np.array([row + [n_sites] * (width - len(row)) for row in near], np.int32)


@functools.lru_cache(maxsize=32)
def layers_of(
    local_dims: tuple[int, ...],
    charges: tuple[Charge, ...],
    blockade: tuple[tuple[int, int], ...],
    label: str,
) -> Layers:
    """The automaton of a sector: a state is all that the later sites must know.

    Args:
        local_dims: d_i of every site.
        charges: all that are fixed, total Sz included.
        blockade: pairs of sites of which at most one may be below its top state.
        label: the sector in words, for the message.

    Raises:
        JobError: more than `MAX_LAYER` states at some site.
    """
    n_sites = len(local_dims)
    later: list[int] = [-1] * n_sites
    for i, j in blockade:
        later[i] = max(later[i], j)
    near = neighbours(n_sites, blockade).tolist()
    layer: dict[tuple, int] = {((0,) * len(charges), ()): 0}
    steps = []
    for site, d in enumerate(local_dims):
        following: dict[tuple, int] = {}
        table = np.full((len(layer), d), -1, np.int32)
        for (sums, held), number in layer.items():
            kept = tuple(i for i in held if later[i] > site)
            blocked = any(i in held for i in near[site])
            for a in range(1 if blocked else d):
                new = tuple(
                    q + c.weights[site] * a
                    if not c.modulus
                    else (q + c.weights[site] * a) % c.modulus
                    for q, c in zip(sums, charges, strict=True)
                )
                more = (*kept, site) if a and later[site] > site else kept
                table[number, a] = following.setdefault((new, more), len(following))
        if len(following) > MAX_LAYER:
            raise JobError(
                f"the sector ({label}) needs more than {MAX_LAYER} partial sums "
                f"at site {site}: fix fewer charges, or order the sites so that "
                "neighbours are close"
            )
        steps.append(table)
        layer = following
    ends = [
        all(c.fits(np.int64(q - c.value)) for q, c in zip(sums, charges, strict=True))
        for sums, _ in layer
    ]
    return _counted(steps, ends)


def _counted(steps: list[np.ndarray], ends: list[bool]) -> Layers:
    """Layers with the ways to an allowed end counted, and steps to none cut off."""
    steps, ways = list(steps), [tuple(map(int, ends))]
    for site in range(len(steps) - 1, -1, -1):
        after = (*ways[-1], 0)
        dead = np.array(after)[steps[site]] == 0
        steps[site] = np.where(dead, np.int32(-1), steps[site])
        ways.append(tuple(sum(after[t] for t in r) for r in steps[site].tolist()))
    return Layers(tuple(steps), tuple(ways[::-1]))


def completions(dims: tuple[int, ...]) -> np.ndarray:
    """Ways that sites >= i reach a sum, scaled by rows: (N + 1, 2 W + 1)."""
    width = sum(d - 1 for d in dims)
    counts = np.zeros((len(dims) + 1, 2 * width + 1))
    counts[-1, width] = 1.0
    for site in range(len(dims) - 1, -1, -1):
        for value in range(-(dims[site] - 1), dims[site], 2):
            counts[site] += np.roll(counts[site + 1], value)
        counts[site] /= counts[site].max()
    return counts

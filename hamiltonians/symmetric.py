"""One-dimensional representations of space groups and the spin flip.

A group element g acts on states, T_g |sigma> = |sigma'> with sigma'[perm[i]] =
sigma[i] (or minus that).  The basis state of an orbit with smallest member a is
P |a> / norm with P = sum_g conj(chi_g) T_g / |G|, the projector on T_g = chi_g.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from hamiltonians.invariance import broken_term, odd_term
from hamiltonians.lattices import Lattice
from hamiltonians.space_groups import SpaceGroup, space_group
from hamiltonians.tables import TermHamiltonian
from vmc.errors import JobError

#: Most configurations of neighbouring sites that one look-up table lists.
_TABLE = 4096


class SymmetrySector(NamedTuple):
    """A group and the eigenvalues of its elements.

    Attributes:
        perms: int (G, N), the site that each site moves to; identity first.
        flips: bool (G,), whether all spins are inverted too.
        characters: complex (G,), eigenvalues of T_g.
    """

    perms: np.ndarray
    flips: np.ndarray
    characters: np.ndarray

    @property
    def is_real(self) -> bool:
        """Whether all eigenvalues are +1 or -1."""
        return not np.any(np.imag(self.characters))


def symmetry_sector(
    ham: TermHamiltonian,
    lattice: Lattice | None = None,
    momentum: Sequence[int] | None = None,
    spin_flip: int | None = None,
    point_group: str | None = None,
) -> SymmetrySector:
    """The sector of a momentum, a point-group representation and a spin-flip parity.

    Args:
        ham: the Hamiltonian, which must be invariant (in its sign gauge).
        lattice: its lattice, for a momentum or point group.
        momentum: see `hamiltonians.space_groups.space_group`.  None leaves it free.
        spin_flip: +1 or -1, the eigenvalue of the flip of all spins; or None.
        point_group: see there.  None leaves it free.

    Raises:
        JobError: the Hamiltonian, its sector or the lattice lacks the symmetry.
    """
    n_sites = ham.space.n_sites
    perms, characters = np.arange(n_sites)[None], np.ones(1, complex)
    if momentum is not None or point_group is not None:
        group = space_group(lattice, momentum, point_group)
        check_invariant(ham, group, numbers_in_words(momentum, point_group))
        perms, characters = group.perms, group.characters.astype(complex)
    flips = np.zeros(len(perms), bool)
    if spin_flip is not None:
        check_flip(ham, spin_flip)
        perms, flips = np.concatenate([perms, perms]), np.append(flips, ~flips)
        characters = np.append(characters, spin_flip * characters)
    return SymmetrySector(perms, flips, characters)


def numbers_in_words(momentum: Sequence[int] | None, point_group: str | None) -> str:
    """Quantum numbers of the lattice as a job writes them."""
    parts = [] if momentum is None else [f"momentum = {list(momentum)}"]
    parts += [] if point_group is None else [f'point_group = "{point_group}"']
    return ", ".join(parts)


def check_invariant(ham: TermHamiltonian, group: SpaceGroup, asked: str) -> None:
    """Refuse a group that the Hamiltonian, in its gauge, or its sector does not have.

    Args:
        ham: the Hamiltonian.
        group: the group.
        asked: what was asked for, for the message.

    Raises:
        JobError: naming the first operation, and the term that breaks it.
    """
    dims = np.asarray(ham.space.local_dims)
    for number, perm in enumerate(group.generators):
        kind = (
            "rotations and reflections" if number >= group.n_steps else "translations"
        )
        moves = ", ".join(f"{i} to {p}" for i, p in enumerate(perm[:3].tolist()))
        which = f"the {kind} of the lattice: the one that moves site {moves}, ..."
        if not np.array_equal(dims[perm], dims) or not ham.space.is_invariant(perm):
            raise JobError(
                f"{asked}: the space ({ham.space.label or 'unequal spins'}) is not "
                f"invariant under {which} leads out of it"
            )
        if not ham.is_invariant(perm):
            broken = broken_term(ham, perm)
            assert broken is not None
            raise JobError(
                f"{asked}: the Hamiltonian is not invariant under {which} takes its "
                f"term on {_sites(broken[0])} to {_sites(broken[1])}, where there is "
                "none of this form and strength"
            )


def _sites(sites: Sequence[int]) -> str:
    if len(sites) == 1:
        return f"site {sites[0]}"
    return f"{'bond' if len(sites) == 2 else 'sites'} {tuple(sites)}"


def check_flip(ham: TermHamiltonian, spin_flip: int) -> None:
    """Refuse a parity that the Hamiltonian or its sector does not have.

    Raises:
        JobError: it is none, or the flip of all spins is no symmetry; with the term
            that breaks it.
    """
    if spin_flip not in (1, -1):
        raise JobError(f"spin_flip = {spin_flip!r} must be 1 or -1")
    if ham.space.total_sz or ham.space.has_rules or not ham.conserves_spin_flip:
        odd = odd_term(ham)
        why = "" if odd is None else f": the term on {_sites(odd)} changes sign"
        raise JobError(
            f"spin_flip = {spin_flip}: the Hamiltonian or its sector "
            f"({ham.space.label or 'free'}) is not symmetric under the flip of all "
            f"spins{why}"
        )


class Orbits:
    """Images of states under a group, by look-up tables of a few sites each."""

    def __init__(self, dims: Sequence[int], sector: SymmetrySector) -> None:
        """Args: dims: local dimensions.  sector: the group."""
        self._characters = sector.characters
        self._is_real = sector.is_real
        self._flips = sector.flips
        strides = [math.prod(dims[i + 1 :]) for i in range(len(dims))]
        self._last = math.prod(dims) - 1
        groups: list[list[int]] = []
        size = _TABLE + 1
        for site, d in enumerate(dims):
            if size * d > _TABLE:
                groups.append([])
                size = 1
            groups[-1].append(site)
            size *= d
        self._places = [(strides[g[-1]], math.prod(dims[s] for s in g)) for g in groups]
        self._tables = [
            [_table(dims, g, np.array(strides)[perm]) for g in groups]
            for perm in sector.perms
        ]

    def _images(self, codes: np.ndarray) -> Iterator[np.ndarray]:
        """The images of all states, one group element after the other."""
        digits = [codes // stride % size for stride, size in self._places]
        for tables, flip in zip(self._tables, self._flips, strict=True):
            image = tables[0][digits[0]]
            for table, digit in zip(tables[1:], digits[1:], strict=True):
                image = image + table[digit]
            yield self._last - image if flip else image

    def smallest(self, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Smallest state g|code> of every orbit, and chi_g."""
        best, which = codes.copy(), np.zeros(len(codes), np.int32)
        for g, image in enumerate(self._images(codes)):
            better = image < best
            best = np.where(better, image, best)
            which[better] = g
        factor = self._characters[which]
        return best, np.real(factor) if self._is_real else factor

    def representatives(self, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The smallest states of orbits that occur, and <a|P|a>."""
        least = np.ones(len(codes), bool)
        for image in self._images(codes):
            least &= image >= codes
        codes = codes[least]
        norms = np.zeros(len(codes), complex)
        for character, image in zip(self._characters, self._images(codes), strict=True):
            norms += np.where(image == codes, np.conj(character), 0)
        norms = np.real(norms) / len(self._characters)
        kept = norms > 0.5 / len(self._characters)
        return codes[kept], norms[kept]


def orbits(dims: Sequence[int], sector: SymmetrySector) -> Orbits:
    """The group of a sector acting on states of sites with these dimensions."""
    return Orbits([int(d) for d in dims], sector)


def _table(dims: Sequence[int], group: list[int], places: np.ndarray) -> np.ndarray:
    """Part of the image that the sites of a group give, by their joint index."""
    index = np.indices([dims[s] for s in group]).reshape(len(group), -1)
    return places[group] @ index

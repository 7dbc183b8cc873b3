"""One-dimensional representations of lattice translations and the spin flip.

A group element g acts on states, T_g |sigma> = |sigma'> with sigma'[perm[i]] =
sigma[i] (or minus that).  The basis state of an orbit with smallest member a is
P |a> / norm with P = sum_g conj(chi_g) T_g / |G|, the projector on T_g = chi_g.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from hamiltonians.lattices import Lattice
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
) -> SymmetrySector:
    """The sector of a momentum and a parity under the spin flip.

    Args:
        ham: the Hamiltonian, which must be invariant (in its sign gauge).
        lattice: its lattice, for a momentum.
        momentum: integers m_d; translation by one cell along direction d multiplies
            the state by exp(-2 pi i m_d / L_d), with L_d the number of steps that
            lead back.  None leaves the momentum free.
        spin_flip: +1 or -1, the eigenvalue of the flip of all spins; or None.

    Raises:
        JobError: the Hamiltonian, its sector or the lattice lacks the symmetry.
    """
    n_sites = ham.space.n_sites
    perms, characters = np.arange(n_sites)[None], np.ones(1, complex)
    if momentum is not None:
        perms, characters = _translations(ham, lattice, momentum)
    flips = np.zeros(len(perms), bool)
    if spin_flip is not None:
        _check_flip(ham, spin_flip)
        perms, flips = np.concatenate([perms, perms]), np.append(flips, ~flips)
        characters = np.append(characters, spin_flip * characters)
    whole = np.abs(np.imag(characters)) < 1e-13
    if whole.all():
        characters = np.rint(np.real(characters)).astype(complex)
    return SymmetrySector(perms, flips, characters)


def _translations(
    ham: TermHamiltonian, lattice: Lattice | None, momentum: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    if lattice is None:
        raise JobError("a momentum needs a [lattice]; the job has none")
    wanted = list(momentum)
    directions = len(lattice.periodic)
    if len(wanted) != directions:
        raise JobError(
            f"momentum = {wanted}: expected one integer for each of the {directions} "
            f"directions of {lattice!r} (0 along open ones)"
        )
    for m, closed in zip(wanted, lattice.periodic, strict=True):
        if m and not closed:
            raise JobError(f"momentum = {wanted}: {lattice!r} is open there; use 0")
    turns = np.array(wanted) / np.array(_orders(lattice))
    around = lattice.grid.spanning @ turns
    if np.any(np.abs(around - np.rint(around))[list(lattice.periodic)] > 1e-9):
        raise JobError(
            f"momentum = {wanted} does not fit the periods "
            f"{lattice.grid.spanning.tolist()} of {lattice!r}: each period times "
            f"{turns.tolist()} must be an integer"
        )
    perms, shifts = lattice._translations
    for perm in perms:
        if not ham.is_invariant(perm) or not ham.space.is_invariant(perm):
            raise JobError(
                f"momentum = {wanted}: the Hamiltonian or its sector is not invariant "
                f"under the translations of {lattice!r}"
            )
    return perms, np.exp(-2j * np.pi * (shifts @ turns))


def _orders(lattice: Lattice) -> list[int]:
    """Steps along each direction that lead back; 1 along open ones."""
    cells = lattice.grid.cells()
    orders = []
    for axis, closed in enumerate(lattice.periodic):
        order = 1
        step = np.eye(len(lattice.periodic), dtype=cells.dtype)[axis]
        while closed and not np.array_equal(
            lattice.site(cells + order * step), lattice.site(cells)
        ):
            order += 1
        orders.append(order)
    return orders


def _check_flip(ham: TermHamiltonian, spin_flip: int) -> None:
    if spin_flip not in (1, -1):
        raise JobError(f"spin_flip = {spin_flip!r} must be 1 or -1")
    if ham.space.total_sz or ham.space.has_rules or not ham.conserves_spin_flip:
        raise JobError(
            f"spin_flip = {spin_flip}: the Hamiltonian or its sector "
            f"({ham.space.label or 'free'}) is not symmetric under the flip of all "
            "spins"
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

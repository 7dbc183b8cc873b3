"""Whether a renaming of sites is a symmetry of a compiled Hamiltonian."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from hamiltonians.facts import TOLERANCE, row_tables, table_numbers
from vmc.errors import JobError

if TYPE_CHECKING:
    from hamiltonians.tables import Block, TermHamiltonian


def is_invariant(ham: TermHamiltonian, perm: Sequence[int] | np.ndarray) -> bool:
    """See `TermHamiltonian.is_invariant`.

    Every term gets a 64-bit sum of random numbers of its factors; a symmetry maps
    the set of (number, coefficient) to itself.
    """
    image = np.asarray(perm)
    n_sites = ham.space.n_sites
    if image.shape != (n_sites,) or not np.array_equal(
        np.sort(image), np.arange(n_sites)
    ):
        raise JobError(f"perm is not a permutation of 0 .. {n_sites - 1}: {perm!r}")
    dims = np.asarray(ham.space.local_dims)
    if not np.array_equal(dims[image], dims):
        return False
    before = _fingerprint(ham, np.arange(n_sites))
    after = _fingerprint(ham, image)
    scale = np.abs(before[1]).max(initial=0.0)
    return np.array_equal(before[0], after[0]) and bool(
        np.all(np.abs(before[1] - after[1]) <= TOLERANCE * scale)
    )


def _fingerprint(ham: TermHamiltonian, image: np.ndarray) -> tuple[np.ndarray, ...]:
    """Sorted numbers of all terms after i -> image[i], and their coefficients."""
    row_sites, tables = row_tables(ham)
    n_sites = ham.space.n_sites
    rng = np.random.default_rng(2024)
    size = (n_sites + 1, max(len(tables), *ham.space.local_dims))
    of_flip, of_row = rng.integers(0, 2**64, (2, *size), np.uint64)
    of_flip[:, 0] = 0
    target = np.append(image, n_sites)
    sites, shifts = np.asarray(ham.moves.sites), np.asarray(ham.moves.shift)
    flips = of_flip[target[sites], shifts].sum(axis=1, dtype=np.uint64)
    row_numbers = np.append(
        of_row[target[np.array(row_sites, int)], table_numbers(ham)], np.uint64(0)
    )
    codes, coefs = [flips], [np.asarray(ham.constants)]
    start = 0
    for block in ham.blocks:
        moves = slice(start, start + block.coefs.shape[0])
        code, coef = _block_terms(ham, block, moves, image, row_numbers)
        codes.append((flips[moves, None] + code).reshape(-1))
        coefs.append(coef.reshape(-1))
        start = moves.stop
    for block in ham.diagonal_blocks:
        codes.append(row_numbers[np.asarray(block.rows)].sum(2, dtype=np.uint64)[:, 0])
        coefs.append(np.asarray(block.coefs)[:, 0])
    code, coef = np.concatenate(codes), np.concatenate(coefs)
    code, coef = code[coef != 0], coef[coef != 0]
    order = np.argsort(code)
    return code[order], coef[order]


def _block_terms(
    ham: TermHamiltonian,
    block: Block,
    moves: slice,
    image: np.ndarray,
    row_numbers: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Numbers and coefficients of the strings of some moves, (n, T) each.

    Exchanges store their strings for s_j = -s_i, with i the smaller site; after a
    renaming that reverses the pair, s_i is written as -s_j.
    """
    coef, rows = np.asarray(block.coefs), np.asarray(block.rows)
    code = row_numbers[rows].sum(axis=2, dtype=np.uint64)
    sites = np.asarray(ham.moves.sites)[moves]
    if ham.tables is not None or not ham.masks_sz or sites.shape[1] < 2:
        return code, coef
    pairs = (sites < ham.space.n_sites).sum(axis=1) == 2
    first, second = np.where(pairs[:, None], sites[:, :2], 0).T
    swapped = (pairs & (image[first] > image[second]))[:, None]
    swapped = swapped & (rows == first[:, None, None]).any(axis=2)
    other = (row_numbers[second] - row_numbers[first])[:, None]
    return np.where(swapped, code + other, code), np.where(swapped, -coef, coef)

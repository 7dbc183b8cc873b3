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


def broken_term(
    ham: TermHamiltonian, perm: Sequence[int] | np.ndarray
) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """Sites of the smallest term that a renaming spoils, and where it takes them.

    Args:
        ham: the Hamiltonian.
        perm: int (N,), a permutation of sites of equal spin.

    Returns:
        Sites before and after, ascending; None if perm is a symmetry.
    """
    image = np.asarray(perm)
    before = dict(zip(*_numbers(ham, np.arange(ham.space.n_sites)), strict=True))
    after = _numbers(ham, image)
    cut = TOLERANCE * max((abs(c) for c in before.values()), default=0.0)
    found = [
        _support(ham, term)
        for term, (code, coef) in enumerate(zip(*after, strict=True))
        if coef != 0 and abs(coef - before.get(code, 0)) > cut
    ]
    if not found:
        return None
    sites = min(found, key=lambda support: (len(support), support))
    return sites, tuple(sorted(int(image[i]) for i in sites))


def odd_term(ham: TermHamiltonian) -> tuple[int, ...] | None:
    """Sites of the smallest term of spins 1/2 that the flip of all spins reverses."""
    if ham.tables is not None:
        return None
    found, start = [], len(np.asarray(ham.constants))
    for block in (*ham.blocks, *ham.diagonal_blocks):
        rows, coefs = np.asarray(block.rows), np.asarray(block.coefs)
        factors = np.sum(rows < ham.space.n_sites, axis=2)
        odd = np.flatnonzero((coefs != 0).reshape(-1) & (factors.reshape(-1) % 2 == 1))
        found += [_support(ham, start + int(term)) for term in odd]
        start += coefs.size
    return min(found, key=lambda support: (len(support), support), default=None)


def _support(ham: TermHamiltonian, term: int) -> tuple[int, ...]:
    """Sites of a term, by its number in `_numbers`."""
    row_sites, _ = row_tables(ham)
    move, rows = term, np.zeros(0, int)
    if term >= len(np.asarray(ham.constants)):
        term, move = term - len(np.asarray(ham.constants)), 0
        for block in (*ham.blocks, *ham.diagonal_blocks):
            n, width = block.coefs.shape
            if term < n * width:
                rows = np.asarray(block.rows)[term // width, term % width]
                move += term // width
                break
            term, move = term - n * width, move + n
    sites = {int(row_sites[r]) for r in rows if r < len(row_sites)}
    if move < ham.moves.n_moves:
        sites |= set(np.asarray(ham.moves.sites)[move].tolist())
    return tuple(sorted(sites - {ham.space.n_sites}))


def _fingerprint(ham: TermHamiltonian, image: np.ndarray) -> tuple[np.ndarray, ...]:
    """Sorted numbers of all terms after i -> image[i], and their coefficients."""
    code, coef = _numbers(ham, image)
    code, coef = code[coef != 0], coef[coef != 0]
    order = np.argsort(code)
    return code[order], coef[order]


def _numbers(ham: TermHamiltonian, image: np.ndarray) -> tuple[np.ndarray, ...]:
    """Numbers of all terms after i -> image[i], and their coefficients.

    First the constants of the moves, then the strings of all blocks.
    """
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
    return np.concatenate(codes), np.concatenate(coefs)


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

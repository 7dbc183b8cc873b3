"""What a compiled Hamiltonian can say of itself, on the host and without JAX."""

from __future__ import annotations

import collections
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from hamiltonians.tables import Block, TermHamiltonian

#: Largest number of configurations of the sites that one move depends on.
MAX_SUPPORT_STATES = 2**14
#: Relative size of an element that counts as 0.
TOLERANCE = 1e-12
#: Configurations times moves evaluated at once.
_CHUNK = 2**22

#: Rows of a string, as (place in the support, table).
_Places: TypeAlias = tuple[tuple[int, int], ...]


class SignRange(NamedTuple):
    """Values of G off-diagonal elements that gain one common gauge factor.

    Attributes:
        moves: int (G,), their numbers in the table.
        sites: int (G, f), the sites whose signs multiply the element.
        low: (G,), smallest value over the allowed configurations.
        high: (G,), largest value.
        largest: (G,), largest modulus (of complex elements too).
        exact: False if low and high are only bounds, because too many sites matter.
    """

    moves: np.ndarray
    sites: np.ndarray
    low: np.ndarray
    high: np.ndarray
    largest: np.ndarray
    exact: bool


class _Pattern(NamedTuple):
    """What moves of equal shape have in common, in places of their support."""

    dims: tuple[int, ...]
    flips: tuple[tuple[int, int], ...]
    strings: tuple[_Places, ...]


# ---- signs -----------------------------------------------------------------


def sign_ranges(ham: TermHamiltonian) -> list[SignRange]:
    """Ranges of all off-diagonal elements over the allowed configurations.

    Allowed are the configurations of the sector in which the move stays inside it.
    A move of larger spins appears once per set of sites that changes by an odd
    number of steps.
    """
    grouped: dict[_Pattern, list[tuple[int, list[int], np.ndarray]]] = {}
    _, tables = row_tables(ham)
    for move, pattern, support, coefs in _described(ham):
        grouped.setdefault(pattern, []).append((move, support, coefs))
    ranges = []
    for pattern, members in grouped.items():
        step = max(1, _CHUNK // min(math.prod(pattern.dims), MAX_SUPPORT_STATES))
        for start in range(0, len(members), step):
            moves, supports, coefs = zip(*members[start : start + step], strict=True)
            parts = np.array(moves), np.array(supports), np.array(coefs)
            if math.prod(pattern.dims) > MAX_SUPPORT_STATES:
                ranges.append(_bounded(pattern, *parts, tables))
            else:
                ranges += _enumerated(ham, pattern, *parts, tables)
    return ranges


def sign_structure(
    ham: TermHamiltonian,
) -> Literal["stoquastic", "positive", "complex", "unknown"]:
    """See `TermHamiltonian.offdiagonal_sign_structure`."""
    if not ham.is_real:
        return "complex"
    ranges = sign_ranges(ham)
    cut = TOLERANCE * max((r.largest.max(initial=0.0) for r in ranges), default=0.0)
    positive = [r for r in ranges if (r.high > cut).any()]
    if any(r.exact for r in positive):
        return "positive"
    return "unknown" if positive else "stoquastic"


def mean_offdiagonal(ham: TermHamiltonian) -> float:
    """See `TermHamiltonian.mean_offdiagonal`."""
    largest = np.zeros(ham.moves.n_moves)
    for r in sign_ranges(ham):
        np.maximum.at(largest, r.moves, r.largest)
    return float(largest.mean()) if len(largest) else 0.0


def _described(
    ham: TermHamiltonian,
) -> Iterator[tuple[int, _Pattern, list[int], np.ndarray]]:
    """(move, pattern, support, coefficients with the constant first) of each move."""
    n_sites, dims = ham.space.n_sites, ham.space.local_dims
    row_sites, _ = row_tables(ham)
    table_of = table_numbers(ham)
    sites, shifts = np.asarray(ham.moves.sites), np.asarray(ham.moves.shift)
    constants = np.asarray(ham.constants)
    for move, coefs, rows in _moves_of(ham.blocks):
        flips = [
            (s, q)
            for s, q in zip(sites[move].tolist(), shifts[move].tolist(), strict=True)
            if s < n_sites
        ]
        strings = [[r for r in string if r < len(row_sites)] for string in rows]
        support = sorted(
            {s for s, _ in flips} | {row_sites[r] for string in strings for r in string}
        )
        place = {site: i for i, site in enumerate(support)}
        pattern = _Pattern(
            tuple(dims[s] for s in support),
            tuple((place[s], q) for s, q in flips),
            tuple(
                tuple((place[row_sites[r]], table_of[r]) for r in string)
                for string in strings
            ),
        )
        yield move, pattern, support, np.append(constants[move], coefs)


def _moves_of(
    blocks: Sequence[Block],
) -> Iterator[tuple[int, np.ndarray, list[list[int]]]]:
    counter = itertools.count()
    for block in blocks:
        coefs, rows = np.asarray(block.coefs), np.asarray(block.rows).tolist()
        for line, strings in zip(coefs, rows, strict=True):
            yield next(counter), line, strings


def row_tables(ham: TermHamiltonian) -> tuple[list[int], np.ndarray]:
    """Site of every row, and the distinct tables of values, (n_tables, d)."""
    if ham.tables is None:
        return list(range(ham.space.n_sites)), np.array([[1.0, -1.0]])
    values = np.asarray(ham.tables.values)
    return np.asarray(ham.tables.sites).tolist(), np.unique(values, axis=0)


def table_numbers(ham: TermHamiltonian) -> list[int]:
    """Number of the table of every row."""
    if ham.tables is None:
        return [0] * ham.space.n_sites
    values = np.asarray(ham.tables.values)
    return np.unique(values, axis=0, return_inverse=True)[1].reshape(-1).tolist()


def _enumerated(
    ham: TermHamiltonian,
    pattern: _Pattern,
    moves: np.ndarray,
    supports: np.ndarray,
    coefs: np.ndarray,
    tables: np.ndarray,
) -> list[SignRange]:
    """Exact ranges, from every configuration of the support."""
    dims = np.array(pattern.dims, np.int64)
    index = np.indices(pattern.dims).reshape(len(dims), -1)
    strings = [np.ones(index.shape[1])] + [
        math.prod((tables[t][index[p]] for p, t in s), start=np.ones(index.shape[1]))
        for s in pattern.strings
    ]
    values = coefs @ np.array(strings)
    place = np.array([p for p, _ in pattern.flips])
    shift = np.array([q for _, q in pattern.flips])[:, None]
    wrapped = index[place] + shift >= dims[place][:, None]
    change = np.where(wrapped, shift - dims[place][:, None], shift)
    allowed = _allowed(ham, dims, index, change.sum(axis=0))
    odd = (change % 2 == 1) | (dims[place] == 2)[:, None]
    ranges = []
    for choice in np.unique(odd[:, allowed], axis=1).T:
        picked = values[:, allowed & (odd == choice[:, None]).all(axis=0)]
        largest = np.abs(picked).max(axis=1)
        low, high = picked.real.min(axis=1), picked.real.max(axis=1)
        ranges.append(
            SignRange(moves, supports[:, place[choice]], low, high, largest, True)
        )
    return ranges


def _allowed(
    ham: TermHamiltonian, dims: np.ndarray, index: np.ndarray, change: np.ndarray
) -> np.ndarray:
    """Configurations of a support that occur in the sector and may move."""
    allowed = np.ones(index.shape[1], bool)
    if ham.masks_sz:
        allowed = change == 0
    twice = ham.space.twice_sz
    if twice is None:
        return allowed
    here = (dims[:, None] - 1 - 2 * index).sum(axis=0)
    rest = sum(ham.space.local_dims) - ham.space.n_sites - int((dims - 1).sum())
    return allowed & (np.abs(twice - here) <= rest)


def _bounded(
    pattern: _Pattern,
    moves: np.ndarray,
    supports: np.ndarray,
    coefs: np.ndarray,
    tables: np.ndarray,
) -> SignRange:
    """Bounds of elements that depend on too many sites to enumerate."""
    peaks = np.abs(tables).max(axis=1)
    weights = [math.prod(float(peaks[t]) for _, t in s) for s in pattern.strings]
    spread = np.abs(coefs[:, 1:]) @ np.array(weights)
    place = [p for p, _ in pattern.flips]
    return SignRange(
        moves,
        supports[:, place],
        np.real(coefs[:, 0]) - spread,
        np.real(coefs[:, 0]) + spread,
        np.abs(coefs[:, 0]) + spread,
        exact=False,
    )


# ---- traces ----------------------------------------------------------------


def mean_diagonal(ham: TermHamiltonian, *, sector: bool) -> float:
    """Tr H / dim, over the free space or the sector."""
    row_sites, tables = row_tables(ham)
    numbers = table_numbers(ham)
    dims = ham.space.local_dims
    weights: collections.Counter[tuple[tuple[int, int], ...]] = collections.Counter()
    for _, coefs, rows in _moves_of(ham.diagonal_blocks):
        used = [r for r in rows[0] if r < len(row_sites)]
        weights[tuple(sorted((dims[row_sites[r]], numbers[r]) for r in used))] += coefs[
            0
        ]
    total = float(np.asarray(ham.offset))
    if sector and ham.space.has_rules:
        return total + _rules_mean(ham)
    for string, weight in weights.items():
        columns = [tables[t][:d] for d, t in string]
        if sector and ham.space.twice_sz is not None:
            mean = _sector_mean(ham, [d for d, _ in string], columns)
        else:
            mean = math.prod(float(c.mean()) for c in columns)
        total += float(weight) * mean
    return total


def _sector_mean(
    ham: TermHamiltonian, dims: list[int], columns: list[np.ndarray]
) -> float:
    """Mean of a product of functions of different sites over a sector, exactly."""
    space = ham.space
    lowered = (sum(space.local_dims) - space.n_sites - (space.twice_sz or 0)) // 2
    rest = collections.Counter(space.local_dims) - collections.Counter(dims)
    ways = _ways(rest, lowered)
    weight = np.ones(1)
    for column in columns:
        weight = np.convolve(weight, column)
    everything = _ways(collections.Counter(space.local_dims), lowered)[lowered]
    shares = [
        ways[lowered - x] / everything if x <= lowered else 0.0
        for x in range(len(weight))
    ]
    return float(weight @ np.array(shares))


def _rules_mean(ham: TermHamiltonian) -> float:
    """Mean of all strings of the diagonal over a sector of charges, exactly.

    One pass through the automaton of the sector carries the sums of all strings; the
    first column counts configurations.
    """
    row_sites, tables = row_tables(ham)
    numbers = table_numbers(ham)
    coefs: list[float] = [0.0]
    by_site: list[list[tuple[int, int]]] = [[] for _ in ham.space.local_dims]
    for _, coef, rows in _moves_of(ham.diagonal_blocks):
        for row in (r for r in rows[0] if r < len(row_sites)):
            by_site[row_sites[row]].append((len(coefs), numbers[row]))
        coefs.append(float(coef[0]))
    if len(coefs) == 1:
        return 0.0
    layers = ham.space.layers
    sums = np.ones((1, len(coefs)))
    for site, steps in enumerate(layers.steps):
        following = np.zeros((len(layers.ways[site + 1]), len(coefs)))
        for a in range(steps.shape[1]):
            factor = np.ones(len(coefs))
            for string, table in by_site[site]:
                factor[string] *= tables[table][a]
            open_ = steps[:, a] >= 0
            np.add.at(following, steps[open_, a], sums[open_] * factor)
        sums = following / np.abs(following[:, 0]).max()
    ended = sums.sum(axis=0)
    return float(np.array(coefs) @ ended / ended[0])


def _ways(dims: collections.Counter[int], largest: int) -> list[int]:
    """Number of configurations of some sites by the sum of their local indices.

    The generating polynomial is evaluated at a power of two so large that its
    coefficients are the digits of one long integer.
    """
    digits = sum(n * d.bit_length() for d, n in dims.items()) + 1
    packed = math.prod(
        sum(1 << (digits * a) for a in range(d)) ** n for d, n in dims.items()
    )
    mask = (1 << digits) - 1
    return [(packed >> (digits * x)) & mask for x in range(largest + 1)]

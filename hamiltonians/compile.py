"""From an `Operator` to a `TermHamiltonian`: checks, merging, tables."""

from __future__ import annotations

import cmath
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from hamiltonians.algebra import Operator
from hamiltonians.conservation import (
    blockade_violation,
    charge_violation,
    sz_violation,
    text,
)
from hamiltonians.scalars import real_number, whole_number
from hamiltonians.spin_algebra import Factors, Local, SpinLabel, ladder_table
from hamiltonians.tables import Block, SiteTables, TermHamiltonian
from vmc.base import Moves
from vmc.errors import JobError
from vmc.sectors import Charge
from vmc.space import Spins, spins

__all__ = ["TermHamiltonian", "compile_operator"]

#: Relative size below which a coefficient is rounding.
_ROUNDING = 1e-13

#: ((site, shift), ...) of a move, sorted; () is the diagonal.
Flips: TypeAlias = tuple[tuple[int, int], ...]
#: Strings of rows and their coefficients; () is the constant string.
Strings: TypeAlias = dict[tuple[int, ...], complex]


def compile_operator(
    op: Operator,
    n_sites: int,
    *,
    total_sz: float | None = None,
    local_dims: Sequence[int] | None = None,
    signs: Sequence[int] | np.ndarray | None = None,
    charges: Sequence[Charge] = (),
    blockade: Sequence[Sequence[int]] | np.ndarray = (),
) -> TermHamiltonian:
    """Compile an operator to tables.

    Args:
        op: a Hermitian operator.
        n_sites: N; sites that the operator does not touch are allowed.
        total_sz: sector, the sum of m_i; None leaves it free.
        local_dims: 2 S + 1 per site; by default what the operator says, and 2 for
            sites that it does not touch.
        signs: sign gauge, see `TermHamiltonian.with_signs`.
        charges: other charges to fix, such as a parity.
        blockade: pairs of sites, such as ``lattice.edges(1)``, of which at most one
            may be down: the constrained space of the PXP model.

    Raises:
        JobError: the operator is not Hermitian (the message names a term that lacks
            its conjugate), touches a site outside, does not conserve Sz, a charge or
            the blockade although a sector is asked for, or the sector is empty.
    """
    space = _space(op, n_sites, total_sz, local_dims, charges, blockade)
    coefficients = op.coefficients
    _check_hermitian(op)
    violation = sz_violation(coefficients)
    _check_conserved(op, space, violation)
    rows = _Rows(space)
    grouped = _grouped(coefficients, rows)
    if space.is_spin_half and violation is None:
        grouped = {f: _antiparallel(f, s) for f, s in grouped.items()}
    ham = _tables(
        grouped,
        space,
        rows,
        conserves_sz=violation is None,
        conserves_spin_flip=op == op.spin_flipped(),
    )
    return ham if signs is None else ham.with_signs(signs)


# ---- checks ----------------------------------------------------------------


def _space(
    op: Operator,
    n_sites: int,
    total_sz: float | None,
    local_dims: Sequence[int] | None,
    charges: Sequence[Charge],
    blockade: Sequence[Sequence[int]] | np.ndarray,
) -> Spins:
    if not isinstance(op, Operator):
        raise JobError(
            f"an Operator was expected, a {type(op).__name__} came: build it from sx, "
            "sz, Sx, ... or Operator.from_terms"
        )
    count, sector = whole_number(n_sites), real_number(total_sz)
    if count is None or count < 1:
        raise JobError(
            f"n_sites = {n_sites!r}: expected a whole number of at least 1, such as "
            "lattice.n_sites"
        )
    if total_sz is not None and (sector is None or not math.isfinite(sector)):
        raise JobError(
            f"total_sz = {total_sz!r}: expected a multiple of 1/2, such as 0 or 0.5, "
            "or None, which leaves the sector free"
        )
    n_sites, total_sz = count, sector
    if op.max_site >= n_sites:
        raise JobError(
            f"the Hamiltonian acts on site {op.max_site}, but there are {n_sites} "
            f"sites, 0 to {n_sites - 1}"
        )
    used = op.local_dims
    dims = [used.get(i, 2) for i in range(n_sites)]
    if local_dims is not None:
        if len(local_dims) != n_sites:
            raise JobError(f"{len(local_dims)} local_dims came for {n_sites} sites")
        for site in op.sites:
            if local_dims[site] != used[site]:
                raise JobError(
                    f"local_dims says that site {site} has {local_dims[site]} states, "
                    f"but the operator acts on it as a spin {(used[site] - 1) / 2}"
                )
        dims = list(local_dims)
    return spins(
        n_sites,
        spin=[(d - 1) / 2 for d in dims],
        total_sz=total_sz,
        charges=charges,
        blockade=blockade,
    )


def _check_conserved(op: Operator, space: Spins, sz_changed_by: str | None) -> None:
    if space.total_sz is not None and sz_changed_by is not None:
        raise JobError(
            f"total_sz = {space.total_sz} was asked for, but the Hamiltonian does not "
            f"conserve the total Sz: its term {sz_changed_by} changes it. Leave "
            "total_sz free."
        )
    for charge in space.charges:
        if violation := charge_violation(op.coefficients, charge):
            raise JobError(
                f"the Hamiltonian does not conserve the charge with weights "
                f"{list(charge.weights)} (modulus {charge.modulus}): its term "
                f"{violation} changes it. Leave this charge out."
            )
    if space.blockade and (violation := blockade_violation(op, space.blockade)):
        raise JobError(
            "the Hamiltonian leaves the constrained space: its term "
            f"{violation} can lower two sites that exclude each other. Leave the "
            "blockade out, or put projectors into the terms as the model pxp does."
        )


def _check_hermitian(op: Operator) -> None:
    values = op.coefficients
    for factors, c in values.items():
        if not cmath.isfinite(c):
            raise JobError(f"term {text(factors, c)} has a coefficient that overflowed")
    dagger = op.dagger()
    if op == dagger:
        return
    missing = (op - dagger).coefficients
    worst = max(abs(c) for c in missing.values())
    factors = next(f for f, c in missing.items() if abs(c) > 0.1 * worst)
    if factors not in values:
        sites = {s for s, _ in factors}
        factors = next(f for f in values if sites & {s for s, _ in f})
    raise JobError(
        f"the Hamiltonian is not Hermitian: its term {text(factors, values[factors])} "
        "lacks its conjugate. Add the adjoint, as in H + H.dagger()."
    )


# ---- terms to strings ------------------------------------------------------


class _Rows:
    """Numbers the rows (site, function of its value) of a Hamiltonian."""

    def __init__(self, space: Spins) -> None:
        self.space = space
        self.is_spin_half = space.is_spin_half
        self.labels: dict[tuple[int, Local], int] = {}

    def __call__(self, site: int, local: Local) -> int:
        if self.is_spin_half:
            return site
        return self.labels.setdefault((site, local), len(self.labels))

    @property
    def ones(self) -> int:
        """Number of the row of ones, the padding."""
        return self.space.n_sites if self.is_spin_half else len(self.labels)

    def tables(self) -> SiteTables | None:
        """The rows as arrays, None for spins 1/2."""
        if self.is_spin_half:
            return None
        values = np.zeros((len(self.labels), max(self.space.local_dims)))
        odd = np.zeros(len(self.labels), np.int8)
        for (_, local), row in self.labels.items():
            if isinstance(local, SpinLabel):
                odd[row] = local.raising % 2
                for m, step in ladder_table(local.dim, local.raising):
                    index = int((local.dim - 1) / 2 - m)
                    values[row, index] = float(m) ** local.power * step
            else:
                values[row, :2] = 1.0, -1.0
        sites = np.array([site for site, _ in self.labels], np.int32)
        tables: Any = (sites, values, odd)
        return SiteTables(*tables)


def _grouped(
    coefficients: Mapping[Factors, complex], rows: _Rows
) -> dict[Flips, Strings]:
    """Strings of rows of every move; terms with equal flips and rows are merged."""
    grouped: dict[Flips, Strings] = {}
    for factors, value in coefficients.items():
        flips, string, c = [], [], value
        for site, a in factors:
            if isinstance(a, SpinLabel):
                if a.raising:
                    flips.append((site, a.raising % a.dim))
                string.append(rows(site, a))
                continue
            if a != "Z":
                flips.append((site, 1))
            if a != "X":
                string.append(rows(site, "Z"))
            if a == "Y":
                c = c * -1j
        strings = grouped.setdefault(tuple(flips), {})
        key = tuple(string)
        strings[key] = strings.get(key, 0.0) + c
    return grouped


def _antiparallel(flips: Flips, strings: Strings) -> Strings:
    """Strings of an exchange of two spins 1/2, rewritten for s_j = -s_i.

    Elements on aligned pairs vanish and are masked, so half of the strings suffice.
    """
    if len(flips) != 2:
        return strings
    (first, _), (second, _) = flips
    reduced: Strings = {}
    for string, c in strings.items():
        if second in string:
            rest = [r for r in string if r not in (first, second)]
            string = tuple(sorted(rest if first in string else [*rest, first]))
            c = -c
        reduced[string] = reduced.get(string, 0.0) + c
    return reduced


# ---- strings to arrays -----------------------------------------------------


def _tables(
    grouped: Mapping[Flips, Strings],
    space: Spins,
    rows: _Rows,
    *,
    conserves_sz: bool,
    conserves_spin_flip: bool,
) -> TermHamiltonian:
    cut = _ROUNDING * max(
        (abs(c) for strings in grouped.values() for c in strings.values()), default=0.0
    )
    kept = {f: {s: c for s, c in g.items() if abs(c) > cut} for f, g in grouped.items()}
    diagonal = kept.pop((), {})
    moved = sorted(((_size_class(s), f, s) for f, s in kept.items() if s), key=_order)
    is_real = all(abs(c.imag) <= cut for _, _, g in moved for c in g.values())
    dtype = np.float64 if is_real else np.complex128
    constants = np.array([_cast(s.get((), 0.0), is_real) for _, _, s in moved], dtype)
    blocks = []
    for size in sorted({size for size, _, _ in moved}):
        members = [s for this, _, s in moved if this == size]
        blocks.append(_block(members, size, rows.ones, dtype))
    leaves: Any = (
        constants,
        tuple(blocks),
        np.array(complex(diagonal.get((), 0)).real),
    )
    return TermHamiltonian(
        _moves([f for _, f, _ in moved], space, conserves_sz),
        *leaves,
        diagonal_blocks=_diagonal_blocks(diagonal, rows.ones),
        tables=rows.tables(),
        space=space,
        is_real=is_real,
        conserves_sz=conserves_sz,
        conserves_spin_flip=conserves_spin_flip,
    )


def _order(item: tuple[tuple[int, int], Flips, Strings]) -> Any:
    size, flips, _ = item
    return size, len(flips), flips


def _cast(value: complex, is_real: bool) -> complex:
    return complex(value).real if is_real else value


def _size_class(strings: Strings) -> tuple[int, int]:
    """Number and length of the strings, rounded up to powers of two: (T, Z)."""
    lengths = [len(s) for s in strings if s]
    return _power_of_two(len(lengths)), _power_of_two(max(lengths, default=0))


def _power_of_two(n: int) -> int:
    return 1 << (n - 1).bit_length() if n else 0


def _block(
    members: Sequence[Strings], size: tuple[int, int], ones: int, dtype: Any
) -> Block:
    """The strings of moves of one size class, padded."""
    coefs = np.zeros((len(members), size[0]), dtype)
    index = np.full((len(members), *size), ones, np.int32)
    for move, strings in enumerate(members):
        listed = sorted((s, c) for s, c in _nonempty(strings))
        for t, (string, c) in enumerate(listed):
            coefs[move, t] = _cast(c, dtype is np.float64)
            index[move, t, : len(string)] = string
    leaves: Any = (coefs, index)
    return Block(*leaves)


def _nonempty(strings: Strings) -> Iterable[tuple[tuple[int, ...], complex]]:
    return ((s, c) for s, c in strings.items() if s)


def _diagonal_blocks(strings: Strings, ones: int) -> tuple[Block, ...]:
    """One string per line, a block per length class."""
    singles = sorted(((s, complex(c).real) for s, c in _nonempty(strings)))
    sizes = sorted({_power_of_two(len(s)) for s, _ in singles})
    return tuple(
        _block(
            [{s: c} for s, c in singles if _power_of_two(len(s)) == z],
            (1, z),
            ones,
            np.float64,
        )
        for z in sizes
    )


def _moves(flips: Sequence[Flips], space: Spins, conserves_sz: bool) -> Moves:
    width = max(map(len, flips), default=1)
    sites = np.full((len(flips), width), space.n_sites, np.int32)
    shift = np.zeros((len(flips), width), np.int8)
    for move, entries in enumerate(flips):
        for slot, (site, step) in enumerate(entries):
            sites[move, slot], shift[move, slot] = site, step
    exchange = (
        space.is_spin_half
        and conserves_sz
        and len(flips) > 0
        and all(len(f) == 2 for f in flips)
    )
    leaves: Any = (sites, shift)
    return Moves(*leaves, exchange=exchange)

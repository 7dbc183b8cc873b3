"""Products of basis operators of single sites, in canonical form.

A spin 1/2 has the basis X, Y, Z.  A larger spin has the basis
Sz^j Sp^k and Sz^j Sm^k with j < d - k, where d = 2 S + 1: the d^2 products that
change m by a definite amount.  All structure constants of that basis are rational
and are computed exactly.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from operator import itemgetter
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from vmc.errors import JobError


class SpinLabel(NamedTuple):
    """Sz^power Sp^raising (Sm^-raising if negative) on a site of dimension dim > 2."""

    dim: int
    power: int
    raising: int

    @property
    def is_valid(self) -> bool:
        """Whether it is one of the dim^2 basis operators (not the identity)."""
        if not all(type(x) is int for x in self):
            return False
        top = self.dim - abs(self.raising)
        return self.dim > 2 and 0 <= self.power < top and any(self[1:])

    def text(self, site: int) -> str:
        """Its name in a formula."""
        names = (("Sz", self.power), ("Sp", self.raising), ("Sm", -self.raising))
        return " ".join(
            f"{name}{site}" + (f"^{times}" if times > 1 else "")
            for name, times in names
            if times > 0
        )


#: A basis operator of one site: "X", "Y", "Z" on a spin 1/2.
Local: TypeAlias = str | SpinLabel
#: A product of basis operators of different sites, sorted by site.
Factors: TypeAlias = tuple[tuple[int, Local], ...]
#: One local operator as a sum of basis operators (None is the identity).
Expansion: TypeAlias = tuple[tuple[complex, Local | None], ...]

#: A sum smaller than this times its last summand is rounding, and dropped.
_CANCELLED = 4 * float(np.finfo(np.float64).eps)

_PAULI: Mapping[tuple[str, str], tuple[complex, str | None]] = {
    ("X", "X"): (1, None),
    ("Y", "Y"): (1, None),
    ("Z", "Z"): (1, None),
    ("X", "Y"): (1j, "Z"),
    ("Y", "X"): (-1j, "Z"),
    ("Y", "Z"): (1j, "X"),
    ("Z", "Y"): (-1j, "X"),
    ("Z", "X"): (1j, "Y"),
    ("X", "Z"): (-1j, "Y"),
}


# ---- products of several sites ---------------------------------------------


def product(
    left: Factors, right: Factors, coefficient: complex
) -> Iterable[tuple[Factors, complex]]:
    """The terms of coefficient * left * right."""
    fixed: dict[int, Local] = dict(left)
    expansions: list[tuple[int, Expansion]] = []
    for site, b in right:
        a = fixed.pop(site, None)
        if a is None:
            fixed[site] = b
        elif isinstance(a, str) and isinstance(b, str):
            phase, letter = _PAULI[a, b]
            coefficient = coefficient * phase
            if letter is not None:
                fixed[site] = letter
        elif isinstance(a, SpinLabel) and isinstance(b, SpinLabel):
            expansions.append((site, _label_product(a, b)))
    if not expansions:
        return [(tuple(sorted(fixed.items(), key=itemgetter(0))), coefficient)]
    return expanded(coefficient, fixed, expansions)


def expanded(
    coefficient: complex,
    fixed: Mapping[int, Local],
    expansions: Sequence[tuple[int, Expansion]],
) -> Iterable[tuple[Factors, complex]]:
    """The terms of coefficient * prod(fixed) * prod(expansions), all sites distinct."""
    sites = [site for site, _ in expansions]
    for choice in itertools.product(*(e for _, e in expansions)):
        value = complex(coefficient) * math.prod(c for c, _ in choice)
        factors = [*fixed.items()]
        factors += [(s, a) for s, (_, a) in zip(sites, choice, strict=True) if a]
        yield tuple(sorted(factors, key=itemgetter(0))), value


def accumulate(
    total: dict[Factors, complex], items: Iterable[tuple[Factors, complex]]
) -> None:
    """Add terms in place and drop what cancels to rounding."""
    for factors, value in items:
        new = total.get(factors, 0.0) + value
        if new == 0 or abs(new) < _CANCELLED * abs(value):
            total.pop(factors, None)
        else:
            total[factors] = new


def merge_dims(dims: dict[int, int], other: Mapping[int, int]) -> None:
    """Add the local dimensions of an operator to those of another, in place.

    Raises:
        JobError: a site has two different spins.
    """
    for site, dim in other.items():
        if dims.setdefault(site, dim) != dim:
            raise JobError(
                f"site {site} is used with spin {(dims[site] - 1) / 2} and with spin "
                f"{(dim - 1) / 2}; a site has one spin"
            )


def local_dagger(local: Local) -> Expansion:
    """The adjoint of a basis operator."""
    return ((1, local),) if isinstance(local, str) else _label_dagger(local)


def local_flip(local: Local) -> Expansion:
    """F A F, where F maps every m to -m."""
    if isinstance(local, str):
        return ((1 if local == "X" else -1, local),)
    dim, power, raising = local
    return (((-1) ** power, SpinLabel(dim, power, -raising)),)


# ---- one site of spin above 1/2 --------------------------------------------


def ladder_table(dim: int, raising: int) -> list[tuple[Fraction, float]]:
    """(m, <m| Sp^raising |m - raising>) for every m where it is not 0.

    A negative ``raising`` means Sm^-raising; 0 is the identity.
    """
    entries = []
    for m in _magnetisations(dim, raising):
        low = min(m, m - raising)
        steps = (_step_squared(dim, low + i) for i in range(abs(raising)))
        entries.append((m, math.sqrt(math.prod(steps, start=Fraction(1)))))
    return entries


def matrix_expansion(dim: int, matrix: np.ndarray) -> Expansion:
    """A (d, d) matrix, rows and columns from m = S down, in the basis."""
    terms: list[tuple[complex, Local | None]] = []
    scale = float(np.abs(matrix).max(initial=0.0))
    for raising in range(1 - dim, dim):
        table = ladder_table(dim, raising)
        rows = [int(Fraction(dim - 1, 2) - m) for m, _ in table]
        values = [
            complex(matrix[row, row + raising]) / step
            for row, (_, step) in zip(rows, table, strict=True)
        ]
        for power, value in enumerate(_fit([m for m, _ in table], values)):
            if abs(value) > 1e-13 * scale:
                terms.append((complex(value), _label(dim, power, raising)))
    return tuple(terms)


def projector_expansion(dim: int, m: float) -> Expansion:
    """|m><m| in the basis; exact.

    Raises:
        JobError: m is not one of -S, ..., S.
    """
    allowed = _magnetisations(dim, 0)
    if m not in [float(x) for x in allowed]:
        listed = ", ".join(str(float(x)) for x in allowed)
        raise JobError(f"a spin {(dim - 1) / 2} has no state m = {m!r}; m is {listed}")
    values = [Fraction(int(float(x) == m)) for x in allowed]
    return _as_expansion(dim, 0, allowed, values)


@functools.cache
def _label_product(a: SpinLabel, b: SpinLabel) -> Expansion:
    """Steps that are taken back leave a polynomial in Sz."""
    raising = a.raising + b.raising
    points = _magnetisations(a.dim, raising)
    values = []
    for m in points:
        middle = m - a.raising
        value = m**a.power * middle**b.power
        if a.raising * b.raising < 0:
            for i in range(min(abs(a.raising), abs(b.raising))):
                low = middle + i if a.raising > 0 else middle - 1 - i
                value *= _step_squared(a.dim, low)
        values.append(value)
    return _as_expansion(a.dim, raising, points, values)


@functools.cache
def _label_dagger(a: SpinLabel) -> Expansion:
    points = _magnetisations(a.dim, -a.raising)
    values = [(m + a.raising) ** a.power for m in points]
    return _as_expansion(a.dim, -a.raising, points, values)


def _as_expansion(
    dim: int, raising: int, points: Sequence[Fraction], values: Sequence[Fraction]
) -> Expansion:
    powers = enumerate(_fit(points, values))
    return tuple((float(c), _label(dim, p, raising)) for p, c in powers if c)


def _label(dim: int, power: int, raising: int) -> SpinLabel | None:
    return SpinLabel(dim, power, raising) if power or raising else None


def _magnetisations(dim: int, raising: int) -> list[Fraction]:
    """The m with both m and m - raising inside -S, ..., S; largest first."""
    top = Fraction(dim - 1, 2)
    every = [top - index for index in range(dim)]
    return [m for m in every if -top <= m - raising <= top]


def _step_squared(dim: int, low: Fraction) -> Fraction:
    """<low + 1| Sp |low>^2 = S (S + 1) - low (low + 1)."""
    top = Fraction(dim - 1, 2)
    return top * (top + 1) - low * (low + 1)


def _fit(points: Sequence[Fraction], values: Sequence[Any]) -> list[Any]:
    """Coefficients, lowest power first, of the polynomial through the points.

    Newton's divided differences; exact for rational values.
    """
    divided = list(values)
    for level in range(1, len(points)):
        for i in range(len(points) - 1, level - 1, -1):
            divided[i] = (divided[i] - divided[i - 1]) / (points[i] - points[i - level])
    coefficients: list[Any] = []
    for point, value in zip(reversed(points), reversed(divided), strict=True):
        shifted = [0, *coefficients]
        for power, c in enumerate(coefficients):
            shifted[power] -= point * c
        shifted[0] += value
        coefficients = shifted
    return coefficients

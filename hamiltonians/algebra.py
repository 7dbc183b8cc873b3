"""The class `Operator`: an immutable sum of products of local operators."""

from __future__ import annotations

import cmath
import numbers
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any, TypeAlias

import numpy as np

from hamiltonians.scalars import complex_number
from hamiltonians.spin_algebra import (
    Expansion,
    Factors,
    Local,
    SpinLabel,
    accumulate,
    expanded,
    local_dagger,
    local_flip,
    merge_dims,
    product,
)
from vmc.errors import JobError

#: (coefficient, letters, sites)
Term: TypeAlias = tuple[complex, Any, tuple[int, ...]]

#: Relative tolerance of == and is_hermitian.
_TOLERANCE = 1e-12

#: Letters of a term list -> Pauli matrices; + and - are S+ and S- of S = 1/2.
_LETTERS: Mapping[str, Expansion] = {
    "I": ((1, None),),
    "X": ((1, "X"),),
    "Y": ((1, "Y"),),
    "Z": ((1, "Z"),),
    "+": ((0.5, "X"), (0.5j, "Y")),
    "-": ((0.5, "X"), (-0.5j, "Y")),
}


class Operator:
    """An immutable sum of products of local operators.

    Build it from `sx`, `Sz`, ... with ``+``, ``-``, ``*`` and ``/`` by numbers, ``@``
    (product) and ``**``; a number added to an operator stands for that multiple of
    the identity.  `Operator.sum` adds many operators in linear time.
    """

    __slots__ = ("_coefficients", "_dims")
    #: Lets ``numpy.float64(2) * operator`` reach `__rmul__`.
    __array_ufunc__ = None
    __hash__ = None  # type: ignore[assignment]  # == has a tolerance

    def __init__(
        self, coefficients: dict[Factors, complex], dims: dict[int, int]
    ) -> None:
        """Not for users: canonical non-zero terms and the local dimension by site.

        The operator keeps both dictionaries; nobody may change them afterwards.
        """
        self._coefficients = coefficients
        self._dims = dims

    # ---- construction ------------------------------------------------------

    @classmethod
    def sum(cls, operators: Iterable[Operator]) -> Operator:
        """The sum of many operators, in time linear in their terms."""
        total: dict[Factors, complex] = {}
        dims: dict[int, int] = {}
        for operator in operators:
            if not isinstance(operator, Operator):
                raise JobError(
                    f"Operator.sum takes operators; {operator!r} of type "
                    f"{type(operator).__name__} came (write a number c as "
                    "c * identity())"
                )
            merge_dims(dims, operator._dims)
            accumulate(total, operator._coefficients.items())
        return cls(total, dims)

    @classmethod
    def from_terms(cls, terms: Iterable[Sequence[Any]]) -> Operator:
        """A sum of products of local operators, from (coefficient, "XYZ", sites).

        Takes back what `terms` lists: ``Operator.from_terms(op.terms) == op``, for
        spins of any length.

        Args:
            terms: coefficients are real or complex numbers; letters are I, X, Y, Z
                (Pauli matrices of a spin 1/2, either case) and + and -, which are
                S+ = (X + i Y) / 2 and its adjoint; sites are distinct.  Instead of
                a text, letters may be a tuple, where a `SpinLabel` stands for the
                operator of a larger spin.

        Raises:
            JobError: a term is malformed (the message names it), or two terms give
                a site different spins.
        """
        total: dict[Factors, complex] = {}
        dims: dict[int, int] = {}
        for number, term in enumerate(terms):
            coefficient, labels, sites = _checked_term(number, term)
            expansions: list[tuple[int, Expansion]] = []
            for site, a in zip(sites, labels, strict=True):
                is_half = isinstance(a, str)
                merge_dims(dims, {site: 2 if is_half else a.dim})
                expansions.append((site, _LETTERS[a] if is_half else ((1, a),)))
            accumulate(total, expanded(coefficient, {}, expansions))
        return cls(total, dims)

    # ---- facts -------------------------------------------------------------

    @property
    def terms(self) -> tuple[Term, ...]:
        """(coefficient, letters, sites) of every term, the constant last.

        Letters are a string such as "XYZ" (the identity: ""); a term that touches a
        spin above 1/2 has a tuple of `SpinLabel` and letters instead.  Coefficients
        without an imaginary part are floats.
        """
        listed = []
        for factors, coefficient in self._coefficients.items():
            labels = tuple(local for _, local in factors)
            letters = [a for a in labels if isinstance(a, str)]
            listed.append(
                (
                    coefficient if coefficient.imag else coefficient.real,
                    "".join(letters) if len(letters) == len(labels) else labels,
                    tuple(site for site, _ in factors),
                )
            )
        return tuple(sorted(listed, key=lambda term: not term[2]))

    @property
    def coefficients(self) -> Mapping[Factors, complex]:
        """Coefficient of every product of basis operators (a copy)."""
        return dict(self._coefficients)

    @property
    def constant(self) -> complex:
        """Coefficient of the identity."""
        value = complex(self._coefficients.get((), 0))
        return value if value.imag else value.real

    @property
    def sites(self) -> tuple[int, ...]:
        """The sites it acts on, sorted."""
        return tuple(sorted({site for f in self._coefficients for site, _ in f}))

    @property
    def max_site(self) -> int:
        """Largest site it acts on; -1 for a multiple of the identity."""
        return max(self.sites, default=-1)

    @property
    def local_dims(self) -> Mapping[int, int]:
        """Local dimension 2 S + 1 of every site that was written."""
        return dict(self._dims)

    @property
    def is_hermitian(self) -> bool:
        """Whether it equals its adjoint (to 1e-12 of its largest coefficient)."""
        return self == self.dagger()

    # ---- algebra -----------------------------------------------------------

    def __add__(self, other: Operator | complex) -> Operator:
        if not isinstance(other, Operator):
            if (value := _scalar(other)) is None:
                return NotImplemented
            other = Operator({(): value} if value else {}, {})
        total, dims = dict(self._coefficients), dict(self._dims)
        merge_dims(dims, other._dims)
        accumulate(total, other._coefficients.items())
        return Operator(total, dims)

    __radd__ = __add__

    def __mul__(self, factor: complex) -> Operator:
        if isinstance(factor, Operator):
            raise JobError("the product of two operators is written a @ b, not a * b")
        if (value := _scalar(factor)) is None:
            return NotImplemented
        scaled = {f: c * value for f, c in self._coefficients.items() if value}
        return Operator(scaled, self._dims)

    __rmul__ = __mul__

    def __truediv__(self, factor: complex) -> Operator:
        value = _scalar(factor)
        if value == 0:
            raise JobError("an operator is divided by zero")
        return NotImplemented if value is None else self * (1 / value)

    def __neg__(self) -> Operator:
        return self * -1

    def __pos__(self) -> Operator:
        return self

    def __sub__(self, other: Operator | complex) -> Operator:
        return self + (-other)

    def __rsub__(self, other: complex) -> Operator:
        return (-self) + other

    def __matmul__(self, other: Operator) -> Operator:
        if not isinstance(other, Operator):
            return NotImplemented
        dims = dict(self._dims)
        merge_dims(dims, other._dims)
        total: dict[Factors, complex] = {}
        for left, a in self._coefficients.items():
            for right, b in other._coefficients.items():
                accumulate(total, product(left, right, a * b))
        return Operator(total, dims)

    def __pow__(self, exponent: int) -> Operator:
        if not isinstance(exponent, numbers.Integral) or exponent < 0:
            raise JobError(f"an operator to the power {exponent!r}: use 0, 1, 2, ...")
        result = Operator({(): 1.0}, {})
        for _ in range(int(exponent)):
            result = result @ self
        return result

    def dagger(self) -> Operator:
        """The adjoint."""
        if self._is_spin_half:
            adjoint = {f: c.conjugate() for f, c in self._coefficients.items()}
            return Operator(adjoint, self._dims)
        return self._mapped(local_dagger, conjugate=True)

    def spin_flipped(self) -> Operator:
        """F O F with the global spin flip F, which maps every m to -m."""
        if self._is_spin_half:
            flipped = {
                f: -c if sum(a != "X" for _, a in f) % 2 else c
                for f, c in self._coefficients.items()
            }
            return Operator(flipped, self._dims)
        return self._mapped(local_flip, conjugate=False)

    def commutator(self, other: Operator) -> Operator:
        """The operator self @ other - other @ self."""
        return self @ other - other @ self

    def permuted(self, perm: Sequence[int] | np.ndarray) -> Operator:
        """The operator with site i renamed perm[i].

        Raises:
            JobError: perm does not cover the sites, or repeats one.
        """
        image = [int(p) for p in perm]
        if self.max_site >= len(image) or len(set(image)) != len(image):
            raise JobError(
                f"perm = {image} is not a permutation of at least {self.max_site + 1} "
                "sites"
            )
        moved = {
            tuple(sorted(((image[s], a) for s, a in f), key=itemgetter(0))): c
            for f, c in self._coefficients.items()
        }
        dims = {image[s]: d for s, d in self._dims.items() if s < len(image)}
        return Operator(moved, dims)

    @property
    def _is_spin_half(self) -> bool:
        return all(dim == 2 for dim in self._dims.values())

    def _mapped(
        self, local: Callable[[Local], Expansion], *, conjugate: bool
    ) -> Operator:
        """Every basis operator replaced by an expansion."""
        total: dict[Factors, complex] = {}
        for factors, value in self._coefficients.items():
            expansions = [(site, local(a)) for site, a in factors]
            start = value.conjugate() if conjugate else value
            accumulate(total, expanded(start, {}, expansions))
        return Operator(total, self._dims)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Operator):
            return NotImplemented
        mine, theirs = self._coefficients, other._coefficients
        scale = max((abs(c) for c in (*mine.values(), *theirs.values())), default=0.0)
        return all(
            abs(mine.get(f, 0) - theirs.get(f, 0)) <= _TOLERANCE * scale
            for f in mine.keys() | theirs.keys()
        )

    def __repr__(self) -> str:
        if not self._coefficients:
            return "0"
        ordered = sorted(self._coefficients.items(), key=lambda item: not item[0])
        pieces = [_signed(c, f) for f, c in ordered]
        first_sign, first = pieces[0]
        rest = "".join(f" {sign} {text}" for sign, text in pieces[1:])
        return ("-" if first_sign == "-" else "") + first + rest


# ---- helpers ---------------------------------------------------------------


def checked_site(site: Any) -> int:
    """A site given by the user as an int, or a `JobError`."""
    if isinstance(site, bool) or not isinstance(site, numbers.Integral) or site < 0:
        raise JobError(f"site {site!r} is not an integer from 0 on")
    return int(site)


def _scalar(value: Any) -> complex | None:
    """A finite number as Python's own, or None if it is no number."""
    number = complex_number(value)
    if number is not None and not cmath.isfinite(number):
        raise JobError(f"coefficient {value} of an operator is not finite")
    return number


def _checked_term(
    number: int, term: Sequence[Any]
) -> tuple[complex, tuple[Local, ...], list[int]]:
    """Coefficient, local operators (letters in upper case) and sites of one term."""
    where = f"term {number}, {term!r}"
    try:
        coefficient, letters, sites = term
        listed = [checked_site(s) for s in sites]
        value = _scalar(coefficient)
    except JobError as err:
        raise JobError(f"{where}: {err}") from err
    except (TypeError, ValueError) as err:
        raise JobError(f'{where} is not (coefficient, "XYZ", sites)') from err
    if value is None:
        raise JobError(f"{where}: the coefficient is not a number")
    if not isinstance(letters, str | tuple) or len(letters) != len(listed):
        raise JobError(f"{where}: one letter is needed per site")
    labels = tuple(a.upper() if isinstance(a, str) else a for a in letters)
    for a in labels:
        known = isinstance(a, str) and a in _LETTERS
        if not (a.is_valid if isinstance(a, SpinLabel) else known):
            raise JobError(f"{where}: unknown letter {a!r}; use I, X, Y, Z, +, -")
    if len(set(listed)) != len(listed):
        raise JobError(
            f"{where}: a site is repeated; multiply the matrices of that site first, "
            "or write the product with @"
        )
    return value, labels, listed


def _signed(coefficient: complex, factors: Factors) -> tuple[str, str]:
    """Sign and text of one term; a complex coefficient keeps its own sign."""
    names = " ".join(
        f"{a}{site}" if isinstance(a, str) else a.text(site) for site, a in factors
    )
    if coefficient.imag:
        value = (
            f"({coefficient:.6g})" if coefficient.real else f"{coefficient.imag:.6g}j"
        )
        sign, value = ("-", value[1:]) if value.startswith("-") else ("+", value)
    else:
        sign = "-" if coefficient.real < 0 else "+"
        value = f"{abs(coefficient.real):.6g}"
    if names and value == "1":
        return sign, names
    return sign, f"{value} {names}".rstrip()

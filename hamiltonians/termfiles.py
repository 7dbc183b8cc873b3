"""Hamiltonians as files and lists: JSON terms, QuSpin and OpenFermion forms."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hamiltonians.algebra import Operator
from hamiltonians.scalars import complex_number
from vmc.errors import JobError

#: What the coefficients of a terms file mean.
CONVENTION = "H = constant + sum coef * product of Pauli matrices ops[k] on sites[k]"

_KEYS = ("N", "nup", "name", "convention", "constant", "terms")
_EXAMPLE = '{"N": 2, "nup": null, "constant": 0.0, "terms": [[0.5, "XX", [0, 1]]]}'


def load_terms(path: str | Path) -> tuple[Operator, int, float | None]:
    """Read a terms file.

    Args:
        path: a JSON file with the keys N, terms and optionally nup (number of up
            spins of the sector), constant, name and convention (`CONVENTION` and
            no other).  A term is [coefficient, "XYZ", [sites]] with Pauli matrices;
            a complex coefficient is [real, imaginary].

    Returns:
        The operator, N, and total_sz = nup - N / 2 (None if nup is null).

    Raises:
        JobError: no such file, malformed JSON, or another schema.
    """
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as err:
        raise JobError(f"terms file {path}: {err.strerror or err}") from err
    except UnicodeDecodeError as err:
        raise JobError(f"terms file {path} is not a text file: {err}") from err
    except json.JSONDecodeError as err:
        raise JobError(f"terms file {path} is not valid JSON: {err}") from err
    try:
        return terms_from_dict(data)
    except JobError as err:
        raise JobError(f"terms file {path}: {err}") from err


def save_terms(
    path: str | Path,
    op: Operator,
    n_sites: int,
    total_sz: float | None = None,
    *,
    name: str = "",
) -> None:
    """Write a terms file that `load_terms` reads back.

    Args:
        path: the file; an existing one is replaced.
        op: an operator on spins 1/2.
        n_sites: N.
        total_sz: sector, or None.
        name: stored in the file; by default its stem.

    Raises:
        JobError: a site is outside, a spin is above 1/2, or the sector is impossible.
    """
    data = terms_to_dict(op, n_sites, total_sz, name=name or Path(path).stem)
    Path(path).write_text(json.dumps(data) + "\n", encoding="utf-8")


def terms_from_dict(data: Any) -> tuple[Operator, int, float | None]:
    """The content of a terms file; see `load_terms`."""
    if not isinstance(data, Mapping):
        raise JobError(f"an object such as {_EXAMPLE} was expected")
    if unknown := sorted(set(data) - set(_KEYS)):
        raise JobError(f"unknown key {unknown[0]!r}; the keys are {', '.join(_KEYS)}")
    if missing := [key for key in ("N", "terms") if key not in data]:
        raise JobError(f"key {missing[0]!r} is missing; an example is {_EXAMPLE}")
    if (said := data.get("convention", CONVENTION)) != CONVENTION:
        raise JobError(
            f"convention = {said!r} is not known; the coefficients multiply Pauli "
            f"matrices, so it is {CONVENTION!r} or left out (multiply coefficients of "
            "spin operators by 1/2 for every letter)"
        )
    n_sites, nup, terms = data["N"], data.get("nup"), data["terms"]
    if not _is_count(n_sites) or n_sites == 0:
        raise JobError(f"N = {n_sites!r} is not a positive integer")
    if nup is not None and not (_is_count(nup) and nup <= n_sites):
        raise JobError(f"nup = {nup!r} is neither null nor an integer 0 .. {n_sites}")
    if not isinstance(terms, list):
        raise JobError('terms is not a list of [coefficient, "XYZ", [sites]]')
    op = Operator.from_terms(_with_numbers(term) for term in terms)
    if op.max_site >= n_sites:
        raise JobError(f"a term acts on site {op.max_site}, but N = {n_sites}")
    constant = _number(data.get("constant", 0.0))
    if complex_number(constant) is None:
        raise JobError(f"constant = {constant!r} is not a number")
    return op + constant, n_sites, None if nup is None else nup - n_sites / 2


def terms_to_dict(
    op: Operator, n_sites: int, total_sz: float | None = None, *, name: str = ""
) -> dict[str, Any]:
    """The content of a terms file; see `save_terms`."""
    if op.max_site >= n_sites:
        raise JobError(f"the operator acts on site {op.max_site}, but N = {n_sites}")
    nup = None if total_sz is None else total_sz + n_sites / 2
    if nup is not None and not (nup == round(nup) and 0 <= nup <= n_sites):
        raise JobError(f"total_sz = {total_sz} is impossible for {n_sites} spins 1/2")
    return {
        "name": name,
        "N": n_sites,
        "nup": None if nup is None else round(nup),
        "convention": CONVENTION,
        "constant": _plain(op.constant),
        "terms": [[_plain(c), a, list(s)] for c, a, s in _pauli_terms(op) if s],
    }


def from_quspin(
    static: Sequence[Sequence[Any]], *, pauli: bool | int = True
) -> Operator:
    """An operator from QuSpin's static list, [["zz", [[J, i, j], ...]], ...].

    Args:
        static: letters I, x, y, z, +, - and their couplings.
        pauli: as in QuSpin's bases.  True or 1: Pauli matrices, with "+" = X + i Y;
            -1: Pauli matrices, with "+" = (X + i Y) / 2; False or 0: spin operators.

    Raises:
        JobError: an entry is malformed; the message names it.
    """
    pauli = int(pauli)
    if pauli not in (-1, 0, 1):
        raise JobError(f"pauli = {pauli} is not one of QuSpin's values 1, 0, -1")
    matrix, ladder = {1: (1.0, 2.0), -1: (1.0, 1.0), 0: (0.5, 1.0)}[pauli]
    terms = []
    for entry in static:
        try:
            letters, couplings = entry
            listed = [(c[0], letters, list(c[1:])) for c in couplings]
        except (TypeError, ValueError, IndexError) as err:
            raise JobError(
                f'QuSpin entry {entry!r} is not ["zz", [[J, i, j], ...]]'
            ) from err
        letters = str(letters).replace("|", "")
        scale = ladder ** sum(letters.count(a) for a in "+-")
        scale *= matrix ** sum(letters.count(a) for a in "xyz")
        terms += [Operator.from_terms([(c, letters, s)]) * scale for c, _, s in listed]
    return Operator.sum(terms)


def to_quspin(op: Operator) -> list[list[Any]]:
    """QuSpin's static list of an operator on spins 1/2, for ``pauli=True``.

    The identity is written as "I" on site 0.
    """
    grouped: dict[str, list[list[Any]]] = {}
    for c, letters, sites in _pauli_terms(op):
        key = letters.lower() or "I"
        grouped.setdefault(key, []).append([c, *(sites or (0,))])
    return [[letters, couplings] for letters, couplings in grouped.items()]


def from_openfermion(
    terms: str | Mapping[tuple[tuple[int, str], ...], Any],
) -> Operator:
    """An operator from OpenFermion's QubitOperator.

    Args:
        terms: its ``terms`` dictionary, {((0, "X"), (3, "Z")): 0.5, ...}, or its text,
            "0.5 [X0 Z3] + (0.1+0j) []".

    Raises:
        JobError: the text or a term is malformed.
    """
    if isinstance(terms, str):
        return Operator.from_terms(_openfermion_text(terms))
    listed = []
    for factors, coefficient in terms.items():
        try:
            letters = "".join(letter for _, letter in factors)
            listed.append((coefficient, letters, [site for site, _ in factors]))
        except (TypeError, ValueError) as err:
            raise JobError(
                f'OpenFermion key {factors!r} is not ((0, "X"), (3, "Z"))'
            ) from err
    return Operator.from_terms(listed)


def to_openfermion(op: Operator) -> dict[tuple[tuple[int, str], ...], complex]:
    """The ``terms`` dictionary of OpenFermion's QubitOperator (spins 1/2)."""
    return {
        tuple(zip(sites, letters, strict=True)): c
        for c, letters, sites in _pauli_terms(op)
    }


def _openfermion_text(text: str) -> list[tuple[complex, str, list[int]]]:
    listed = []
    pattern = re.compile(r"\s*([+-]?)\s*([^\[\]]*?)\s*\[([^\[\]]*)\]")
    position = 0
    while text[position:].strip():
        match = pattern.match(text, position)
        if match is None:
            raise JobError(
                f"OpenFermion text {text[position:].strip()[:60]!r} is not a sum such "
                'as "0.5 [X0 Z3] + 0.1 []"'
            )
        sign, number, product = match.groups()
        factors = [re.fullmatch(r"([XYZ])(\d+)", word) for word in product.split()]
        try:
            coefficient = complex(number.replace(" ", "") or "1")
            pairs = [(f[1], int(f[2])) for f in factors if f]
        except ValueError as err:
            raise JobError(f"OpenFermion coefficient {number!r} is no number") from err
        if len(pairs) != len(factors):
            raise JobError(f"OpenFermion product {product!r} is not X0 Y1 Z2 ...")
        coefficient = -coefficient if sign == "-" else coefficient
        letters = "".join(a for a, _ in pairs)
        listed.append((coefficient, letters, [s for _, s in pairs]))
        position = match.end()
    return listed


def _pauli_terms(op: Operator) -> list[tuple[complex, str, tuple[int, ...]]]:
    for _, letters, sites in op.terms:
        if not isinstance(letters, str):
            raise JobError(
                f"the operator acts on sites {sites} with a spin above 1/2; this form "
                "knows spins 1/2 only"
            )
    return list(op.terms)


def _with_numbers(term: Any) -> Any:
    """A term of a file, a coefficient [re, im] made complex."""
    if isinstance(term, list) and len(term) == 3:
        return [_number(term[0]), *term[1:]]
    return term


def _number(value: Any) -> Any:
    if (
        isinstance(value, list)
        and [type(v) in (int, float) for v in value] == [True] * 2
    ):
        return complex(*value)
    return value


def _plain(value: complex) -> float | list[float]:
    return [value.real, value.imag] if value.imag else value.real


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0

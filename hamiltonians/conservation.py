"""Proofs, from the terms alone, that an operator keeps a sector.

Each function returns the text of a term that violates the law, or None.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from hamiltonians.algebra import Operator
from hamiltonians.spin_algebra import Factors, Local, SpinLabel, accumulate
from vmc.errors import JobError
from vmc.sectors import Charge

#: Relative size below which a coefficient is rounding.
TOLERANCE = 1e-12
#: Longest product of X and Y whose ladder components are listed (2^n of them).
_MAX_FLIPS = 12

#: Ladder components of X and Y: (steps down, factor); sx = S+ + S-, sy = -i S+ + i S-.
_STEPS = {"X": ((-1, 1), (1, 1)), "Y": ((-1, -1j), (1, 1j))}


def sz_violation(coefficients: Mapping[Factors, complex]) -> str | None:
    """A term that changes the total Sz."""
    return _commutator_violation(coefficients, None)


def charge_violation(
    coefficients: Mapping[Factors, complex], charge: Charge
) -> str | None:
    """A term that changes a charge, modulo its modulus.

    Raises:
        JobError: the proof would need too many ladder components.
    """
    if not charge.modulus:
        return _commutator_violation(coefficients, charge.weights)
    if charge.modulus == 2:
        return _parity_violation(coefficients, charge.weights)
    return _modular_violation(coefficients, charge)


def blockade_violation(op: Operator, pairs: Sequence[tuple[int, int]]) -> str | None:
    """A term that leads from outside to a state with both sites of a pair down.

    With n = (1 - sz) / 2 the product n_i n_j H (1 - n_i n_j) must vanish for every
    pair; then H never leaves the states without such pairs.

    Raises:
        JobError: a site of a pair has a spin above 1/2.
    """
    by_site: dict[int, dict[Factors, complex]] = {}
    coefficients = op.coefficients
    for factors, c in coefficients.items():
        for site, letter in factors:
            if letter != "Z":
                by_site.setdefault(site, {})[factors] = c
    scale = max(map(abs, coefficients.values()), default=0.0)
    for i, j in pairs:
        if any(op.local_dims.get(site, 2) != 2 for site in (i, j)):
            raise JobError(f"a blockade needs spins 1/2, unlike sites {i} and {j}")
        touching = by_site.get(i, {}) | by_site.get(j, {})
        if not touching:
            continue
        both = Operator.from_terms(
            [(0.25, "", ()), (0.25, "ZZ", (i, j)), (-0.25, "Z", (i,))]
            + [(-0.25, "Z", (j,))]
        )
        terms = Operator(touching, {s: 2 for f in touching for s, _ in f})
        left = (both @ terms @ (1 - both)).coefficients
        if any(abs(c) > TOLERANCE * scale for c in left.values()):
            factors = max(touching, key=lambda f: abs(touching[f]))
            return f"{text(factors, touching[factors])} (pair {i}, {j})"
    return None


def text(factors: Factors, c: complex) -> str:
    """One term as it reads in a formula."""
    return repr(Operator({factors: c}, {}))


def _commutator_violation(
    coefficients: Mapping[Factors, complex], weights: Sequence[int] | None
) -> str | None:
    """A term of [sum_i w_i Sz_i, H] that does not cancel; w_i = 1 by default.

    Computed term by term, so long strings cost no more than their length.
    """
    image: dict[Factors, complex] = {}
    origin: dict[Factors, Factors] = {}
    for factors, c in coefficients.items():
        changed = _commutator(factors, c, weights)
        for key, _ in changed:
            origin.setdefault(key, factors)
        accumulate(image, changed)
    largest = 1 if weights is None else max(map(abs, weights), default=0)
    scale = largest * max(map(abs, coefficients.values()), default=0.0)
    for key, c in image.items():
        if abs(c) > TOLERANCE * scale:
            return text(origin[key], coefficients[origin[key]])
    return None


def _commutator(
    factors: Factors, c: complex, weights: Sequence[int] | None
) -> list[tuple[Factors, complex]]:
    changed: list[tuple[Factors, complex]] = []
    raised = 0
    for position, (site, a) in enumerate(factors):
        w = 1 if weights is None else weights[site]
        if isinstance(a, SpinLabel):
            raised += w * a.raising
        elif a != "Z" and w:
            other: tuple[int, Local] = (site, "Y" if a == "X" else "X")
            key = (*factors[:position], other, *factors[position + 1 :])
            changed.append((key, c * w * (1j if a == "X" else -1j)))
    if raised:
        changed.append((factors, c * raised))
    return changed


def _parity_violation(
    coefficients: Mapping[Factors, complex], weights: Sequence[int]
) -> str | None:
    """Every basis operator either keeps or changes a parity."""
    for factors, c in coefficients.items():
        odd = 0
        for site, a in factors:
            steps = a.raising if isinstance(a, SpinLabel) else int(a != "Z")
            odd += weights[site] * steps
        if odd % 2:
            return text(factors, c)
    return None


def _modular_violation(
    coefficients: Mapping[Factors, complex], charge: Charge
) -> str | None:
    """Ladder components that change Q must cancel between the terms."""
    total: dict[Any, complex] = {}
    origin: dict[Any, Factors] = {}
    for factors, c in coefficients.items():
        flips = [(site, a) for site, a in factors if a in _STEPS]
        if len(flips) > _MAX_FLIPS:
            raise JobError(
                f"the term {text(factors, c)} flips {len(flips)} spins; conservation "
                f"modulo {charge.modulus} is decided for up to {_MAX_FLIPS}"
            )
        rest = tuple((site, a) for site, a in factors if a not in _STEPS)
        fixed = -sum(
            charge.weights[site] * a.raising
            for site, a in rest
            if isinstance(a, SpinLabel)
        )
        for choice in itertools.product(*(_STEPS[str(a)] for _, a in flips)):
            steps = [d for d, _ in choice]
            change = fixed + sum(
                charge.weights[site] * d
                for (site, _), d in zip(flips, steps, strict=True)
            )
            if not charge.fits(change):
                sites = (site for site, _ in flips)
                key = (rest, tuple(zip(sites, steps, strict=True)))
                value = c * math.prod((f for _, f in choice), start=1.0 + 0j)
                total[key] = total.get(key, 0.0) + value
                origin.setdefault(key, factors)
    scale = max(map(abs, coefficients.values()), default=0.0)
    for key, value in total.items():
        if abs(value) > TOLERANCE * scale:
            return text(origin[key], coefficients[origin[key]])
    return None

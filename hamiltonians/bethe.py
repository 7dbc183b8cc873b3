"""Bethe ansatz: ground energies of Heisenberg and XXZ chains in a sector of total Sz.

Real roots only: the lowest state of each sector for anisotropy above -1, after
M. Takahashi, Thermodynamics of One-Dimensional Solvable Models (1999), and for free
ends after Alcaraz et al., J. Phys. A 20, 6397 (1987).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from vmc.errors import JobError, NumericalError

_MAX_STEPS = 200


class _Phases(NamedTuple):
    """Functions of the roots x, the rapidities in units of the anisotropy angle."""

    theta: Callable[[np.ndarray, int], np.ndarray]
    slope: Callable[[np.ndarray, int], np.ndarray]
    energy: Callable[[np.ndarray], np.ndarray]
    guess: Callable[[np.ndarray, int, int], np.ndarray]


def ring_energy(n: int, J: float, delta: float, total_sz: float) -> float:
    """Lowest energy of J sum (Sx Sx + Sy Sy + delta Sz Sz) on a ring of n sites.

    Holds in the sector of fixed total Sz, without a twist; an odd ring has this
    level twice, at momenta k and -k.

    Args:
        n: sites, at least 3.
        J: exchange, J > 0.
        delta: anisotropy, above -1.
        total_sz: sum of m_i.

    Raises:
        JobError: a value outside these ranges.
        NumericalError: the equations were not solved.
    """
    m = _down_spins(n, total_sz)
    if n < 3 or J <= 0 or delta <= -1:
        raise JobError(
            "the Bethe ansatz of a ring needs n > 2, J > 0 and delta > -1; got "
            f"n = {n}, J = {J}, delta = {delta}"
        )
    if not ring_is_solved(n, delta, total_sz):
        raise JobError(
            f"the roots of a ring of {n} sites with delta = {delta} and total_sz = "
            f"{total_sz} are not real; raise delta above -1/2 or take an even ring"
        )
    phases = _phases(delta)
    # An odd ring has no symmetric set of quantum numbers: they shift by one half.
    numbers = np.arange(m) - (m - 1) / 2 + (0.5 if n % 2 else 0.0)

    def residual(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        gap = x[:, None] - x[None]
        slope = phases.slope(gap, 2)
        np.fill_diagonal(slope, 0.0)
        value = n * phases.theta(x, 1) - phases.theta(gap, 2).sum(axis=1)
        jacobian = slope + np.diag(n * phases.slope(x, 1) - slope.sum(axis=1))
        return value - 2 * np.pi * numbers, jacobian

    x = _solve(residual, phases.guess(numbers, n, m))
    return J * float(n * delta / 4 - phases.energy(x).sum())


def ring_is_solved(n: int, delta: float, total_sz: float) -> bool:
    """Whether `ring_energy` covers this ring: all even ones, odd ones by sector.

    The largest quantum number must stay below what roots at infinity reach; at half
    filling of an odd ring that means delta > -1/2.
    """
    if delta <= -1 or n < 3:
        return False
    if n % 2 == 0 or delta >= 1:
        return True
    m, gamma = _down_spins(n, total_sz), float(np.arccos(delta))
    reach = n * (np.pi - gamma) - (m - 1) * (np.pi - 2 * gamma)
    return m == 0 or reach > np.pi * m * (1 + 1e-9)


def open_energy(n: int, J: float, total_sz: float) -> float:
    """Lowest energy of J sum S_i . S_{i+1} on an open chain of n sites.

    Holds in the sector of fixed total Sz.

    Args:
        n: sites.
        J: exchange, J > 0.
        total_sz: sum of m_i.

    Raises:
        JobError: a value outside these ranges.
        NumericalError: the equations were not solved.
    """
    m = _down_spins(n, total_sz)
    if J <= 0:
        raise JobError(f"the Bethe ansatz needs J > 0, got {J}")
    phases = _phases(1.0)
    numbers = np.arange(1.0, m + 1)

    def residual(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        gap, mean = x[:, None] - x[None], x[:, None] + x[None]
        minus, plus = phases.slope(gap, 2), phases.slope(mean, 2)
        theta = phases.theta(gap, 2) + phases.theta(mean, 2)
        for table in (minus, plus, theta):
            np.fill_diagonal(table, 0.0)
        value = 2 * n * phases.theta(x, 1) - theta.sum(axis=1)
        diagonal = 2 * n * phases.slope(x, 1) - (minus + plus).sum(axis=1)
        return value - 2 * np.pi * numbers, minus - plus + np.diag(diagonal)

    x = _solve(residual, phases.guess(numbers, 2 * n + 1, 2 * m))
    return J * float((n - 1) / 4 - phases.energy(x).sum())


def _down_spins(n: int, total_sz: float) -> int:
    down = n / 2 - abs(total_sz)
    if n < 1 or down < 0 or abs(down - round(down)) > 1e-9:
        raise JobError(f"total_sz = {total_sz} is impossible for {n} spins 1/2")
    return round(down)


def _phases(delta: float) -> _Phases:
    if abs(delta - 1) < 1e-12:
        return _Phases(
            lambda x, k: 2 * np.arctan(2 * x / k),
            lambda x, k: 4 * k / (k * k + 4 * x**2),
            lambda x: 2 / (4 * x**2 + 1),
            _gapless_guess,
        )
    if delta < 1:
        g = float(np.arccos(delta))

        def scale(k: int) -> float:
            return 1 / np.tan(k * g / 2)

        return _Phases(
            lambda x, k: 2 * np.arctan(scale(k) * np.tanh(g * x)),
            lambda x, k: (
                2
                * g
                * scale(k)
                / (np.cosh(g * x) ** 2 + scale(k) ** 2 * np.sinh(g * x) ** 2)
            ),
            lambda x: np.sin(g) ** 2 / (np.cosh(2 * g * x) - delta),
            _gapless_guess,
        )
    e = float(np.arccosh(delta))

    def coth(k: int) -> float:
        return 1 / np.tanh(k * e / 2)

    return _Phases(
        lambda x, k: (
            2 * np.arctan(coth(k) * np.tan(e * x))
            + 2 * np.pi * np.floor(e * x / np.pi + 0.5)
        ),
        lambda x, k: (
            2 * e * coth(k) / (np.cos(e * x) ** 2 + coth(k) ** 2 * np.sin(e * x) ** 2)
        ),
        lambda x: np.sinh(e) ** 2 / (delta - np.cos(2 * e * x)),
        # Exact for strong anisotropy and, in the middle, for weak.
        lambda numbers, n, m: (
            np.sign(numbers)
            * np.minimum(
                np.abs(np.pi * numbers / (n - m) / e),
                np.abs(_gapless_guess(numbers, n, m)),
            )
        ),
    )


def _gapless_guess(numbers: np.ndarray, n: int, m: int) -> np.ndarray:
    """Roots of an infinite chain without magnetisation."""
    del m
    return 2 / np.pi * np.arctanh(np.tan(np.pi * numbers / n))


def _solve(
    residual: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]], x: np.ndarray
) -> np.ndarray:
    """Newton's method with halved steps while the residual grows."""
    if len(x) == 0:
        return x
    value, jacobian = residual(x)
    norm = np.linalg.norm(value)
    for _ in range(_MAX_STEPS):
        if norm < 1e-13 * len(x) * (1 + len(x)):
            break
        step = np.linalg.solve(jacobian, value)
        size, before = 1.0, norm
        while True:
            trial = x - size * step
            value, jacobian = residual(trial)
            norm = np.linalg.norm(value)
            if norm < before or size < 1e-6:
                break
            size /= 2
        if norm >= before and before < 1e-8 * len(x):
            break  # down to rounding
        x = trial
    if not norm < 1e-7 * len(x):
        raise NumericalError(f"Bethe equations not solved: residual {norm:.1e}")
    return x

"""Energies extrapolated to zero variance: better states on a line to an eigenstate.

Close to an eigenstate both E - E0 and Var(H) are of second order in the distance, so
that states of one family lie on a line E = E0 + slope Var(H).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import special

from vmc.errors import JobError
from vmc.stats import Estimate

#: Rounds in which the weights learn the slope.
_ROUNDS = 20


class Extrapolation(NamedTuple):
    """The line E = energy + slope variance through several states.

    Attributes:
        energy: at zero variance.
        error: its standard error: that of the measurements, widened by
            sqrt(chi^2 / dof) where the points scatter by more than their errors.
        slope: of the line, 1 / energy.
        slope_error: its standard error.
        chi2_per_dof: None for two points, or without errors.
        dof: points - 2.
        chance: probability of a larger chi^2 if the points lie on a line, or None.
    """

    energy: float
    error: float
    slope: float
    slope_error: float
    chi2_per_dof: float | None
    dof: int
    chance: float | None


def zero_variance(points: Sequence[Estimate]) -> Extrapolation:
    """Fit a line to energies and variances, both with errors.

    The weights are 1 / (error^2 + slope^2 variance_error^2), with the slope of the
    round before (the effective-variance method).  Without any errors all points count
    alike, and the errors come from their scatter.

    Args:
        points: energies of different states of one Hamiltonian, in one sector.

    Raises:
        JobError: fewer than two points, or no two different variances.
    """
    e = np.array([p.mean for p in points], float)
    v = np.array([p.variance for p in points], float)
    if len(points) < 2 or np.ptp(v) <= 1e-9 * max(float(np.max(v, initial=0)), 1e-300):
        raise JobError(
            "an extrapolation to zero variance needs at least two states of different "
            f"variance, but the variances are {[float(f'{x:.4g}') for x in v]}: take "
            "runs with other sizes of the ansatz, or earlier checkpoints"
        )
    se = np.array([p.error for p in points], float)
    sv = np.array([p.variance_error for p in points], float)
    sv = np.where(np.isfinite(sv), sv, 0.0)
    noiseless = not np.all(se > 0)
    weights, slope = np.ones_like(e), 0.0
    for _ in range(1 if noiseless else _ROUNDS):
        if not noiseless:
            weights = 1 / (se**2 + slope**2 * sv**2)
        solution, covariance = _line(v, e, weights)
        slope = float(solution[1])
    chi2 = float(np.sum(weights * (e - solution[0] - slope * v) ** 2))
    dof = len(e) - 2
    widened = chi2 / dof if dof else (0.0 if noiseless else 1.0)
    if not noiseless:
        widened = max(widened, 1.0)
    errors = np.sqrt(np.diag(covariance) * widened)
    judged = dof > 0 and not noiseless
    return Extrapolation(
        energy=float(solution[0]),
        error=float(errors[0]) if dof or not noiseless else math.nan,
        slope=slope,
        slope_error=float(errors[1]) if dof or not noiseless else math.nan,
        chi2_per_dof=chi2 / dof if judged else None,
        dof=dof,
        chance=float(special.chdtrc(dof, chi2)) if judged else None,
    )


def _line(
    v: np.ndarray, e: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Intercept and slope by weighted least squares, with their covariance."""
    # Around the mean and of the order of one, so that nothing cancels.
    centre, unit = np.average(v, weights=weights), np.ptp(v)
    middle = np.average(e, weights=weights)
    x = (v - centre) / unit
    root = np.sqrt(weights)
    matrix = np.stack([root, root * x], axis=1)
    inverse = np.linalg.inv(matrix.T @ matrix)
    a, b = inverse @ (matrix.T @ (root * (e - middle)))
    back = np.array([[1.0, -centre / unit], [0.0, 1 / unit]])
    solution = back @ np.array([a, b]) + np.array([middle, 0.0])
    return solution, back @ inverse @ back.T

"""Lines to zero variance: exact where there is no noise, covered where there is."""

from __future__ import annotations

import numpy as np
import pytest

from vmc.errors import JobError
from vmc.extrapolate import zero_variance
from vmc.stats import Estimate

VARIANCES = np.array([0.4, 0.9, 1.7, 3.0])
E0, SLOPE = -17.5, 0.3


def point(energy: float, variance: float, error: float, spread: float) -> Estimate:
    return Estimate(energy, error, variance, 1, 1, 64, 64, error, spread)


def test_a_line_without_noise() -> None:
    points = [point(E0 + SLOPE * v, v, 0.0, 0.0) for v in VARIANCES]
    found = zero_variance(points)
    np.testing.assert_allclose([found.energy, found.slope], [E0, SLOPE], rtol=1e-12)
    assert found.error < 1e-9 and found.dof == 2 and found.chance is None
    two = zero_variance(points[:2])
    np.testing.assert_allclose(two.energy, E0, rtol=1e-12)
    assert np.isnan(two.error) and two.chi2_per_dof is None


def test_two_points_with_errors() -> None:
    """E0 = (E1 v2 - E2 v1) / (v2 - v1): errors by hand."""
    points = [point(-10.0, 1.0, 0.01, 0.0), point(-9.0, 3.0, 0.02, 0.0)]
    found = zero_variance(points)
    np.testing.assert_allclose(found.energy, -10.5)
    np.testing.assert_allclose(found.error, np.hypot(1.5 * 0.01, 0.5 * 0.02))
    np.testing.assert_allclose(found.slope_error, np.hypot(0.01, 0.02) / 2)
    noisy = [p._replace(variance_error=0.04) for p in points]
    np.testing.assert_allclose(
        zero_variance(noisy).error,
        np.hypot(1.5 * np.hypot(0.01, 0.02), 0.5 * np.hypot(0.02, 0.02)),
    )


@pytest.mark.parametrize("scatter", [0.0, 0.1])
def test_errors_cover(scatter: float) -> None:
    """Noise in energies and variances; with scatter no line is exact."""
    rng = np.random.default_rng(5)
    hits, chances = [], []
    for _ in range(400):
        e, v = rng.normal(size=(2, 4)) * [[0.01], [0.03]]
        e = e + scatter * rng.normal(size=4)
        found = zero_variance(
            [
                point(E0 + SLOPE * x + a, x + b, 0.01, 0.03)
                for x, a, b in zip(VARIANCES, e, v, strict=True)
            ]
        )
        hits.append(abs(found.energy - E0) < found.error)
        chances.append(found.chance)
    # With two degrees of freedom a scatter is known badly, which costs coverage.
    low, high = (0.52, 0.70) if scatter else (0.68, 0.86)
    assert low < np.mean(hits) < high
    assert (np.median(chances) > 0.2) == (scatter == 0)


@pytest.mark.parametrize("variances", [[], [1.0], [1.0, 1.0, 1.0]])
def test_states_that_make_no_line(variances: list[float]) -> None:
    with pytest.raises(JobError, match="at least two states of different variance"):
        zero_variance([point(-1.0, v, 0.1, 0.1) for v in variances])

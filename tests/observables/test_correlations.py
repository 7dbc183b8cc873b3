"""Where the structure factor has its peak, and the length measured there."""

from __future__ import annotations

import numpy as np
import pytest

from vmc.errors import JobError
from vmc.observables_correlations import peak

RING = 2 * np.pi * np.array([0, 1, 2, 3, -2, -1])[:, None] / 6


@pytest.mark.parametrize("rounding", [0.0, 1e-15, -1e-15])
def test_the_sign_of_the_peak_is_no_matter_of_rounding(rounding: float) -> None:
    structure = np.array([0.1, 0.2, 1.0, 0.3, 1.0 + rounding, 0.2])
    top, near = peak(structure, RING)
    assert top == 2
    assert [q for q, _ in near] == [1, 5]
    assert all(abs(step - np.pi / 3) < 1e-12 for _, step in near)


def test_a_peak_that_is_higher_wins() -> None:
    assert peak(np.array([0.1, 0.2, 1.0, 0.3, 1.001, 0.2]), RING)[0] == 4


def test_one_momentum_is_no_structure() -> None:
    with pytest.raises(JobError, match="two allowed momenta"):
        peak(np.ones(1), RING[:1])

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from milp_search.search.expected_excess import expected_excess, log_expected_excess

LEVELS = np.array([-1.0, 0.0, 2.0])
MEAN = np.array([0.3, -0.5])
DEVIATION = np.array([1.0, 0.2])


def test_it_is_the_integral_above_the_level() -> None:
    found = expected_excess(LEVELS, MEAN, DEVIATION)
    for row, level in enumerate(LEVELS):
        for column, (mean, deviation) in enumerate(zip(MEAN, DEVIATION, strict=True)):
            expected, _ = quad(
                lambda y, level=level, mean=mean, deviation=deviation: (
                    (y - level) * norm.pdf(y, mean, deviation)
                ),
                level,
                level + 12,
                epsabs=1e-14,
                limit=200,
            )
            assert found[row, column] == pytest.approx(expected, rel=1e-6, abs=1e-13)


def test_the_logarithm_agrees_where_neither_fails() -> None:
    mean = np.linspace(-30.0, 5.0, 200)
    levels, ones = np.zeros(1), np.ones(200)
    direct = np.log(expected_excess(levels, mean, ones))
    assert log_expected_excess(levels, mean, ones) == pytest.approx(direct, abs=1e-9)


@pytest.mark.parametrize("z", [-50.0, -999.0, -1001.0, -1e6])
def test_the_logarithm_stays_finite_far_below_the_level(z: float) -> None:
    # For z -> -inf, E max(Y, 0) -> phi(z) (1 / z^2 - 3 / z^4).
    expected = -0.5 * z**2 - 0.5 * math.log(2 * math.pi) + math.log(1 / z**2 - 3 / z**4)
    found = log_expected_excess(np.zeros(1), np.array([z]), np.ones(1))
    assert found[0, 0] == pytest.approx(expected, rel=1e-7)


def test_far_above_the_level_it_is_the_difference() -> None:
    found = log_expected_excess(np.array([-1e3]), np.array([5.0]), np.array([0.1]))
    assert found[0, 0] == pytest.approx(math.log(1005.0))

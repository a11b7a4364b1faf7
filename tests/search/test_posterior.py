from __future__ import annotations

import math

import numpy as np
import pytest

from milp_search.search.orientation import Array
from milp_search.search.posterior import (
    Draws,
    SingularCovarianceError,
    Surrogate,
    inverse_factors,
    matern52,
)

RNG = np.random.default_rng(0)
INPUTS, TARGETS = RNG.random((6, 3)), RNG.standard_normal(6)
NEW = RNG.random((4, 3))
NOISE = np.array([0.1, 0.2, 0.1, 0.3, 0.05, 0.1])
DRAWS = Draws(
    np.array([[1.0, 0.01, 4.0], [0.3, 2.0, 0.0]]),
    np.array([1.5, 0.7]),
    np.array([0.2, -0.1]),
    np.array([0.02, 0.3]),
)


def kernel(left: Array, right: Array, draw: int) -> Array:
    weights = DRAWS.inverse_lengthscales[draw]
    values = np.empty((len(left), len(right)))
    for i, a in enumerate(left):
        for j, b in enumerate(right):
            distance = math.sqrt(sum(weights * (a - b) ** 2))
            polynomial = 1 + math.sqrt(5) * distance + 5 / 3 * distance**2
            values[i, j] = polynomial * math.exp(-math.sqrt(5) * distance)
    return np.asarray(DRAWS.outputscale[draw] * values)


def test_the_kernel_is_matern_with_five_halves() -> None:
    computed = matern52(INPUTS, NEW, DRAWS)
    for draw in range(2):
        np.testing.assert_allclose(computed[draw], kernel(INPUTS, NEW, draw), rtol=1e-12)


@pytest.mark.parametrize("known", [True, False])
def test_the_joint_posterior_is_the_textbooks(known: bool) -> None:
    mean, covariance = Surrogate(INPUTS, TARGETS, NOISE if known else None, DRAWS).joint(NEW)
    assert DRAWS.noise is not None
    for draw in range(2):
        noise = NOISE if known else np.full(6, DRAWS.noise[draw])
        total = kernel(INPUTS, INPUTS, draw) + np.diag(noise)
        across = kernel(NEW, INPUTS, draw)
        prior = DRAWS.mean[draw]
        expected = prior + across @ np.linalg.solve(total, TARGETS - prior)
        np.testing.assert_allclose(mean[draw], expected, rtol=1e-10)
        expected = kernel(NEW, NEW, draw) - across @ np.linalg.solve(total, across.T)
        np.testing.assert_allclose(covariance[draw], expected, atol=1e-12)


def test_predictions_are_the_joint_posteriors_margins() -> None:
    surrogate = Surrogate(INPUTS, TARGETS, NOISE, DRAWS)
    mean, covariance = surrogate.joint(NEW)
    predicted, variance = surrogate.predict(NEW)
    np.testing.assert_allclose(predicted, mean, rtol=1e-12)
    np.testing.assert_allclose(variance, np.diagonal(covariance, axis1=1, axis2=2), atol=1e-12)


def test_a_singular_covariance_gets_jitter() -> None:
    ones = np.ones((1, 3, 3))
    inverse = inverse_factors(ones, np.ones(1))[0]
    assert np.isfinite(inverse).all()
    np.testing.assert_allclose(np.linalg.inv(inverse.T @ inverse), ones[0], atol=1e-3)


@pytest.mark.parametrize("bad", [-np.eye(2), np.full((2, 2), np.nan)])
def test_what_jitter_cannot_mend_is_an_error(bad: Array) -> None:
    with pytest.raises(SingularCovarianceError, match="positive definite"):
        inverse_factors(bad[None], np.ones(1))

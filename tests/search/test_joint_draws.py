from __future__ import annotations

import numpy as np
import pytest

from milp_search.search.joint_draws import JointDraws, condition, draw_jointly
from milp_search.search.posterior import Draws, Surrogate

INPUTS = np.array([[0.1, 0.2], [0.5, 0.9], [0.9, 0.4], [0.3, 0.6]])
TARGETS = np.array([-0.5, 0.2, 0.9, 0.1])
NOISE = np.array([0.05, 0.1, 0.05, 0.02])
DRAWS = Draws(np.array([[6.0, 1.5], [1.0, 11.0]]), np.array([1.0, 0.6]), np.array([0.0, 0.3]), None)
SURROGATE = Surrogate(INPUTS, TARGETS, NOISE, DRAWS)
CANDIDATES = np.array([[0.2, 0.7], [0.8, 0.1], [0.45, 0.5]])
NORMALS = np.random.default_rng(0).standard_normal((2, 3, 2))


def conditioned() -> JointDraws:
    return condition(SURROGATE, INPUTS[:2], NORMALS)


def slow_prediction(
    draw: int, points: np.ndarray, values: np.ndarray, noise: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Means and variances at the candidates, by the textbook's formula."""

    def kernel(left: np.ndarray, right: np.ndarray) -> np.ndarray:
        gaps = (left[:, None] - right[None]) * np.sqrt(DRAWS.inverse_lengthscales[draw])
        r = np.sqrt(5.0) * np.sqrt((gaps**2).sum(axis=-1))
        return np.asarray(DRAWS.outputscale[draw] * (1 + r + r**2 / 3) * np.exp(-r))

    across = kernel(CANDIDATES, points)
    inverse = np.linalg.inv(kernel(points, points) + np.diag(noise))
    mean = DRAWS.mean[draw] + across @ inverse @ (values - DRAWS.mean[draw])
    variance = np.diag(kernel(CANDIDATES, CANDIDATES) - across @ inverse @ across.T)
    return mean, variance


def test_drawn_values_take_the_place_of_their_observations() -> None:
    process = conditioned()
    means, deviations = process.predict(CANDIDATES)
    points = INPUTS[[2, 3, 0, 1]]
    for draw in range(2):
        nugget = 1e-6 * DRAWS.outputscale[draw]
        for joint in range(3):
            values = np.concatenate([TARGETS[2:], process.values[draw, joint]])
            noise = np.array([*NOISE[2:], nugget, nugget])
            mean, variance = slow_prediction(draw, points, values, noise)
            assert means[draw, joint] == pytest.approx(mean, abs=1e-8)
            assert deviations[draw] ** 2 == pytest.approx(variance, abs=1e-8)


def test_a_further_point_is_as_if_it_had_been_there() -> None:
    process = conditioned()
    point = np.array([0.7, 0.7])
    after = process.with_point(point, np.full((2, 3), 0.4))
    means, deviations = after.predict(CANDIDATES)
    points = np.vstack([INPUTS[[2, 3, 0, 1]], point])
    for draw in range(2):
        nugget = 1e-6 * DRAWS.outputscale[draw]
        noise = np.array([*NOISE[2:], nugget, nugget, nugget])
        for joint in range(3):
            values = np.concatenate([TARGETS[2:], after.values[draw, joint]])
            mean, variance = slow_prediction(draw, points, values, noise)
            assert means[draw, joint] == pytest.approx(mean, abs=1e-8)
            assert deviations[draw] ** 2 == pytest.approx(variance, abs=1e-8)


def test_a_drawn_value_has_the_prediction_s_moments() -> None:
    process = conditioned()
    point = np.array([0.7, 0.7])
    means, deviations = process.predict(point[None])
    high = process.with_point(point, np.ones((2, 3))).values[..., -1]
    assert (high - means[..., 0]) ** 2 == pytest.approx(
        np.broadcast_to(deviations**2, (2, 3)), abs=2e-6
    )


def test_joint_draws_have_the_posterior_s_moments() -> None:
    normals = np.random.default_rng(1).standard_normal((2, 40_000, 3))
    values = draw_jointly(SURROGATE, CANDIDATES, normals)
    mean, covariance = SURROGATE.joint(CANDIDATES)
    for draw in range(2):
        assert values[draw].mean(axis=0) == pytest.approx(mean[draw], abs=0.02)
        assert np.cov(values[draw].T) == pytest.approx(covariance[draw], abs=0.02)


def test_no_baseline_leaves_the_posterior() -> None:
    process = condition(SURROGATE, INPUTS[:0], np.zeros((2, 1, 0)))
    means, deviations = process.predict(CANDIDATES)
    mean, variance = SURROGATE.predict(CANDIDATES)
    assert means[:, 0] == pytest.approx(mean)
    assert deviations**2 == pytest.approx(variance)


def test_observing_the_same_input_twice_is_no_trouble() -> None:
    twice = Surrogate(np.vstack([INPUTS, INPUTS]), np.tile(TARGETS, 2), np.full(8, 1e-4), DRAWS)
    process = condition(twice, INPUTS, np.zeros((2, 1, 4)))
    means, deviations = process.predict(INPUTS)
    assert means[0, 0] == pytest.approx(TARGETS, abs=1e-3)
    assert (deviations < 0.01).all()

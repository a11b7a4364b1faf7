from __future__ import annotations

import numpy as np

from milp_search.search.nuts import Stretch, run_chain
from milp_search.search.orientation import Array

MEAN = np.array([1.0, -2.0, 0.5])
COVARIANCE = np.array([[1.0, 0.6, 0.0], [0.6, 2.0, -0.3], [0.0, -0.3, 0.5]])
PRECISION = np.linalg.inv(COVARIANCE)


def gaussian(position: Array) -> tuple[float, Array]:
    slope = -PRECISION @ (position - MEAN)
    return 0.5 * float((position - MEAN) @ slope), slope


def positive(position: Array) -> tuple[float, Array]:
    """Independent exponential variables, impossible below zero."""
    if (position < 0).any():
        return -np.inf, np.zeros_like(position)
    return -float(position.sum()), -np.ones_like(position)


def chain(steps: int = 50, target: float | None = None, seed: int = 0) -> Stretch:
    return run_chain(
        gaussian,
        np.zeros(3),
        np.eye(3),
        0.4,
        steps=steps,
        max_tree_depth=6,
        target=target,
        rng=np.random.default_rng(seed),
    )


def test_samples_of_a_gaussian_have_its_moments() -> None:
    samples = chain(steps=6000).positions[100:]
    np.testing.assert_allclose(samples.mean(axis=0), MEAN, atol=0.1)
    np.testing.assert_allclose(np.cov(samples.T), COVARIANCE, atol=0.12)


def test_a_mass_matrix_changes_the_path_and_not_the_law() -> None:
    stretch = run_chain(
        gaussian,
        np.zeros(3),
        np.linalg.cholesky(COVARIANCE),
        0.8,
        steps=6000,
        max_tree_depth=6,
        target=None,
        rng=np.random.default_rng(1),
    )
    np.testing.assert_allclose(np.cov(stretch.positions.T), COVARIANCE, atol=0.12)


def test_a_border_of_the_support_is_never_crossed() -> None:
    stretch = run_chain(
        positive,
        np.ones(2),
        np.eye(2),
        0.3,
        steps=4000,
        max_tree_depth=6,
        target=None,
        rng=np.random.default_rng(2),
    )
    assert (stretch.positions >= 0).all()
    np.testing.assert_allclose(stretch.positions.mean(axis=0), [1.0, 1.0], atol=0.15)


def test_the_same_seed_gives_the_same_chain() -> None:
    assert np.array_equal(chain().positions, chain().positions)
    assert not np.array_equal(chain().positions, chain(seed=1).positions)


def test_a_frozen_step_size_stays() -> None:
    assert chain().step_size == 0.4


def test_an_adapted_step_size_meets_its_target() -> None:
    adapted = chain(steps=400, target=0.7).step_size
    stretch = run_chain(
        gaussian,
        MEAN,
        np.eye(3),
        adapted,
        steps=400,
        max_tree_depth=6,
        target=None,
        rng=np.random.default_rng(5),
    )
    assert 0.6 < stretch.acceptance < 0.85


def test_values_belong_to_the_positions() -> None:
    stretch = chain()
    expected = [gaussian(position)[0] for position in stretch.positions]
    np.testing.assert_allclose(stretch.values, expected, atol=1e-12)


def test_a_trajectory_is_doubled_no_more_often_than_allowed() -> None:
    stretch = run_chain(
        gaussian,
        MEAN,
        np.eye(3),
        1e-4,
        steps=10,
        max_tree_depth=3,
        target=None,
        rng=np.random.default_rng(0),
    )
    assert stretch.gradients == 1 + 10 * 7

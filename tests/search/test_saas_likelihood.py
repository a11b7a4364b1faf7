from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from botorch.models.fully_bayesian import SaasFullyBayesianSingleTaskGP
from numpyro.infer.util import log_density

from milp_search.search.orientation import Array
from milp_search.search.saas_likelihood import NOISE_FLOOR, SaasDensity, draws_at

# The observations are few and round, not exactly standardised.
pytestmark = pytest.mark.filterwarnings("ignore::botorch.exceptions.warnings.InputDataWarning")

INPUTS = np.array([[0.0, 0.1], [0.3, 0.9], [0.7, 0.2], [1.0, 0.6], [0.4, 0.4]])
TARGETS = np.array([-1.2, 0.4, 0.1, 1.5, -0.8])
NOISE = np.array([0.1, 0.2, 0.1, 0.3, 0.05])
POSITIONS = np.random.default_rng(0).normal(size=(4, 6))


def botorch_density(position: Array, noise: Array | None) -> float:
    """BoTorch's log density of the constrained values, and the logarithm's Jacobian."""
    model = SaasFullyBayesianSingleTaskGP(
        torch.from_numpy(INPUTS),
        torch.from_numpy(TARGETS)[:, None],
        None if noise is None else torch.from_numpy(noise)[:, None],
    )
    values = {
        "outputscale": jnp.exp(position[0]),
        "mean": jnp.asarray(position[1]),
        "kernel_tausq": jnp.exp(position[2]),
        "_kernel_inv_length_sq": jnp.exp(position[3:-1]),
    }
    jacobian = position[0] + position[2:-1].sum()
    if noise is None:
        values["noise"] = jnp.exp(position[-1])
        jacobian += position[-1]
    density, _ = log_density(model.pyro_model.sample, (), {}, values)
    unused = 0.0 if noise is None else -0.5 * position[-1] ** 2
    return float(density) + float(jacobian) + unused


@pytest.mark.parametrize("noise", [None, NOISE])
def test_the_density_is_botorchs_up_to_a_constant(noise: Array | None) -> None:
    density = SaasDensity(INPUTS, TARGETS, noise)
    ours = np.array([density(position)[0] for position in POSITIONS])
    stock = np.array([botorch_density(position, noise) for position in POSITIONS])
    # BoTorch computes in single precision.
    np.testing.assert_allclose(ours - ours[0], stock - stock[0], atol=1e-4)


@pytest.mark.parametrize("noise", [None, NOISE])
def test_the_gradient_is_the_central_difference(noise: Array | None) -> None:
    density = SaasDensity(INPUTS, TARGETS, noise)
    for position in POSITIONS:
        steps = 1e-6 * np.eye(6)
        slopes = [(density(position + s)[0] - density(position - s)[0]) / 2e-6 for s in steps]
        np.testing.assert_allclose(density(position)[1], slopes, atol=1e-7)


def test_rows_that_repeat_do_no_harm() -> None:
    twice = SaasDensity(np.tile(INPUTS, (2, 1)), np.tile(TARGETS, 2), None)
    for position in POSITIONS:
        value, gradient = twice(position)
        assert np.isfinite(value)
        assert np.isfinite(gradient).all()


@pytest.mark.parametrize("position", [np.full(6, 800.0), np.full(6, np.nan)])
def test_numbers_that_overflow_have_density_zero(position: Array) -> None:
    value, gradient = SaasDensity(INPUTS, TARGETS, None)(position)
    assert value == -np.inf
    assert gradient.tolist() == [0.0] * 6


def test_a_covariance_that_is_not_positive_definite_has_density_zero() -> None:
    assert SaasDensity(INPUTS, TARGETS, np.full(5, -50.0))(np.zeros(6))[0] == -np.inf


def test_a_position_reads_as_hyperparameters() -> None:
    position = np.log([[2.0, np.e, 0.5, 3.0, 4.0, 0.1]])
    draws = draws_at(SaasDensity(INPUTS, TARGETS, None), position)
    np.testing.assert_allclose(draws.outputscale, [2.0])
    np.testing.assert_allclose(draws.mean, [1.0])
    np.testing.assert_allclose(draws.inverse_lengthscales, [[1.5, 2.0]])
    assert draws.noise is not None
    np.testing.assert_allclose(draws.noise, [0.1 + NOISE_FLOOR])
    assert draws_at(SaasDensity(INPUTS, TARGETS, NOISE), position).noise is None

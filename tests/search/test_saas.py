from __future__ import annotations

import math

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from botorch.models.fully_bayesian import SaasFullyBayesianSingleTaskGP
from botorch.models.transforms.input import FilterFeatures
from numpyro.infer.util import log_density

from milp_search.search.saas import FitError, fit_saas, thinned
from milp_search.search.saas_density import PaddedSaas

from .small_space import TINY

# The observations are few and round, not exactly standardised.
pytestmark = pytest.mark.filterwarnings("ignore::botorch.exceptions.warnings.InputDataWarning")

INPUTS = torch.tensor(
    [[0.0, 0.1], [0.3, 0.9], [0.7, 0.2], [1.0, 0.6], [0.4, 0.4]], dtype=torch.float64
)
OUTCOMES = torch.tensor([[-1.2], [0.4], [0.1], [1.5], [-0.8]], dtype=torch.float64)
NOISE = torch.tensor([[0.1], [0.2], [0.1], [0.3], [0.05]], dtype=torch.float64)


@pytest.mark.parametrize("known", [True, False])
def test_the_padded_density_is_botorchs_up_to_a_constant(known: bool) -> None:
    stock = SaasFullyBayesianSingleTaskGP(INPUTS, OUTCOMES, NOISE if known else None)
    padding = 3
    rows = [np.pad(one.numpy(), ((0, padding), (0, 0))) for one in (INPUTS, OUTCOMES, NOISE)]
    inputs, outcomes, noise = (jnp.asarray(one, dtype=jnp.float32) for one in rows)
    real = jnp.asarray([1.0] * 5 + [0.0] * padding)
    data = (inputs, outcomes[:, 0], noise[:, 0] if known else None, real)
    for scale in (0.2, 1.0, 3.0):
        values = {
            "outputscale": jnp.asarray(scale),
            "mean": jnp.asarray(0.2),
            "kernel_tausq": jnp.asarray(0.3),
            "_kernel_inv_length_sq": jnp.asarray([2.0, 0.5]),
        }
        if not known:
            values["noise"] = jnp.asarray(0.07)
        expected, _ = log_density(stock.pyro_model.sample, (), {}, values)
        density, _ = log_density(PaddedSaas().sample, data, {}, values)
        constant = -0.5 * padding * math.log(2 * math.pi)
        assert float(density) - constant == pytest.approx(float(expected), abs=1e-3)


@pytest.mark.slow
def test_a_fit_is_a_botorch_model_over_the_picked_columns() -> None:
    inputs = torch.cat([INPUTS, torch.full((5, 1), 1e6, dtype=torch.float64)], dim=-1)
    model = fit_saas(inputs, OUTCOMES, NOISE, FilterFeatures(torch.arange(2)), TINY, seed=0)
    assert model.num_mcmc_samples == TINY.samples // TINY.thinning
    assert model.median_lengthscale.shape == (2,)
    with torch.no_grad():
        first = model.posterior(inputs).mean
        inputs[:, 2] = 0.0
        assert torch.equal(model.posterior(inputs).mean, first)
    again = fit_saas(inputs, OUTCOMES, NOISE, FilterFeatures(torch.arange(2)), TINY, seed=0)
    assert torch.equal(again.median_lengthscale, model.median_lengthscale)


def test_a_draw_that_is_not_finite_gives_way_to_the_last_that_is() -> None:
    draws = {
        "mean": torch.tensor([math.nan, 1.0, 2.0, 3.0, 4.0, 5.0]),
        "lengthscale": torch.tensor([[1.0]] * 4 + [[math.inf]] + [[1.0]]),
    }
    assert thinned(draws, 2)["mean"].tolist() == [1.0, 2.0, 3.0]


def test_no_finite_draw_is_an_error() -> None:
    with pytest.raises(FitError, match="finite"):
        thinned({"mean": torch.full((4,), math.nan)}, 2)

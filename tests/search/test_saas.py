from __future__ import annotations

import numpy as np
import pytest
import torch
from botorch.models.fully_bayesian import SaasFullyBayesianSingleTaskGP
from botorch.models.transforms.input import FilterFeatures

from milp_search.search.posterior import Draws, Surrogate
from milp_search.search.saas import fit_saas, with_draws

from .small_space import TINY

# The observations are few and round, not exactly standardised.
pytestmark = pytest.mark.filterwarnings("ignore::botorch.exceptions.warnings.InputDataWarning")

INPUTS = torch.tensor(
    [[0.0, 0.1], [0.3, 0.9], [0.7, 0.2], [1.0, 0.6], [0.4, 0.4]], dtype=torch.float64
)
OUTCOMES = torch.tensor([[-1.2], [0.4], [0.1], [1.5], [-0.8]], dtype=torch.float64)
NOISE = torch.tensor([[0.1], [0.2], [0.1], [0.3], [0.05]], dtype=torch.float64)
NEW = torch.tensor([[0.2, 0.3], [0.9, 0.9]], dtype=torch.float64)


@pytest.mark.parametrize("known", [True, False])
def test_botorch_predicts_from_our_draws_as_we_do(known: bool) -> None:
    draws = Draws(
        np.array([[1.0, 0.2], [3.0, 0.5], [0.1, 0.1]]),
        np.array([1.0, 0.5, 2.0]),
        np.array([0.0, 0.3, -0.2]),
        None if known else np.array([0.05, 0.1, 0.2]),
    )
    noise = NOISE if known else None
    model = with_draws(SaasFullyBayesianSingleTaskGP(INPUTS, OUTCOMES, noise), draws)
    with torch.no_grad():
        theirs = model.posterior(NEW)
    ours = Surrogate(
        INPUTS.numpy(), OUTCOMES[:, 0].numpy(), NOISE[:, 0].numpy() if known else None, draws
    ).predict(NEW.numpy())
    np.testing.assert_allclose(ours[0], theirs.mean[..., 0].numpy(), atol=1e-6)
    np.testing.assert_allclose(ours[1], theirs.variance[..., 0].numpy(), atol=1e-6)


def test_a_fit_is_a_botorch_model_over_the_picked_columns() -> None:
    inputs = torch.cat([INPUTS, torch.full((5, 1), 1e6, dtype=torch.float64)], dim=-1)
    model = fit_saas(inputs, OUTCOMES, NOISE, FilterFeatures(torch.arange(2)), TINY, seed=0)
    assert model.median_lengthscale.shape == (2,)
    with torch.no_grad():
        first = model.posterior(inputs).mean
        inputs[:, 2] = 0.0
        assert torch.equal(model.posterior(inputs).mean, first)
    again = fit_saas(inputs, OUTCOMES, NOISE, FilterFeatures(torch.arange(2)), TINY, seed=0)
    assert torch.equal(again.median_lengthscale, model.median_lengthscale)

"""BoTorch's SAAS model, fitted by our own chains."""

from __future__ import annotations

import importlib.util

import torch
from botorch.models.fully_bayesian import SaasFullyBayesianSingleTaskGP
from botorch.models.transforms.input import InputTransform
from torch import Tensor

from milp_search.search.posterior import Draws
from milp_search.search.presets import EngineSettings
from milp_search.search.saas_fit import fit


def nuts_available() -> bool:
    """Returns whether JAX and NumPyro, without which BoTorch makes no SAAS model, are installed."""
    return all(importlib.util.find_spec(name) is not None for name in ("jax", "numpyro"))


def fit_saas(
    inputs: Tensor,
    outcomes: Tensor,
    noise: Tensor | None,
    input_transform: InputTransform,
    settings: EngineSettings,
    seed: int,
) -> SaasFullyBayesianSingleTaskGP:
    """Returns BoTorch's SAAS model with hyperparameters drawn by a cold fit.

    The same model and priors as `fit_fully_bayesian_model_nuts` samples, several chains of it.

    Args:
        inputs: Shape `n x D`.
        outcomes: Shape `n x 1`, about standardised.
        noise: Variances, shape `n x 1`, or None to infer one.
        input_transform: Picks the columns that the model sees, which lie in about [0, 1].
        settings: Of them, the numbers of the fit.
        seed: Seed of the chains.

    Returns:
        The fitted model, in evaluation mode.
    """
    known = None if noise is None else noise[:, 0].double().numpy()
    draws, _, _ = fit(
        input_transform(inputs).double().numpy(),
        [outcomes[:, 0].double().numpy()],
        [known],
        settings.fit,
        seed,
    )
    model = SaasFullyBayesianSingleTaskGP(inputs, outcomes, noise, input_transform=input_transform)
    return with_draws(model, draws[0])


def with_draws(model: SaasFullyBayesianSingleTaskGP, draws: Draws) -> SaasFullyBayesianSingleTaskGP:
    """Returns the model, in evaluation mode, with the draws loaded into it."""
    named = {
        "lengthscale": 1.0 / draws.inverse_lengthscales**0.5,
        "outputscale": draws.outputscale,
        "mean": draws.mean,
    }
    if draws.noise is not None:
        named["noise"] = draws.noise
    samples = {name: torch.from_numpy(values) for name, values in named.items()}
    model.load_mcmc_samples(samples)
    return model.eval()

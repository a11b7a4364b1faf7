"""The SAAS Gaussian process, fitted by NUTS."""

from __future__ import annotations

import importlib.util
import os
from typing import Any

import numpy as np
import torch
from botorch.models.fully_bayesian import SaasFullyBayesianSingleTaskGP
from botorch.models.transforms.input import InputTransform
from torch import Tensor

from milp_search.core.errors import MilpSearchError
from milp_search.search.presets import EngineSettings


class FitError(MilpSearchError, RuntimeError):
    """A surrogate that could not be fitted."""


def nuts_available() -> bool:
    """Returns whether JAX and NumPyro, which NUTS needs, are installed."""
    return all(importlib.util.find_spec(name) is not None for name in ("jax", "numpyro"))


def fit_saas(
    inputs: Tensor,
    outcomes: Tensor,
    noise: Tensor | None,
    input_transform: InputTransform,
    settings: EngineSettings,
    seed: int,
) -> SaasFullyBayesianSingleTaskGP:
    """Returns BoTorch's SAAS model with hyperparameters drawn by NUTS.

    The same model and priors as `fit_fully_bayesian_model_nuts` samples, without compiling anew
    at every fit (see `saas_density`).

    Args:
        inputs: Shape `n x D`.
        outcomes: Shape `n x 1`, about standardised.
        noise: Variances, shape `n x 1`, or None to infer one.
        input_transform: Picks the columns that the model sees, which lie in about [0, 1].
        settings: The chain's length and thinning.
        seed: Seed of the chain.

    Returns:
        The fitted model, in evaluation mode.

    Raises:
        FitError: The chain found no finite hyperparameters.
    """
    # JAX must not take the accelerator's memory that trainings need.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    from milp_search.search.saas_density import draw_hyperparameters

    model = SaasFullyBayesianSingleTaskGP(inputs, outcomes, noise, input_transform=input_transform)
    draws = draw_hyperparameters(
        model.pyro_model.train_X.numpy(),
        outcomes[:, 0].numpy(),
        None if noise is None else noise[:, 0].numpy(),
        warmup_steps=settings.warmup_steps,
        samples=settings.samples,
        max_tree_depth=settings.max_tree_depth,
        seed=seed,
    )
    named = model.pyro_model.postprocess_mcmc_samples(mcmc_samples=draws)
    model.load_mcmc_samples(thinned(named, settings.thinning))
    return model.eval()


def thinned(draws: dict[str, Any], thinning: int) -> dict[str, Tensor]:
    """Returns every `thinning`-th draw; one that is not finite gives way to the last that is.

    Args:
        draws: Hyperparameters by name, each of shape `s x ...`.
        thinning: Every so many draws one is kept.

    Returns:
        The kept draws, equally many of each.

    Raises:
        FitError: No draw is finite.
    """
    total = len(draws["mean"])
    finite = torch.ones(total, dtype=torch.bool)
    for values in draws.values():
        finite &= torch.isfinite(values.reshape(total, -1)).all(dim=-1)
    if not finite.any():
        raise FitError("expected finite hyperparameters from NUTS, got none")
    usable = finite.nonzero()[:, 0].numpy()
    kept = np.arange(0, total, thinning)
    rows = usable[np.maximum(np.searchsorted(usable, kept, side="right") - 1, 0)]
    return {name: values[torch.from_numpy(rows)] for name, values in draws.items()}

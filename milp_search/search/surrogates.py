"""The surrogate models by name."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import torch
from botorch.fit import fit_gpytorch_mll
from botorch.models import EnsembleMapSaasSingleTaskGP, ModelListGP, SingleTaskGP
from botorch.models.model import Model
from botorch.models.transforms.input import FilterFeatures, InputTransform
from botorch.models.utils.gpytorch_modules import get_covar_module_with_dim_scaled_prior
from botorch.utils.sampling import manual_seed
from gpytorch.mlls import ExactMarginalLogLikelihood
from torch import Tensor

from milp_search.search.presets import EngineSettings
from milp_search.search.saas import fit_saas
from milp_search.search.saas_fit import FitError
from milp_search.search.saas_likelihood import NOISE_FLOOR

_logger = logging.getLogger(__name__)

Fit = Callable[[Tensor, Tensor, Tensor | None, InputTransform, EngineSettings, int], Model]


def fit_surrogate(
    inputs: Tensor,
    outcomes: Tensor,
    noise: Sequence[Tensor | None],
    seen: int,
    settings: EngineSettings,
    seed: int,
) -> Model:
    """Returns one model over all measured objectives, fitted one by one.

    Args:
        inputs: Shape `n x D`.
        outcomes: Shape `n x m`, each column about standardised, larger is better.
        noise: Each column's variances, shape `n`, or None to infer one.
        seen: The models see this many leading columns of the inputs; what follows rides along.
        settings: Which surrogate, and its numbers.
        seed: Seed of the fits.

    Returns:
        The fitted model, `m` outputs.
    """
    fit = SURROGATES[settings.surrogate]
    models = [
        fit(
            inputs,
            outcomes[:, [column]],
            None if known is None else known.clamp_min(NOISE_FLOOR).unsqueeze(-1),
            FilterFeatures(torch.arange(seen)),
            settings,
            seed + column,
        )
        for column, known in enumerate(noise)
    ]
    return models[0] if len(models) == 1 else ModelListGP(*models)


def _fit_nuts(
    inputs: Tensor,
    outcomes: Tensor,
    noise: Tensor | None,
    input_transform: InputTransform,
    settings: EngineSettings,
    seed: int,
) -> Model:
    try:
        return fit_saas(inputs, outcomes, noise, input_transform, settings, seed)
    except FitError as error:
        _logger.warning("%s; this proposal uses map_saas instead", error)
        return _fit_map_saas(inputs, outcomes, noise, input_transform, settings, seed)


def _fit_map_saas(
    inputs: Tensor,
    outcomes: Tensor,
    noise: Tensor | None,
    input_transform: InputTransform,
    settings: EngineSettings,
    seed: int,
) -> Model:
    """Returns an ensemble of point estimates under the SAAS prior; needs no JAX."""
    with manual_seed(seed):  # the ensemble's global shrinkages are drawn
        model = EnsembleMapSaasSingleTaskGP(
            inputs, outcomes, noise, outcome_transform=None, input_transform=input_transform
        )
        fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
    return model.eval()


def _fit_gp(
    inputs: Tensor,
    outcomes: Tensor,
    noise: Tensor | None,
    input_transform: InputTransform,
    settings: EngineSettings,
    seed: int,
) -> Model:
    """Returns a Gaussian process with the dimension-scaled log-normal lengthscale prior.

    Source: Hvarfner et al., "Vanilla Bayesian optimization performs great in high dimensions",
    2024, Eq. 9; it is what MiLP's "log-Normal distribution as the kernel" can mean. The kernel is
    Matern-5/2, as in the other surrogates.
    """
    seen = input_transform(inputs).shape[-1]
    with manual_seed(seed):
        model = SingleTaskGP(
            inputs,
            outcomes,
            noise,
            covar_module=get_covar_module_with_dim_scaled_prior(seen, use_rbf_kernel=False),
            outcome_transform=None,
            input_transform=input_transform,
        )
        fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
    return model.eval()


SURROGATES: dict[str, Fit] = {"saas": _fit_nuts, "map_saas": _fit_map_saas, "gp": _fit_gp}

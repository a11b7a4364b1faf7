"""Hyperparameters read from fitted BoTorch models, for the posterior of our own."""

from __future__ import annotations

import numpy as np
from botorch.models.model import Model
from gpytorch.kernels import MaternKernel, ScaleKernel
from gpytorch.likelihoods import FixedNoiseGaussianLikelihood
from torch import Tensor

from milp_search.core.errors import MilpSearchError
from milp_search.search.orientation import Array
from milp_search.search.posterior import Draws


class UnreadableModelError(MilpSearchError, TypeError):
    """A model whose prior is not the one that `Surrogate` computes with."""


def draws_of(model: Model) -> Draws:
    """Returns the hyperparameters of one metric's model, those of an ensemble as its draws.

    Args:
        model: A Gaussian process with constant mean and Matern-5/2 kernel, scaled or not.

    Returns:
        The draws, one for a model that is no ensemble; noise is None where variances are known.

    Raises:
        UnreadableModelError: The kernel is another.
    """
    kernel = model.covar_module
    base = kernel.base_kernel if isinstance(kernel, ScaleKernel) else kernel
    if not (isinstance(base, MaternKernel) and base.nu == 2.5 and base.has_lengthscale):
        raise UnreadableModelError(f"expected a Matern-5/2 kernel, got {type(base).__name__}")
    lengthscales = _array(base.lengthscale)
    weights = (1.0 / lengthscales**2).reshape(-1, lengthscales.shape[-1])
    scale = _array(kernel.outputscale) if isinstance(kernel, ScaleKernel) else np.ones(1)
    noise = None
    if not isinstance(model.likelihood, FixedNoiseGaussianLikelihood):
        noise = np.broadcast_to(_array(model.likelihood.noise).ravel(), len(weights)).copy()
    return Draws(
        weights,
        np.broadcast_to(scale.ravel(), len(weights)).copy(),
        np.broadcast_to(_array(model.mean_module.constant).ravel(), len(weights)).copy(),
        noise,
    )


def _array(tensor: Tensor) -> Array:
    return np.asarray(tensor.detach().double().numpy())

"""Noisy expected hypervolume improvement over measured and closed-form objectives."""

from __future__ import annotations

import warnings
from typing import final

import botorch.acquisition.multi_objective.logei as botorch_logei
import torch
from botorch.acquisition import (
    AcquisitionFunction,
    qLogNoisyExpectedImprovement,
    qNoisyExpectedImprovement,
)
from botorch.acquisition.multi_objective import (
    qLogNoisyExpectedHypervolumeImprovement,
    qNoisyExpectedHypervolumeImprovement,
)
from botorch.acquisition.multi_objective.objective import MCMultiOutputObjective
from botorch.acquisition.multi_objective.utils import prune_inferior_points_multi_objective
from botorch.exceptions.warnings import NumericsWarning
from botorch.models.model import Model
from botorch.posteriors.fully_bayesian import MCMC_DIM
from botorch.sampling import SobolQMCNormalSampler
from botorch.utils.sampling import manual_seed
from botorch.utils.transforms import is_ensemble
from torch import Tensor

# BoTorch would compile a C++ kernel into the user's home at first use: seconds, a compiler, a
# lock that a killed process leaves behind, and results that differ between machines.
botorch_logei._load_attempted = True

# ours: a point that is on the front in fewer than one draw in some hundreds is left out.
_PRUNING_DRAWS = 256

_HYPERVOLUME = {
    "qlognehvi": qLogNoisyExpectedHypervolumeImprovement,
    "qnehvi": qNoisyExpectedHypervolumeImprovement,
}
_ONE_OBJECTIVE = {
    "qlognehvi": qLogNoisyExpectedImprovement,
    "qnehvi": qNoisyExpectedImprovement,
}


@final
class WithExactColumns(MCMultiOutputObjective):  # type: ignore[misc]
    """Appends to the drawn objectives those that are known exactly, from the inputs' last columns.

    Drawing them from a model would add noise to what has none, and a list of models with a
    deterministic one among them is refused by BoTorch (FACTS.md).
    """

    def __init__(self, exact: int, *, ensemble: bool):
        super().__init__()
        self._exact, self._ensemble = exact, ensemble

    def forward(self, samples: Tensor, X: Tensor | None = None) -> Tensor:
        """Returns all objectives, shape `s x batch x [M x] q x (m + e)`.

        Args:
            samples: Drawn objectives, shape `s x batch x [M x] q x m`, with M models if any.
            X: Inputs, shape `batch x q x D`, the last `e` columns being exact objectives.

        Returns:
            Drawn objectives first, exact ones after them.
        """
        if self._exact == 0:
            return samples
        assert X is not None  # BoTorch's acquisition functions pass it for every draw
        columns = X[..., -self._exact :]
        if self._ensemble:
            columns = columns.unsqueeze(-3)
        return torch.cat([samples, columns.expand(*samples.shape[:-1], self._exact)], dim=-1)


def relevant_baseline(model: Model, baseline: Tensor, reference: Tensor, seed: int) -> Tensor:
    """Returns the observed points that are on the front in some joint draw, shape `n' x D`.

    The others hardly change the acquisition and make it dear: every candidate is drawn jointly
    with the whole baseline. With one objective, or where no point passes the reference, all stay.
    BoTorch averages each draw over the models of an ensemble before it looks for the front.

    Args:
        model: The measured objectives, all maximised.
        baseline: Inputs of the observed points, shape `n x D`.
        reference: The reference point, shape `m + e`, measured objectives first.
        seed: Seed of the draws.

    Returns:
        Rows of the baseline.
    """
    if len(reference) == 1:
        return baseline
    ensemble = is_ensemble(model)
    with manual_seed(seed):
        kept = prune_inferior_points_multi_objective(
            model=model,
            X=baseline,
            ref_point=reference,
            objective=WithExactColumns(len(reference) - model.num_outputs, ensemble=ensemble),
            num_samples=_PRUNING_DRAWS,
            marginalize_dim=MCMC_DIM if ensemble else None,
        )
    return kept if len(kept) > 0 else baseline


def acquisition(
    model: Model,
    baseline: Tensor,
    reference: Tensor,
    *,
    name: str = "qlognehvi",
    pending: Tensor | None = None,
    monte_carlo_samples: int = 16,
    seed: int = 0,
) -> AcquisitionFunction:
    """Returns what the next point is expected to add to the front, a function of `b x 1 x D`.

    Args:
        model: The measured objectives, all maximised.
        baseline: Inputs of the observed points, shape `n x D`; columns beyond those that the
            model sees are the exact objectives.
        reference: The reference point, shape `m + e`, measured objectives first.
        name: `qlognehvi` or `qnehvi`; the first returns logarithms. With one objective they are
            the noisy expected improvements.
        pending: Inputs of the points under evaluation, shape `p x D`.
        monte_carlo_samples: Joint draws per model of an ensemble.
        seed: Seed of the draws.

    Returns:
        The acquisition function.

    Source: Daulton, Balandat and Bakshy, "Parallel Bayesian optimization of multiple noisy
    objectives with expected hypervolume improvement", 2021; Ament et al., "Unexpected
    improvements to expected improvement", 2023.
    """
    sampler = SobolQMCNormalSampler(torch.Size([monte_carlo_samples]), seed=seed)
    with warnings.catch_warnings():
        # Whoever names the plain form asked for it.
        warnings.simplefilter("ignore", NumericsWarning)
        if len(reference) == 1:
            return _ONE_OBJECTIVE[name](
                model, baseline, sampler=sampler, X_pending=pending, prune_baseline=False
            )
        exact = len(reference) - model.num_outputs
        return _HYPERVOLUME[name](
            model,
            reference,
            baseline,
            sampler=sampler,
            objective=WithExactColumns(exact, ensemble=is_ensemble(model)),
            X_pending=pending,
            prune_baseline=False,
        )

"""What scores candidates: a fitted surrogate with an acquisition function, by name."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol, Self, final

import numpy as np
import torch
from botorch.acquisition import AcquisitionFunction
from botorch.models.model import Model
from torch import Tensor

from milp_search.search.domain import Candidate
from milp_search.search.exact_nehvi import ExactNehvi, Target, exact_nehvi
from milp_search.search.fit_state import FitState
from milp_search.search.model_draws import draws_of
from milp_search.search.nehvi import acquisition, relevant_baseline
from milp_search.search.orientation import Array
from milp_search.search.posterior import Draws, Surrogate
from milp_search.search.presets import EngineSettings
from milp_search.search.problem import Problem
from milp_search.search.saas_fit import FitError, fit
from milp_search.search.saas_likelihood import NOISE_FLOOR
from milp_search.search.surrogates import fit_surrogate

_logger = logging.getLogger(__name__)

# Candidates in one call of a BoTorch function; bounds its memory.
_BATCH = 256
# What a plain value that underflows counts as, in logarithms.
_LEAST = 1e-300
# ours: joint draws in all; with more, candidates keep their order (Spearman .99 or above).
_SAMPLES = 128


class Chooser(Protocol):
    """Scores candidates; immutable."""

    def log_values(self, candidates: Sequence[Candidate]) -> Array:
        """Returns the candidates' scores, larger is better, shape `N`."""

    def with_pending(self, candidate: Candidate) -> Self:
        """Returns the chooser that knows one more pending candidate."""


@final
@dataclass(frozen=True, eq=False)
class ExactChooser:
    """Our own acquisition.

    Attributes:
        problem: What the candidates are scored for.
        function: The acquisition function.
        rng_seed: Seed of the draws at pending points.
        waiting: The number of pending points.
    """

    problem: Problem
    function: ExactNehvi
    rng_seed: int
    waiting: int = 0

    def log_values(self, candidates: Sequence[Candidate]) -> Array:
        """Returns the candidates' scores."""
        problem = self.problem
        return self.function.log_values(problem.features(candidates), problem.exact(candidates))

    def with_pending(self, candidate: Candidate) -> Self:
        """Returns the chooser that knows one more pending candidate."""
        problem = self.problem
        function = self.function.with_pending(
            problem.features([candidate])[0],
            problem.exact([candidate])[0],
            allowed=bool(problem.excess([candidate])[0] == 0.0),
            rng=np.random.default_rng([self.rng_seed, self.waiting]),
        )
        return replace(self, function=function, waiting=self.waiting + 1)


@final
@dataclass(frozen=True, eq=False)
class BotorchChooser:
    """BoTorch's acquisition functions, over all objectives but no constraints.

    Attributes:
        problem: What the candidates are scored for.
        model: The measured objectives.
        baseline: Inputs of the observed points that matter, exact objectives appended.
        settings: The function's name and its number of draws.
        seed: Seed of the draws.
        pending: The pending candidates.
    """

    problem: Problem
    model: Model
    baseline: Tensor
    settings: EngineSettings
    seed: int
    pending: tuple[Candidate, ...] = ()

    @cached_property
    def function(self) -> AcquisitionFunction:
        """BoTorch's function of `b x 1 x D` inputs."""
        return acquisition(
            self.model,
            self.baseline,
            torch.from_numpy(self.problem.reference),
            name=self.settings.acquisition,
            pending=_columns(self.problem, self.pending) if self.pending else None,
            monte_carlo_samples=self.settings.monte_carlo_samples,
            seed=self.seed,
        )

    def log_values(self, candidates: Sequence[Candidate]) -> Array:
        """Returns the candidates' scores."""
        with torch.no_grad():
            batches = torch.split(_columns(self.problem, candidates).unsqueeze(-2), _BATCH)
            values: Array = np.asarray(
                torch.cat([self.function(batch) for batch in batches]).numpy()
            )
        if self.settings.acquisition == "qnehvi":
            values = np.asarray(np.log(np.maximum(values, _LEAST)))
        return values

    def with_pending(self, candidate: Candidate) -> Self:
        """Returns the chooser that knows one more pending candidate."""
        return replace(self, pending=(*self.pending, candidate))


def exact_chooser(
    problem: Problem,
    candidates: Sequence[Candidate],
    settings: EngineSettings,
    seed: int,
    state: FitState | None,
) -> tuple[ExactChooser, FitState | None]:
    """Returns our own acquisition over fitted surrogates, and the fit's new state.

    Args:
        problem: The problem that the observations pose.
        candidates: The observed candidates, in the order of the problem's outcomes.
        settings: Which surrogate, and its numbers.
        seed: Seed of the fit and of the draws.
        state: Where the last fit ended.

    Returns:
        The chooser; the state is None where the surrogate keeps none.
    """
    inputs = problem.features(candidates)
    draws, after = _fitted(problem, inputs, settings, seed, state)
    surrogates = [
        Surrogate(inputs, target, _floored(noise), one)
        for target, noise, one in zip(problem.outcomes.T, problem.noise, draws, strict=True)
    ]
    distinct = [*{candidate.plan: candidate for candidate in candidates}.values()]
    function = exact_nehvi(
        surrogates,
        Target(problem.reference, problem.bounds),
        problem.features(distinct),
        problem.exact(distinct),
        problem.excess(distinct) == 0.0,
        joint=max(1, _SAMPLES // len(draws[0])),
        seed=seed,
    )
    return ExactChooser(problem, function, seed), after


def botorch_chooser(
    problem: Problem, candidates: Sequence[Candidate], settings: EngineSettings, seed: int
) -> BotorchChooser:
    """Returns BoTorch's acquisition over models fitted one by one.

    Args:
        problem: The problem that the observations pose.
        candidates: The observed candidates, in the order of the problem's outcomes.
        settings: Which surrogate and acquisition, and their numbers.
        seed: Seed of the fits and of the draws.

    Returns:
        The chooser.
    """
    inputs = _columns(problem, candidates)
    model = _model(problem, inputs, inputs.shape[1] - len(problem.exact_scales), settings, seed)
    distinct = [*{candidate.plan: candidate for candidate in candidates}.values()]
    baseline = _columns(problem, distinct)
    reference = torch.from_numpy(problem.reference)
    relevant = relevant_baseline(model, baseline, reference, seed)
    return BotorchChooser(problem, model, relevant, settings, seed)


def _fitted(
    problem: Problem, inputs: Array, settings: EngineSettings, seed: int, state: FitState | None
) -> tuple[list[Draws], FitState | None]:
    if settings.surrogate == "saas":
        try:
            draws, after, _ = fit(
                inputs, [*problem.outcomes.T], problem.noise, settings.fit, seed, state
            )
            return draws, after
        except FitError as error:
            _logger.warning("%s; this proposal uses map_saas instead", error)
            settings = replace(settings, surrogate="map_saas")
    model = _model(problem, torch.from_numpy(inputs), inputs.shape[1], settings, seed)
    models = model.models if problem.outcomes.shape[1] > 1 else [model]
    return [draws_of(one) for one in models], None


def _model(
    problem: Problem, inputs: Tensor, seen: int, settings: EngineSettings, seed: int
) -> Model:
    return fit_surrogate(
        inputs,
        torch.from_numpy(problem.outcomes),
        [None if noise is None else torch.from_numpy(noise) for noise in problem.noise],
        seen,
        settings,
        seed,
    )


def _columns(problem: Problem, candidates: Sequence[Candidate]) -> Tensor:
    """Returns features followed by the exact objectives, shape `n x (d + e)`."""
    return torch.from_numpy(np.hstack([problem.features(candidates), problem.exact(candidates)]))


def _floored(noise: Array | None) -> Array | None:
    return None if noise is None else np.maximum(noise, NOISE_FLOOR)

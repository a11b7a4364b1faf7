"""The engine: from finished trials to the next candidates, a pure function."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from botorch.acquisition import AcquisitionFunction
from botorch.exceptions.warnings import BotorchWarning, OptimizationWarning
from botorch.models.model import Model
from linear_operator.utils.warnings import NumericalWarning
from torch import Tensor

from milp_search.core.trial import Objective, Trial, TrialStatus
from milp_search.search.domain import Candidate, Domain, Point
from milp_search.search.initial_design import sobol_points
from milp_search.search.local_search import Score, ScoreBoard, climb
from milp_search.search.nehvi import acquisition, relevant_baseline
from milp_search.search.observations import Observations, observe
from milp_search.search.orientation import Array, signs
from milp_search.search.outcomes import OUTCOME_TRANSFORMS, OutcomeScale
from milp_search.search.pareto import non_dominated
from milp_search.search.presets import EngineSettings
from milp_search.search.reference import with_reference
from milp_search.search.surrogates import fit_surrogate
from milp_search.search.threads import single_thread

# Candidates in one acquisition call; bounds its memory.
_BATCH = 256
# ours: Sobol points, and neighbours of the front, from which local searches may start.
_STARTS = 64
# ours: spaces up to this size are searched in full.
_SMALL = 512


@dataclass(frozen=True)
class Problem:
    """Observations as the surrogate and the acquisition want them: maximised, on unit scale.

    Objectives that are measured come first, closed-form ones after them.

    Attributes:
        domain: The space.
        scales: Each objective's map to unit scale.
        signs: +1 or -1 for each objective.
        measured: The number of measured objectives.
        outcomes: The measured objectives, shape `n x measured`.
        noise: The noise variances of each, shape `n`, or None.
        reference: The reference point, shape `m`.
    """

    domain: Domain
    scales: tuple[OutcomeScale, ...]
    signs: Array
    measured: int
    outcomes: Tensor
    noise: tuple[Tensor | None, ...]
    reference: Tensor

    def inputs(self, candidates: Sequence[Candidate]) -> Tensor:
        """Returns features followed by the exact objectives, shape `n x (d + e)`."""
        exact = [
            scale(sign * np.array([candidate.exact[column] for candidate in candidates]))
            for column, (scale, sign) in enumerate(
                zip(self.scales[self.measured :], self.signs[self.measured :], strict=True)
            )
        ]
        return torch.from_numpy(np.column_stack([self.domain.inputs(candidates), *exact]))


def next_candidates(
    domain: Domain,
    trials: Sequence[Trial],
    objectives: Sequence[Objective],
    settings: EngineSettings,
    *,
    seed: int,
    count: int,
) -> list[Candidate]:
    """Returns up to `count` candidates chosen one after another, each knowing those before it.

    Plans of any observed trial are never proposed; trials that are still running count as
    pending points. Fewer candidates come back where the space has no more to offer.

    Args:
        domain: The space; its closed forms are exactly those among the objectives.
        trials: All trials, at least two of them completed.
        objectives: At least one of them measured; missing references are inferred.
        settings: The engine's numbers.
        seed: Seed of everything that is drawn.
        count: How many.

    Returns:
        The candidates, in the order they were chosen.
    """
    with single_thread(), _quiet_numerics():
        seen = {domain.describe(trial.arm).fingerprint for trial in trials}
        observed = observe(trials, domain, objectives)
        problem = pose(domain, observed, objectives, settings)
        baseline = problem.inputs(_distinct(observed.candidates))
        inputs = problem.inputs(observed.candidates)
        model = _fit(problem, inputs, settings, seed)
        baseline = relevant_baseline(model, baseline, problem.reference, seed)
        pending = _pending(domain, trials)
        chosen: list[Candidate] = []
        for step in range(count):
            waiting = [*pending, *chosen]
            function = acquisition(
                model,
                baseline,
                problem.reference,
                name=settings.acquisition,
                pending=problem.inputs(waiting) if waiting else None,
                monte_carlo_samples=settings.monte_carlo_samples,
                seed=seed,
            )
            excluded = seen | {candidate.fingerprint for candidate in chosen}
            board = ScoreBoard(domain, _score(function, problem), excluded)
            starts = _starts(domain, observed, objectives, seed + step)
            best = _search(domain, board, starts, settings)
            if best is None:
                break
            chosen.append(best)
        return chosen


def pose(
    domain: Domain,
    observed: Observations,
    objectives: Sequence[Objective],
    settings: EngineSettings,
) -> Problem:
    """Returns the problem that observations and objectives pose.

    A missing reference is inferred from the first completed trials, as many as the initial design
    has, so that it stays once they are there.
    """
    initial = observed.values[: max(2, settings.initial_trials)]
    complete = with_reference(initial, objectives)
    names = [one.metric for one in objectives]
    exact = [names.index(metric) for metric in domain.exact]
    order = [column for column in range(len(names)) if column not in exact] + exact
    measured = len(order) - len(exact)
    flips = signs(objectives)
    scales = [
        OUTCOME_TRANSFORMS[settings.outcome_transform](flips[column] * observed.values[:, column])
        for column in order
    ]
    outcomes = [
        scale(flips[column] * observed.values[:, column])
        for scale, column in zip(scales[:measured], order, strict=False)
    ]
    reference = [
        scale(np.array(flips[column] * complete[column].reference))
        for scale, column in zip(scales, order, strict=True)
    ]
    return Problem(
        domain,
        tuple(scales),
        flips[order],
        measured,
        torch.from_numpy(np.column_stack(outcomes)),
        tuple(
            _scaled_noise(scale, observed.noise[column])
            for scale, column in zip(scales[:measured], order, strict=False)
        ),
        torch.from_numpy(np.array(reference)),
    )


def _scaled_noise(scale: OutcomeScale, noise: Array | None) -> Tensor | None:
    if noise is None or scale.noise_factor is None:
        return None
    return torch.from_numpy(noise * scale.noise_factor)


def _fit(problem: Problem, inputs: Tensor, settings: EngineSettings, seed: int) -> Model:
    exact = len(problem.reference) - problem.measured
    seen = inputs.shape[-1] - exact
    return fit_surrogate(inputs, problem.outcomes, problem.noise, seen, settings, seed)


def _score(function: AcquisitionFunction, problem: Problem) -> Score:
    def score(candidates: Sequence[Candidate]) -> Array:
        with torch.no_grad():
            batches = torch.split(problem.inputs(candidates).unsqueeze(-2), _BATCH)
            values = torch.cat([function(batch) for batch in batches]).numpy()
        # A draw that fails numerically is no reason to choose its point.
        return np.where(np.isnan(values), -np.inf, values)

    return score


def _search(
    domain: Domain,
    board: ScoreBoard,
    starts: Sequence[list[Point]],
    settings: EngineSettings,
) -> Candidate | None:
    if domain.size <= _SMALL:
        board.scores([*domain.points()])
        return board.best()
    return climb(
        domain, board, starts, restarts=settings.restarts, evaluations=settings.evaluations
    )


def _starts(
    domain: Domain, observed: Observations, objectives: Sequence[Objective], seed: int
) -> tuple[list[Point], list[Point]]:
    """Returns the neighbours of the front's arms, and Sobol points."""
    mask = non_dominated(observed.values, objectives)
    arms = [one.arm for one, kept in zip(observed.candidates, mask, strict=True) if kept]
    incumbents = [point for point in map(domain.point, arms) if point is not None]
    around = [neighbour for point in incumbents for neighbour in domain.neighbours(point)]
    order = np.random.default_rng(seed).permutation(len(around))[:_STARTS]
    return [around[place] for place in order], [*islice(sobol_points(domain.sizes, seed), _STARTS)]


def _pending(domain: Domain, trials: Sequence[Trial]) -> list[Candidate]:
    running = sorted(
        (one for one in trials if one.status in (TrialStatus.ASKED, TrialStatus.RUNNING)),
        key=lambda trial: trial.index,
    )
    return _distinct([domain.describe(trial.arm) for trial in running])


def _distinct(candidates: Sequence[Candidate]) -> list[Candidate]:
    return [*{candidate.fingerprint: candidate for candidate in candidates}.values()]


@contextmanager
def _quiet_numerics() -> Iterator[None]:
    """Silences reports of jitter added and of optimisers retried, which have no remedy."""
    with warnings.catch_warnings():
        for category in (NumericalWarning, BotorchWarning, OptimizationWarning):
            warnings.simplefilter("ignore", category)
        yield

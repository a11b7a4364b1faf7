"""The engine: from finished trials to the next candidates, a pure function."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice

import numpy as np
from botorch.exceptions.warnings import BotorchWarning, OptimizationWarning
from linear_operator.utils.warnings import NumericalWarning

from milp_search.core.errors import SpecError
from milp_search.core.plan import TrialPlan
from milp_search.core.trial import Objective, Trial, TrialStatus
from milp_search.search.chooser import Chooser, botorch_chooser, exact_chooser
from milp_search.search.constraints import OutcomeConstraint
from milp_search.search.domain import Candidate, Domain, Point
from milp_search.search.feasibility import is_infeasible, learn_feasibility
from milp_search.search.fit_state import FitState
from milp_search.search.initial_design import sobol_points
from milp_search.search.local_search import Score, ScoreBoard, climb
from milp_search.search.observations import Observations, observe
from milp_search.search.orientation import Array
from milp_search.search.pareto import non_dominated
from milp_search.search.presets import EngineSettings
from milp_search.search.problem import Problem, pose, watched
from milp_search.search.threads import single_thread

# ours: points of each kind from which local searches may start.
_STARTS = 96
# ours: spaces up to this size are searched in full.
_SMALL = 512
# ours: what a candidate scores that breaks a bound on a closed form, times one plus its excess.
# What gains nothing scores low in proportion to a distance in standard deviations, which are small
# where an objective hardly varies; this lies below all that.
_FORBIDDEN = -1e200


@dataclass(frozen=True, eq=False)
class Suggestion:
    """What the engine suggests.

    Attributes:
        candidates: In the order they were chosen.
        state: What the next fit may start from; None where the surrogate keeps none.
    """

    candidates: list[Candidate]
    state: FitState | None


def suggest(
    domain: Domain,
    trials: Sequence[Trial],
    objectives: Sequence[Objective],
    settings: EngineSettings,
    *,
    seed: int,
    count: int,
    constraints: Sequence[OutcomeConstraint] = (),
    state: FitState | None = None,
) -> Suggestion:
    """Returns up to `count` candidates chosen one after another, each knowing those before it.

    Plans of any observed trial are never proposed; trials that are still running count as
    pending points. Fewer candidates come back where the space has no more to offer. A plan that
    breaks a bound on a closed form is chosen only where the search met no other.

    Args:
        domain: The space; every objective or constraint that it has a closed form of is exact.
        trials: All trials, at least two of them completed with all metrics.
        objectives: At least one of them measured; missing references are inferred.
        settings: The engine's numbers.
        seed: Seed of everything that is drawn.
        count: How many.
        constraints: Bounds to keep; only the acquisition `nehvi` knows them.
        state: Where the last fit ended, if the surrogate is to go on from there.

    Returns:
        The candidates and the fit's new state.

    Raises:
        SpecError: Constraints were given to another acquisition.
    """
    if constraints and settings.acquisition != "nehvi":
        raise SpecError(
            f"expected no constraints with acquisition {settings.acquisition!r}",
            remedy="use the acquisition 'nehvi'",
        )
    with single_thread(), _quiet_numerics():
        seen = {domain.describe(trial.arm).plan for trial in trials}
        observed = observe(trials, domain, watched(objectives, constraints, domain))
        problem = pose(domain, observed, objectives, settings, constraints)
        chooser, after = _chooser(problem, observed, settings, seed, state)
        feasibility = _feasibility(problem, observed, trials)
        for candidate in _pending(domain, trials):
            chooser = chooser.with_pending(candidate)
        chosen: list[Candidate] = []
        for step in range(count):
            board = ScoreBoard(domain, _score(chooser, problem, feasibility), seen)
            starts = _starts(domain, observed, objectives, seed + step)
            best = _search(domain, board, starts, settings)
            if best is None:
                break
            chosen.append(best)
            seen.add(best.plan)
            if len(chosen) < count:
                chooser = chooser.with_pending(best)
        return Suggestion(chosen, after)


def _chooser(
    problem: Problem,
    observed: Observations,
    settings: EngineSettings,
    seed: int,
    state: FitState | None,
) -> tuple[Chooser, FitState | None]:
    if settings.acquisition == "nehvi":
        return exact_chooser(problem, observed.candidates, settings, seed, state)
    return botorch_chooser(problem, observed.candidates, settings, seed), None


def _feasibility(problem: Problem, observed: Observations, trials: Sequence[Trial]) -> Score:
    """Returns the logarithm of the learned probability of success, 0 while nothing failed.

    Closed forms are inputs too, since it is often memory that runs out.
    """
    domain = problem.domain
    blamed = sorted((one for one in trials if is_infeasible(one)), key=lambda trial: trial.index)
    failed = [domain.describe(trial.arm) for trial in blamed]
    if not blamed:
        return lambda candidates: np.zeros(len(candidates))
    exact = np.array([candidate.exact for candidate in (*observed.candidates, *failed)])
    low, span = exact.min(axis=0), np.ptp(exact, axis=0)

    def inputs(candidates: Sequence[Candidate]) -> Array:
        values = np.array([candidate.exact for candidate in candidates])
        scaled = (values - low) / np.where(span > 0, span, 1.0)
        return np.hstack([problem.features(candidates), scaled])

    learned = learn_feasibility(inputs(observed.candidates), inputs(failed))
    return lambda candidates: learned.log_probability(inputs(candidates))


def _score(chooser: Chooser, problem: Problem, feasibility: Score) -> Score:
    def score(candidates: Sequence[Candidate]) -> Array:
        excess = problem.excess(candidates)
        values = _FORBIDDEN * (1.0 + excess)
        allowed = np.flatnonzero(excess == 0.0)
        if len(allowed) > 0:
            kept = [candidates[place] for place in allowed.tolist()]
            values[allowed] = chooser.log_values(kept) + feasibility(kept)
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
) -> tuple[list[Point], ...]:
    """Returns neighbours of the front's arms, crossings of two of them, and Sobol points."""
    mask = non_dominated(observed.values[:, : len(objectives)], objectives)
    arms = [one.arm for one, kept in zip(observed.candidates, mask, strict=True) if kept]
    incumbents = [point for point in map(domain.point, arms) if point is not None]
    rng = np.random.default_rng(seed)
    around = [neighbour for point in incumbents for neighbour in domain.steps(point)]
    order = rng.permutation(len(around))[:_STARTS]
    return (
        [around[place] for place in order],
        _crossed(incumbents, rng),
        [*islice(sobol_points(domain.sizes, seed), _STARTS)],
    )


def _crossed(points: Sequence[Point], rng: np.random.Generator) -> list[Point]:
    """Returns points that take each coordinate from either of two given ones."""
    if len(points) < 2:
        return []
    array = np.array(points)
    pairs = rng.random((_STARTS, len(points))).argsort(axis=1)[:, :2]
    sides = rng.random((_STARTS, array.shape[1])) < 0.5
    crossed = np.where(sides, array[pairs[:, 0]], array[pairs[:, 1]])
    return [tuple(row) for row in crossed.tolist()]


def _pending(domain: Domain, trials: Sequence[Trial]) -> list[Candidate]:
    running = sorted(
        (one for one in trials if one.status in (TrialStatus.ASKED, TrialStatus.RUNNING)),
        key=lambda trial: trial.index,
    )
    plans: dict[TrialPlan, Candidate] = {}
    for trial in running:
        candidate = domain.describe(trial.arm)
        plans.setdefault(candidate.plan, candidate)
    return [*plans.values()]


@contextmanager
def _quiet_numerics() -> Iterator[None]:
    """Silences reports of jitter added and of optimisers retried, which have no remedy."""
    with warnings.catch_warnings():
        for category in (NumericalWarning, BotorchWarning, OptimizationWarning):
            warnings.simplefilter("ignore", category)
        yield

"""Whole proposals of the engine: CPU seconds, and those of them that the fit took."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any
from unittest.mock import patch

import numpy as np
from surrogate_fits import Row, due

from milp_search.core.plan import TrialPlan
from milp_search.core.trial import Measurement, Objective, Trial, TrialStatus
from milp_search.search import chooser
from milp_search.search.domain import Domain
from milp_search.search.engine import suggest
from milp_search.search.fit_state import FitState
from milp_search.search.initial_design import UnseenPlans, sobol_points
from milp_search.search.presets import EngineSettings
from milp_search.search.saas_fit import fit
from milp_search.space.search_space import SearchSpace
from milp_search.space.space_file import load_search_space

OBJECTIVES = {
    "loss": Objective("loss", "minimize"),
    "rouge_l": Objective("rouge_l", "maximize"),
    "seconds": Objective("seconds", "minimize"),
    "trainable_params": Objective("trainable_params", "minimize"),
}
CLOSED_FORM = "trainable_params"
# Standard errors of what is measured.
NOISE = {"loss": 0.03, "rouge_l": 0.01, "seconds": 0.3}
# Trials that come between two proposals.
NEW = 4


@dataclass(frozen=True)
class Case:
    """Proposals after so many trials of a space.

    Attributes:
        layers: Of the base model; the space has five parameters more.
        trials: Completed, a Sobol design.
        metrics: The objectives.
        targets: What was aimed at in CPU seconds, by the number of proposals made at once.
    """

    layers: int
    trials: int
    metrics: tuple[str, ...]
    targets: dict[int, float]


CASES = (
    Case(32, 100, ("loss", CLOSED_FORM), {1: 3.0, 4: 6.0}),
    Case(32, 100, ("loss", "rouge_l"), {1: 3.0, 4: 6.0}),
    Case(32, 100, ("loss", "rouge_l", CLOSED_FORM), {1: 12.0}),
    Case(32, 100, ("loss", "rouge_l", "seconds"), {1: 12.0}),
    Case(55, 300, ("loss", CLOSED_FORM), {1: 20.0}),
)


def proposals(case: Case, seed: int, settings: EngineSettings) -> Iterator[Row]:
    """Yields a first proposal and those that follow it, the oldest trials replaced by new ones."""
    objectives = [OBJECTIVES[metric] for metric in case.metrics]
    space = _space(case.layers)
    exact = {CLOSED_FORM: lambda arm: 1000.0 * space.plan(arm).adapter.total_rank}
    domain = Domain(space.parameters, space.plan, exact if CLOSED_FORM in case.metrics else {})
    trials = _trials(domain, case.trials + NEW, seed)
    domain.inputs([domain.describe(trials[0].arm)])  # the inputs' ranges are made once a study

    def timed(name: str, some: list[Trial], count: int, state: FitState | None) -> Row:
        spent: list[float] = []
        with patch.object(chooser, "fit", _timed(fit, spent)):
            start = time.process_time()
            found = suggest(domain, some, objectives, settings, seed=seed, count=count, state=state)
            total = time.process_time() - start
        assert len(found.candidates) == count
        states[name] = found.state
        return {
            "trials": case.trials,
            "dimension": len(space.parameters),
            "metrics": case.metrics,
            "batch": count,
            "fit": name,
            "seed": seed,
            "cpu_s": total,
            "fit_cpu_s": sum(spent),
            "target_s": case.targets[count],
        }

    states: dict[str, FitState | None] = {}
    yield timed("cold", trials[:-NEW], 1, None)
    state = states["cold"]
    assert state is not None
    for count in case.targets:
        yield timed("warm", trials[NEW:], count, due(state, 0))
        yield timed("warm, two chains anew", trials[NEW:], count, due(state, 2))


def _timed(real: Any, spent: list[float]) -> Any:
    def call(*arguments: Any) -> Any:
        start = time.process_time()
        result = real(*arguments)
        spent.append(time.process_time() - start)
        return result

    return call


@cache
def _space(layers: int) -> SearchSpace:
    return load_search_space("milp_logo", layers=layers)


def _trials(domain: Domain, count: int, seed: int) -> list[Trial]:
    rng = np.random.default_rng(seed)
    return [
        Trial(
            index,
            one.arm,
            status=TrialStatus.COMPLETED,
            measurements={
                metric: Measurement(value + NOISE[metric] * rng.standard_normal(), NOISE[metric])
                for metric, value in _truth(one.plan).items()
            },
        )
        for index, one in enumerate(UnseenPlans(domain, sobol_points, seed).first(count, set()))
    ]


def _truth(plan: TrialPlan) -> dict[str, float]:
    """Returns the measured metrics without noise: smooth, and at odds with each other."""
    ranks = np.log1p(np.array(plan.adapter.ranks))
    total = float(np.log1p(plan.adapter.total_rank))
    useful = float(ranks[-8:].sum() / 10 + 0.03 * ranks @ np.linspace(-0.2, 1.0, len(ranks)))
    loss = 3.0 - 0.5 * np.tanh(useful) + 0.02 * (total - 4) ** 2
    loss += 0.05 * (plan.time_splits - 2) ** 2 - 0.1 * plan.retrieved_items
    rouge = 0.2 + 0.1 * np.tanh(float(ranks[-4:].sum()) / 6) + 0.03 * plan.retrieved_items
    seconds = 5 + 0.4 * len(plan.adapter.active_layers) + 2.0 * plan.retrieved_items
    return {
        "loss": float(loss),
        "rouge_l": float(rouge - 0.02 * abs(plan.communities - 4)),
        "seconds": seconds + plan.time_splits,
    }

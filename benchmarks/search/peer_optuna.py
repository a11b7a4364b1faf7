"""Optuna's samplers through its ask-and-tell interface.

Booleans are categorical, ordered numbers integers: the index of the value.

A failed trial. Told as FAIL, a sampler neither counts nor learns from it, and may propose the
same arm again and again: on a synthetic task with an infeasible region, TPE lost 71 of 100 trials
to it. Hence, where trials may fail, Optuna's own interface for constraints: every trial carries
one, violated where the trial failed. A trial with a constraint must be complete and so have
values; it gets the worst that were seen of each objective, which TPE and NSGA-II never look at;
GPSampler fits them.
"""

from __future__ import annotations

from typing import final

import optuna
from method import Method, Outcome, Task
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, TPESampler
from peer_levels import Levels, is_boolean

from milp_search.core.arm import Arm
from milp_search.space.parameter import Parameter

# ours: 100 trials are two generations of Optuna's 50. On 40 synthetic tasks of 37 parameters the
# mean hypervolume after 100 trials was .985 with 10, .970 with 14, .918 with 20, .839 with 50.
POPULATION = 10

# ours: zero would put the known feasible trials on the edge of feasibility, and GPSampler's
# model of the constraint then gives them a probability of one half.
_KEPT, _VIOLATED = -1.0, 1.0


def tpe(task: Task, seed: int) -> Method:
    """Returns the tree-structured Parzen estimator as it is by default, one per parameter."""
    return _Optuna(task, TPESampler(n_startup_trials=task.initial, seed=seed))


def tpe_multivariate(task: Task, seed: int) -> Method:
    """Returns the tree-structured Parzen estimator over all parameters jointly."""
    return _Optuna(task, TPESampler(n_startup_trials=task.initial, seed=seed, multivariate=True))


def gp(task: Task, seed: int) -> Method:
    """Returns Optuna's Gaussian process with expected hypervolume improvement."""
    return _Optuna(task, GPSampler(n_startup_trials=task.initial, seed=seed))


def nsga2(task: Task, seed: int) -> Method:
    """Returns NSGA-II; its first generation is its initial design."""
    return _Optuna(task, NSGAIISampler(population_size=POPULATION, seed=seed))


@final
class _Optuna:
    def __init__(self, task: Task, sampler: BaseSampler):
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._objectives, self._levels = task.objectives, Levels(task.parameters)
        self._distributions = {one.name: _distribution(one) for one in self._levels.free}
        self._study = optuna.create_study(
            sampler=sampler, directions=[one.direction for one in task.objectives]
        )
        self._constrained = task.may_fail
        self._asked: list[tuple[Arm, optuna.Trial]] = []
        self._seen: list[list[float]] = []
        self._failed: list[optuna.Trial] = []

    def ask(self, count: int) -> list[Arm]:
        for _ in range(count):
            trial = self._study.ask(self._distributions)
            levels = [int(trial.params[name]) for name in self._distributions]
            self._asked.append((self._levels.arm(levels), trial))
        return [arm for arm, _ in self._asked]

    def tell(self, arm: Arm, outcome: Outcome) -> None:
        _, trial = self._asked.pop([asked for asked, _ in self._asked].index(arm))
        if outcome is None:
            self._failed.append(trial)
        else:
            self._seen.append([outcome[one.metric].mean for one in self._objectives])
            self._finish(trial, _KEPT, self._seen[-1])
        if self._seen:  # until then there is nothing to tell of a failed trial
            for failed in self._failed:
                self._finish(failed, _VIOLATED, self._worst())
            self._failed.clear()

    def _finish(self, trial: optuna.Trial, constraint: float, values: list[float]) -> None:
        if self._constrained:
            trial.set_constraint("finished", constraint)
        self._study.tell(trial, values)

    def _worst(self) -> list[float]:
        return [
            max(column) if one.direction == "minimize" else min(column)
            for one, column in zip(self._objectives, zip(*self._seen, strict=True), strict=True)
        ]


def _distribution(parameter: Parameter) -> BaseDistribution:
    places = range(len(parameter.values))
    if is_boolean(parameter):
        return CategoricalDistribution(tuple(places))
    return IntDistribution(places[0], places[-1])

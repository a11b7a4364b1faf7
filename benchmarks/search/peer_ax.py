"""Ax as its `Client` sets it up by default.

Numbers are ordered choices, booleans choices of two; references become objective thresholds, as
Ax's documentation has it.

A failed trial is told as abandoned. Told as failed, Ax forgets its arm and, with nothing else new,
proposes it again: on a synthetic task with an infeasible region, one arm 26 times in a row. Ax
models neither kind, but an abandoned arm is never proposed again and counts as pending.
"""

from __future__ import annotations

import logging
from typing import final

from ax.api.client import Client
from ax.api.configs import ChoiceParameterConfig
from ax.utils.common.logger import set_ax_logger_levels
from method import Method, Outcome, Task
from peer_levels import Levels, is_boolean

from milp_search.core.arm import Arm
from milp_search.core.trial import Objective
from milp_search.space.parameter import Parameter


def ax_default(task: Task, seed: int) -> Method:
    """Returns Ax's own choice of generation strategy."""
    return _Ax(task, seed)


@final
class _Ax:
    def __init__(self, task: Task, seed: int):
        set_ax_logger_levels(logging.ERROR)
        self._fixed = {one.name: one.values[0] for one in task.parameters}
        # Ax reads objectives as arithmetic, in which a metric's name could mean something.
        self._names = {
            one.metric: f"objective_{place}" for place, one in enumerate(task.objectives)
        }
        self._client = Client(random_seed=seed)
        self._client.configure_experiment([_choice(one) for one in Levels(task.parameters).free])
        self._client.configure_optimization(
            ", ".join(self._signed(one) for one in task.objectives),
            [self._threshold(one) for one in task.objectives if one.reference is not None],
        )
        self._client.configure_generation_strategy(
            initialization_budget=task.initial, initialization_random_seed=seed
        )
        self._asked: list[tuple[Arm, int]] = []

    def ask(self, count: int) -> list[Arm]:
        for index, values in self._client.get_next_trials(count).items():
            self._asked.append((Arm(self._fixed | values), index))
        return [arm for arm, _ in self._asked]

    def tell(self, arm: Arm, outcome: Outcome) -> None:
        _, index = self._asked.pop([asked for asked, _ in self._asked].index(arm))
        if outcome is None:
            self._client.mark_trial_abandoned(index)
            return
        values = {self._names[name]: outcome[name] for name in self._names}
        self._client.complete_trial(index, {n: (one.mean, one.sem) for n, one in values.items()})

    def _signed(self, objective: Objective) -> str:
        return ("-" if objective.direction == "minimize" else "") + self._names[objective.metric]

    def _threshold(self, objective: Objective) -> str:
        relation = "<=" if objective.direction == "minimize" else ">="
        return f"{self._names[objective.metric]} {relation} {objective.reference}"


def _choice(parameter: Parameter) -> ChoiceParameterConfig:
    kind = type(parameter.values[0]).__name__
    ordered = None if is_boolean(parameter) else True
    return ChoiceParameterConfig(parameter.name, list(parameter.values), kind, is_ordered=ordered)

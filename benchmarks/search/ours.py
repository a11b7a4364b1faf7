"""Our engine as a method of the benchmark, and its ablations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from method import Outcome
from problem import Problem

from milp_search.core.arm import Arm
from milp_search.core.trial import Failure, Trial, TrialStatus
from milp_search.search.domain import Domain
from milp_search.search.presets import PRESETS, EngineSettings
from milp_search.search.proposers import PROPOSERS, Setting


@dataclass(frozen=True)
class Variant:
    """A change of the default engine.

    Attributes:
        change: The settings, from the default ones.
        knows_exact: Whether closed-form objectives are known, not modelled.
    """

    change: Callable[[EngineSettings], EngineSettings] = lambda default: default
    knows_exact: bool = True


def _initial(count: int) -> Variant:
    return Variant(lambda default: replace(default, initial_trials=count))


OURS = {
    "milp_search": Variant(),
    "plain GP": Variant(lambda default: replace(default, surrogate="gp")),
    "no warm start": Variant(
        lambda default: replace(default, fit=replace(default.fit, warm=False))
    ),
    "modelled parameter count": Variant(knows_exact=False),
    "raw inputs": Variant(lambda default: replace(default, inputs="raw")),
    "no level features": Variant(lambda default: replace(default, inputs="ordered")),
    "no derived features": Variant(lambda default: replace(default, inputs="placement")),
    "random start": Variant(lambda default: replace(default, initial_design="random")),
    "copula transform": Variant(lambda default: replace(default, outcome_transform="copula")),
    "initial 10": _initial(10),
    "initial 20": _initial(20),
    "initial 100": _initial(100),
}
"""The engine by variant; the first is the default with the initial trials of all methods."""

OUR_PACKAGES = ("milp-search", "numpy", "scipy")


class Ours:
    """The proposer `saas_nehvi`, as a study drives it."""

    def __init__(self, problem: Problem, variant: Variant, seed: int):
        task = problem.task
        default = replace(PRESETS["default"], initial_trials=task.initial)
        engine = variant.change(default)
        exact = problem.exact if variant.knows_exact else {}
        domain = Domain(task.parameters, problem.plan, exact, engine.inputs)
        name = {"saas": "saas_nehvi", "map_saas": "map_saas", "gp": "gp_nehvi"}[engine.surrogate]
        self._proposer = PROPOSERS[name](Setting(domain, task.objectives, seed, engine))
        self._trials: list[Trial] = []

    def ask(self, count: int) -> list[Arm]:
        """Returns the proposer's next arms."""
        self._proposer.observe(self._trials, self._proposer.memory)
        return [one.arm for one in self._proposer.propose(count)]

    def tell(self, arm: Arm, outcome: Outcome) -> None:
        """Adds a completed trial, or one that ran out of memory."""
        index = len(self._trials)
        if outcome is None:
            failure = Failure("out_of_memory", "more memory than there is")
            trial = Trial(index, arm, status=TrialStatus.FAILED, failure=failure)
        else:
            trial = Trial(index, arm, status=TrialStatus.COMPLETED, measurements=outcome)
        self._trials.append(trial)

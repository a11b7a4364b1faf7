"""What the benchmark asks of a search method, and what it tells it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from milp_search.core.arm import Arm
from milp_search.core.trial import Measurement, Objective
from milp_search.space.parameter import Parameter

Outcome = Mapping[str, Measurement] | None
"""The objectives' measured values, or None where the trial failed (it ran out of memory)."""


@dataclass(frozen=True)
class Task:
    """What a method knows of a problem.

    Attributes:
        parameters: The searched parameters with their values in natural order; numbers and
            booleans.
        objectives: What is optimised, each with its reference.
        initial: Trials of the initial design, the same for every method that has one.
        budget: Trials in all.
        may_fail: Whether a trial may fail for what was proposed.
    """

    parameters: tuple[Parameter, ...]
    objectives: tuple[Objective, ...]
    initial: int
    budget: int
    may_fail: bool = False


class Method(Protocol):
    """Proposes arms and learns from outcomes; one object serves one run."""

    def ask(self, count: int) -> Sequence[Arm]:
        """Returns the next arms to try, at most `count`; all are told before the next ask."""

    def tell(self, arm: Arm, outcome: Outcome) -> None:
        """Takes the outcome of an arm that was asked."""

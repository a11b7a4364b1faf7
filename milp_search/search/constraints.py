"""Bounds that a plan's outcomes must keep."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from milp_search.core.errors import SpecError
from milp_search.core.trial import Objective

Relation = Literal["<=", ">="]


@dataclass(frozen=True)
class OutcomeConstraint:
    """A bound on a metric, measured or of closed form, in natural units.

    Attributes:
        metric: The metric's name.
        relation: On which side of the bound its values may lie.
        bound: The bound, itself allowed.
    """

    metric: str
    relation: Relation
    bound: float

    def __post_init__(self) -> None:
        if self.relation not in ("<=", ">="):
            raise SpecError(
                f"expected relation '<=' or '>=' for {self.metric!r}, got {self.relation!r}"
            )
        if not math.isfinite(self.bound):
            raise SpecError(f"expected a finite bound for {self.metric!r}, got {self.bound}")

    @property
    def objective(self) -> Objective:
        """The metric, better where the constraint holds, with the bound as its reference."""
        return Objective(
            self.metric, "minimize" if self.relation == "<=" else "maximize", self.bound
        )


def parse_constraint(text: str) -> OutcomeConstraint:
    """Returns the constraint that a text such as `peak_memory_mib <= 4000` states.

    Args:
        text: A metric's name, `<=` or `>=`, and a number.

    Returns:
        The constraint.

    Raises:
        SpecError: The text has another form.
    """
    relations: tuple[Relation, ...] = ("<=", ">=")
    for relation in relations:
        metric, found, bound = text.partition(relation)
        if found and metric.strip():
            try:
                return OutcomeConstraint(metric.strip(), relation, float(bound))
            except ValueError:
                break
    raise SpecError(
        f"expected a constraint such as 'peak_memory_mib <= 4000', got {text!r}",
        remedy="write a metric's name, <= or >=, and a number",
    )

"""Bounds that a plan's outcomes must keep."""

from __future__ import annotations

import math
from collections.abc import Sequence
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

    def __str__(self) -> str:
        bound = float(self.bound)
        # Integers up to here are written in full, and read back as they were.
        whole = bound.is_integer() and abs(bound) < 2**53
        return f"{self.metric} {self.relation} {int(bound) if whole else bound}"

    @property
    def objective(self) -> Objective:
        """The metric, better where the constraint holds, with the bound as its reference."""
        return Objective(
            self.metric, "minimize" if self.relation == "<=" else "maximize", self.bound
        )

    def holds(self, value: float) -> bool:
        """Returns whether a value of the metric lies on the bound or on its right side."""
        return value <= self.bound if self.relation == "<=" else value >= self.bound


def parse_constraint(text: str) -> OutcomeConstraint:
    """Returns the constraint that a text such as `trainable_params <= 100000` states.

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
        if found and metric.strip() and not set(metric) & set("<>="):
            try:
                return OutcomeConstraint(metric.strip(), relation, float(bound))
            except ValueError:
                break
    raise SpecError(
        f"expected a constraint such as 'trainable_params <= 100000', got {text!r}",
        remedy="write a metric's name, <= or >=, and a number",
    )


def checked_constraints(
    constraints: Sequence[OutcomeConstraint | str], objectives: Sequence[Objective]
) -> tuple[OutcomeConstraint, ...]:
    """Returns constraints that can be kept together, those given as texts parsed.

    Args:
        constraints: Constraints, or texts that state them.
        objectives: What is optimised beside them.

    Returns:
        The constraints, in their order.

    Raises:
        SpecError: A text states none, or a constraint does not fit the others or an objective.
    """
    checked: list[OutcomeConstraint] = []
    for given in constraints:
        constraint = parse_constraint(given) if isinstance(given, str) else given
        check_beside(constraint, checked, objectives)
        checked.append(constraint)
    return tuple(checked)


def check_beside(
    constraint: OutcomeConstraint,
    others: Sequence[OutcomeConstraint],
    objectives: Sequence[Objective],
) -> None:
    """Refuses a constraint that does not go together with others or with an objective.

    Args:
        constraint: The constraint.
        others: Those it stands beside.
        objectives: What is optimised beside it.

    Raises:
        SpecError: The metric has such a bound already, or none of its values keeps both its
            bounds; or an objective gets worse towards the allowed side.
    """
    for other in others:
        if other.metric != constraint.metric:
            continue
        if other.relation == constraint.relation:
            raise SpecError(
                f"expected one bound {constraint.relation} on {constraint.metric!r}, "
                f"got '{other}' and '{constraint}'",
                remedy="keep the tighter one",
            )
        least, most = sorted([constraint, other], key=lambda one: one.relation, reverse=True)
        if least.bound >= most.bound:
            raise SpecError(
                f"expected constraints that some value of {constraint.metric!r} keeps, "
                f"got '{least}' and '{most}'",
                remedy="lower the one bound or raise the other",
            )
    for objective in objectives:
        wanted = constraint.objective.direction
        if objective.metric == constraint.metric and objective.direction != wanted:
            raise SpecError(
                f"expected a constraint that the objective {objective.metric!r} keeps by getting "
                f"better, got '{constraint}' with direction {objective.direction}",
                remedy="turn the relation, or leave the metric out of the objectives",
            )

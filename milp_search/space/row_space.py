"""The rows of a table as a search space: each row's plan with each seed is an arm."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from milp_search.core.arm import Value
from milp_search.core.errors import SpecError
from milp_search.core.methods import KNOWN_METHODS
from milp_search.core.plan import TrialPlan, plan_from_dict
from milp_search.space.parameter import Parameter
from milp_search.space.search_space import SearchSpace


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
        label: What stands in the table.
        method: The name of a method.
        fields: Fields of the plan that the row sets, over the method's defaults.
    """

    label: str
    method: str
    fields: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RowSpace:
    """All rows with all seeds; it offers what a `SearchSpace` offers to a study.

    Attributes:
        name: The table's name.
        rows: Each row's label and plan, without a seed.
        seeds: The training seeds.
    """

    name: str
    rows: Mapping[str, TrialPlan]
    seeds: tuple[int, ...]

    @cached_property
    def parameters(self) -> tuple[Parameter, ...]:
        """The seed and the row, if there are several; all rows of a seed come before the next's."""
        return tuple(axis for axis in self._axes if len(axis.values) > 1)

    @cached_property
    def fixed(self) -> Mapping[str, Value]:
        """The seed or row where there is but one."""
        return {axis.name: axis.values[0] for axis in self._axes if len(axis.values) == 1}

    @property
    def _axes(self) -> tuple[Parameter, Parameter]:
        return Parameter("seed", self.seeds), Parameter("row", tuple(self.rows))

    @property
    def size(self) -> int:
        """The number of arms."""
        return len(self.rows) * len(self.seeds)

    def plan(
        self, arm: Mapping[str, Value], method: str = "", max_communities: int | None = None
    ) -> TrialPlan:
        """Returns the row's plan with its seed.

        Args:
            arm: A seed and a row.
            method: Not looked at: the row has its own.
            max_communities: Not looked at: the row's plan is canonical.

        Returns:
            The plan.

        Raises:
            SpecError: The arm is none of this table.
        """
        known = {axis.name: axis for axis in self.parameters}
        if set(arm) != set(known) or any(value not in known[name] for name, value in arm.items()):
            raise SpecError(
                f"expected a row and a seed of the table {self.name!r}, got {dict(arm)}"
            )
        values = {**self.fixed, **arm}
        return replace(self.rows[str(values["row"])], seed=int(values["seed"]))

    def as_dict(self) -> dict[str, Any]:
        """Returns the table as plain JSON values; `space_from_dict` is the inverse."""
        return {
            "name": self.name,
            "rows": {label: plan.as_dict() for label, plan in self.rows.items()},
            "seeds": [*self.seeds],
        }


Space = SearchSpace | RowSpace


def row_space(
    name: str, space: SearchSpace, rows: tuple[Row, ...], seeds: tuple[int, ...], users: int
) -> RowSpace:
    """Returns the rows as a space.

    Args:
        name: The table's name.
        space: What it fixes holds in all rows, unless the method or the row says otherwise;
            what it searches has its default.
        rows: The rows.
        seeds: The training seeds.
        users: The number of target users, which k-means cannot exceed.

    Returns:
        The space.
    """
    plans = {row.label: row_plan(space, row, users) for row in rows}
    return RowSpace(name, plans, seeds)


def row_plan(space: SearchSpace, row: Row, users: int) -> TrialPlan:
    """Returns a row's canonical plan; see `row_space`."""
    traits = KNOWN_METHODS[row.method]
    plan = space.fixed_plan(row.method)
    stated = {**traits.defaults, **row.fields}
    return replace(plan, **stated).canonical(traits, users)


def space_from_dict(values: Mapping[str, Any]) -> Space:
    """Returns the space that the `as_dict` of either kind wrote."""
    if "rows" not in values:
        return SearchSpace.from_dict(values)
    plans = {label: plan_from_dict(plan) for label, plan in values["rows"].items()}
    return RowSpace(values["name"], plans, tuple(values["seeds"]))

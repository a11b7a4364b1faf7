"""Dimensions of a few named values: `on`, or `[user, community]`."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from milp_search.core.arm import Value
from milp_search.space.dimension import Dimension, SettingError
from milp_search.space.parameter import Parameter
from milp_search.space.plan_draft import PlanDraft
from milp_search.space.yaml_document import KeyPath


@dataclass(frozen=True)
class ChoiceDimension:
    """One of some named values.

    Attributes:
        name: The dimension's name.
        values: The names that may be chosen, in the order of the table.
        kind: What the names mean.
    """

    name: str
    values: tuple[str, ...]
    kind: ChoiceKind = field(repr=False, hash=False)

    def parameters(self) -> tuple[Parameter, ...]:
        """Returns the one axis."""
        return (Parameter(self.name, self.values),)

    def apply(self, draft: PlanDraft, values: Mapping[str, Value]) -> PlanDraft:
        """Returns the draft with the plan's field set to what the name means."""
        meaning = self.kind.choices[str(values[self.name])]
        return draft.with_value(self.kind.field or self.name, meaning)

    def setting(self) -> Any:
        """Returns the name if it is fixed, else the list."""
        return self.values[0] if len(self.values) == 1 else [*self.values]


@dataclass(frozen=True)
class ChoiceKind:
    """Reads the setting of a dimension of named values.

    Attributes:
        name: The dimension's name.
        choices: Each name and the value of the plan's field.
        field: The plan's field, where it has another name.
    """

    name: str
    choices: Mapping[str, Any]
    field: str = ""

    def configure(self, setting: Any, layers: int) -> Dimension:
        """Returns the dimension over the names that the setting lists."""
        if not isinstance(setting, list):
            return ChoiceDimension(self.name, (self._known(setting, ()),), self)
        if not setting:
            raise SettingError("expected at least one value, got an empty list", self._forms)
        named: set[str] = set()
        for place, item in enumerate(setting):
            name = self._known(item, (place,))
            if name in named:
                message = f"expected each value once, got {name} again"
                raise SettingError(message, "remove one of the two", (place,))
            named.add(name)
        return ChoiceDimension(self.name, tuple(one for one in self.choices if one in named), self)

    @property
    def _forms(self) -> str:
        return f"write one of {', '.join(self.choices)}, or a list of some of them"

    def _known(self, item: Any, path: KeyPath) -> str:
        if isinstance(item, str) and item in self.choices:
            return item
        raise SettingError(
            f"expected one of {', '.join(self.choices)}, got {reprlib.repr(item)}",
            self._forms,
            path,
        )

"""Dimensions of one whole number: `8`, `[8, 16, 32]` or `{low: 0, high: 32}`."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from milp_search.core.arm import Value
from milp_search.space.dimension import Dimension, SettingError
from milp_search.space.parameter import Parameter
from milp_search.space.plan_draft import PlanDraft
from milp_search.space.yaml_document import KeyPath

# ours: no rank, count, period or cluster number of use is larger; a slip of the keyboard is.
MAX_VALUE = 65_536
MAX_VALUES = 4_096

_FORMS = "write a number, a list as in `[1, 2, 4]`, or a range as in `{low: 0, high: 8}`"


@dataclass(frozen=True)
class IntegerDimension:
    """A whole number out of an ascending list; it is the plan's field of the same name."""

    name: str
    values: tuple[int, ...]

    def parameters(self) -> tuple[Parameter, ...]:
        """Returns the one axis."""
        return (Parameter(self.name, self.values),)

    def apply(self, draft: PlanDraft, values: Mapping[str, Value]) -> PlanDraft:
        """Returns the draft with the number set."""
        return draft.with_value(self.name, values[self.name])

    def setting(self) -> Any:
        """Returns the number if it is fixed, else the list."""
        return self.values[0] if len(self.values) == 1 else [*self.values]


@dataclass(frozen=True)
class IntegerKind:
    """Reads one whole number's setting.

    Attributes:
        name: The dimension's name.
        minimum: The smallest value that makes sense.
        auto: Whether the word `auto` stands for the base model's number of layers.
    """

    name: str
    minimum: int
    auto: bool = False

    def configure(self, setting: Any, layers: int) -> Dimension:
        """Returns the dimension over the values that the setting lists."""
        if isinstance(setting, dict):
            return IntegerDimension(self.name, self._range(setting, layers))
        if isinstance(setting, list):
            return IntegerDimension(self.name, self._list(setting, layers))
        return IntegerDimension(self.name, (self._integer(setting, layers, ()),))

    def _range(self, setting: dict[str, Any], layers: int) -> tuple[int, ...]:
        for key in setting:
            if key not in ("low", "high"):
                message = f"expected the keys 'low' and 'high', got {key!r}"
                raise SettingError(message, _FORMS, (key,))
        for key in ("low", "high"):
            if key not in setting:
                raise SettingError(f"expected the key {key!r}, got none", f"add `{key}:`")
        low, high = (self._integer(setting[key], layers, (key,)) for key in ("low", "high"))
        if low > high:
            message = f"expected low <= high, got low {low} and high {high}"
            raise SettingError(message, "exchange the two", ("low",))
        if high - low >= MAX_VALUES:
            message = f"expected at most {MAX_VALUES} values, got {high - low + 1}"
            raise SettingError(message, "narrow the range or list some of its values")
        return tuple(range(low, high + 1))

    def _list(self, setting: list[Any], layers: int) -> tuple[int, ...]:
        if not setting:
            raise SettingError("expected at least one value, got an empty list", _FORMS)
        values: set[int] = set()
        for place, item in enumerate(setting):
            value = self._integer(item, layers, (place,))
            if value in values:
                message = f"expected each value once, got {value} again"
                raise SettingError(message, "remove one of the two", (place,))
            values.add(value)
        return tuple(sorted(values))

    def _integer(self, item: Any, layers: int, path: KeyPath) -> int:
        if self.auto and item == "auto":
            return layers
        if not isinstance(item, int) or isinstance(item, bool):
            wanted = "a whole number or 'auto'" if self.auto else "a whole number"
            raise SettingError(f"expected {wanted}, got {reprlib.repr(item)}", _FORMS, path)
        if not self.minimum <= item <= MAX_VALUE:
            message = f"expected {self.minimum} to {MAX_VALUE}, got {item}"
            raise SettingError(message, f"use a value of at least {self.minimum}", path)
        return item

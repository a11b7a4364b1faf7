"""MiLP's layer mask: one parameter of 0 or 1 for each layer, `ffn_layer_0` upwards."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from milp_search.core.arm import Value
from milp_search.space.dimension import Dimension, SettingError
from milp_search.space.parameter import Parameter
from milp_search.space.plan_draft import PlanDraft

_NAMES = ("search", "all", "upper_half", "top_quarter", "last", "none")
_FORMS = f"write one of {', '.join(_NAMES)}, or a list with 0 or 1 for each layer"


@dataclass(frozen=True)
class MaskDimension:
    """Which layers may carry LoRA.

    Attributes:
        name: The dimension's name.
        choices: The possible values of each layer, first layer first: `(0, 1)` where searched.
    """

    name: str
    choices: tuple[tuple[int, ...], ...]

    def parameters(self) -> tuple[Parameter, ...]:
        """Returns an axis for each layer."""
        return tuple(
            Parameter(f"ffn_layer_{layer}", choice) for layer, choice in enumerate(self.choices)
        )

    def apply(self, draft: PlanDraft, values: Mapping[str, Value]) -> PlanDraft:
        """Returns the draft with the whole mask set."""
        return draft.with_value(self.name, tuple([values[name] for name in self._layer_names]))

    @cached_property
    def _layer_names(self) -> tuple[str, ...]:
        return tuple(parameter.name for parameter in self.parameters())

    def setting(self) -> Any:
        """Returns `search`, or the fixed mask as a list."""
        if self.choices[0] == (0, 1):
            return "search"
        return [choice[0] for choice in self.choices]


@dataclass(frozen=True)
class MaskKind:
    """Reads a mask's setting: `search`, the name of a fixed mask, or a list of 0 and 1."""

    name: str

    def configure(self, setting: Any, layers: int) -> Dimension:
        """Returns the mask over the model's layers."""
        if setting == "search":
            return MaskDimension(self.name, ((0, 1),) * layers)
        mask = _listed(setting, layers) if isinstance(setting, list) else _named(setting, layers)
        return MaskDimension(self.name, tuple((active,) for active in mask))


def _named(setting: Any, layers: int) -> tuple[int, ...]:
    """Returns the mask of a name; shares of the layers are counted from the top, rounded up."""
    if not isinstance(setting, str) or setting not in _NAMES:
        message = f"expected the name of a mask or a list, got {reprlib.repr(setting)}"
        raise SettingError(message, _FORMS)
    active = {
        "all": layers,
        "upper_half": -(-layers // 2),
        "top_quarter": -(-layers // 4),
        "last": 1,
        "none": 0,
    }[setting]
    return (0,) * (layers - active) + (1,) * active


def _listed(setting: list[Any], layers: int) -> tuple[int, ...]:
    for place, item in enumerate(setting):
        if type(item) is not int or item not in (0, 1):
            raise SettingError(f"expected 0 or 1, got {reprlib.repr(item)}", _FORMS, (place,))
    if len(setting) != layers:
        relation = "longer" if len(setting) > layers else "shorter"
        message = f"mask {relation} than the model: expected {layers} entries, got {len(setting)}"
        raise SettingError(message, "write 0 or 1 for each layer of the base model")
    return tuple(setting)

"""What a dimension is: one named choice of a space file, which may expand to many parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from milp_search.core.arm import Value
from milp_search.space.parameter import Parameter
from milp_search.space.plan_draft import PlanDraft
from milp_search.space.yaml_document import KeyPath


class Dimension(Protocol):
    """A choice whose possible values are known."""

    @property
    def name(self) -> str:
        """The dimension's key in a space file."""

    def parameters(self) -> tuple[Parameter, ...]:
        """Returns the axes of the choice; one with a single value is fixed."""

    def apply(self, draft: PlanDraft, values: Mapping[str, Value]) -> PlanDraft:
        """Returns the draft with this choice made as the parameters' values say."""

    def setting(self) -> Any:
        """Returns what a space file says for this dimension, `auto` resolved."""


class DimensionKind(Protocol):
    """A row of the table of dimensions: reads what a space file says for it."""

    def configure(self, setting: Any, layers: int) -> Dimension:
        """Returns the dimension; raises `SettingError` where the setting is not valid."""


class SettingError(ValueError):
    """A setting that is not valid: what was expected, what to do, and the place inside it."""

    def __init__(self, message: str, remedy: str, path: KeyPath = ()):
        self.message, self.remedy, self.path = message, remedy, path
        super().__init__(message)

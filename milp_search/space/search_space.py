"""A search space: its parameters, and what an arm of it means for training."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, cast

from milp_search.core.arm import Value
from milp_search.core.errors import SpecError
from milp_search.core.methods import KNOWN_METHODS, MethodTraits
from milp_search.core.plan import AdapterPlan, FfnMaps, TrialPlan
from milp_search.space.count_readings import CountReading
from milp_search.space.dimension import Dimension, SettingError
from milp_search.space.dimensions import DIMENSIONS
from milp_search.space.parameter import Parameter
from milp_search.space.plan_draft import PlanDraft, initial_draft
from milp_search.space.suggestion import suggestion

TargetMaps = FfnMaps | Literal["q_v"]


@dataclass(frozen=True)
class SearchSpace:
    """All set-ups that a study may try.

    Attributes:
        name: The space's name.
        layers: The base model's number of layers L.
        dimensions: The choices the space names, in the order of `DIMENSIONS`; any other keeps its
            default, which is `TrialPlan`'s or, for the adapters, one module of rank 8 a layer.
        count_reading: What the LoRA count n means beside the layer mask.
        target_maps: Which linear maps carry LoRA; None is the method's own choice.
        alpha_over_rank: The LoRA scaling alpha / r.
        description: What the space is for.
    """

    name: str
    layers: int
    dimensions: tuple[Dimension, ...]
    count_reading: CountReading = "budget"
    target_maps: TargetMaps | None = None
    alpha_over_rank: float = 1.0
    description: str = ""

    @cached_property
    def parameters(self) -> tuple[Parameter, ...]:
        """The axes that are searched."""
        return tuple(axis for axis in self._axes() if len(axis.values) > 1)

    @cached_property
    def fixed(self) -> Mapping[str, Value]:
        """The values of the named axes that are not searched."""
        return {axis.name: axis.values[0] for axis in self._axes() if len(axis.values) == 1}

    @property
    def size(self) -> int:
        """The number of arms."""
        return math.prod(len(axis.values) for axis in self.parameters)

    def contains(self, arm: Mapping[str, Value]) -> bool:
        """Returns whether the arm gives every searched parameter one of its values, and no more."""
        if len(arm) != len(self.parameters):
            return False
        # A loop: a search asks this for every candidate.
        for axis in self.parameters:
            if axis.name not in arm or arm[axis.name] not in axis:
                return False
        return True

    def plan(
        self,
        arm: Mapping[str, Value],
        method: str = "milp_logo",
        max_communities: int | None = None,
    ) -> TrialPlan:
        """Returns what the arm means for training, in canonical form.

        Args:
            arm: A value for each searched parameter.
            method: The personalisation method; what it does not use collapses.
            max_communities: The number of users, which k-means cannot exceed; None where unknown.

        Returns:
            The plan; arms that build the same network get equal plans.

        Raises:
            SpecError: The arm is not of this space, or there is no such method.
        """
        self._check(arm)
        plan = self._built(method, self.dimensions, {**self.fixed, **arm})
        return plan.canonical(_traits(method), max_communities)

    def fixed_plan(self, method: str) -> TrialPlan:
        """Returns the plan of what is fixed alone, each searched choice at its default.

        Args:
            method: The personalisation method.

        Returns:
            The plan, not in canonical form.

        Raises:
            SpecError: There is no such method.
        """
        named = [
            one
            for one in self.dimensions
            if all(axis.name in self.fixed for axis in one.parameters())
        ]
        return self._built(method, named, self.fixed)

    def as_dict(self) -> dict[str, Any]:
        """Returns the space as plain JSON values; `from_dict` is the inverse."""
        return {
            "name": self.name,
            "description": self.description,
            "layers": self.layers,
            "count_reading": self.count_reading,
            "target_maps": self.target_maps,
            "alpha_over_rank": self.alpha_over_rank,
            "dimensions": {axis.name: axis.setting() for axis in self.dimensions},
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> SearchSpace:
        """Returns the space that `as_dict` wrote."""
        dimensions = configure(values["dimensions"], values["layers"])
        return cls(**{**values, "dimensions": dimensions})

    def _built(
        self, method: str, dimensions: Iterable[Dimension], values: Mapping[str, Value]
    ) -> TrialPlan:
        traits = _traits(method)
        draft = initial_draft(method, traits, self.layers, self.count_reading)
        for dimension in dimensions:
            draft = dimension.apply(draft, values)
        return replace(draft.plan, adapter=self._adapter(draft, traits))

    def _axes(self) -> tuple[Parameter, ...]:
        return tuple(axis for dimension in self.dimensions for axis in dimension.parameters())

    def _check(self, arm: Mapping[str, Value]) -> None:
        if self.contains(arm):
            return
        known = {axis.name: axis for axis in self.parameters}
        wrong = [
            f"{name}={value!r}" for name, value in arm.items() if value not in known.get(name, ())
        ]
        wrong += [f"no {name}" for name in known if name not in arm]
        raise SpecError(
            f"expected an arm of the space {self.name!r}, got {', '.join(wrong)}",
            remedy="give each searched parameter one of its values",
        )

    def _adapter(self, draft: PlanDraft, traits: MethodTraits) -> AdapterPlan:
        """Returns the adapters' plan; without any module it is one and the same base point."""
        ranks = draft.realised_ranks(self.count_reading)
        if not traits.adapter or not any(ranks):
            return AdapterPlan((0,) * self.layers)
        maps = self.target_maps or cast(TargetMaps, traits.target_maps)
        return AdapterPlan(ranks, self.alpha_over_rank, maps)


def configure(settings: Mapping[str, Any], layers: int) -> tuple[Dimension, ...]:
    """Returns the dimensions that the settings name, in the order of `DIMENSIONS`.

    Args:
        settings: What a space file says for each dimension it names.
        layers: The base model's number of layers.

    Returns:
        The named dimensions.

    Raises:
        SettingError: A setting is not valid; its path begins with the dimension's name.
    """
    return tuple(
        _configured(name, settings[name], layers) for name in DIMENSIONS if name in settings
    )


def _configured(name: str, setting: Any, layers: int) -> Dimension:
    try:
        return DIMENSIONS[name].configure(setting, layers)
    except SettingError as error:
        message, path = f"{name}: {error.message}", (name, *error.path)
        raise SettingError(message, error.remedy, path) from None


def _traits(method: str) -> MethodTraits:
    if method not in KNOWN_METHODS:
        remedy = suggestion(method, tuple(KNOWN_METHODS))
        raise SpecError(f"expected a known method, got {method!r}", remedy=remedy)
    return KNOWN_METHODS[method]

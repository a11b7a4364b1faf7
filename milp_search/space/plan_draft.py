"""A plan in the making, on which each dimension of a space writes its value."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from milp_search.core.methods import MethodTraits
from milp_search.core.plan import AdapterPlan, TrialPlan
from milp_search.space.count_readings import COUNT_READINGS, CountReading


@dataclass(frozen=True)
class PlanDraft:
    """What an adapter plan is computed from, beside the rest of the trial's plan.

    Attributes:
        plan: The trial's plan, whose adapter is still empty.
        lora_count: MiLP's n.
        lora_rank: The rank r of one module.
        ffn_layer_mask: MiLP's alpha, 0 or 1 for each layer.
    """

    plan: TrialPlan
    lora_count: int
    lora_rank: int
    ffn_layer_mask: tuple[int, ...]

    def with_value(self, name: str, value: Any) -> PlanDraft:
        """Returns the draft with one of its own or its plan's fields set."""
        if name in ("lora_count", "lora_rank", "ffn_layer_mask"):
            return replace(self, **{name: value})
        return replace(self, plan=replace(self.plan, **{name: value}))

    def realised_ranks(self, reading: CountReading) -> tuple[int, ...]:
        """Returns each layer's rank: m modules of rank r in one layer are one LoRA of rank m r."""
        modules = COUNT_READINGS[reading](self.lora_count, self.ffn_layer_mask)
        return tuple(count * self.lora_rank for count in modules)


def initial_draft(
    method: str, traits: MethodTraits, layers: int, reading: CountReading
) -> PlanDraft:
    """Returns the draft of a space that names no dimension: one module of rank 8 in every layer.

    The rest of the plan is as the method's defaults say.
    """
    return PlanDraft(
        plan=TrialPlan(traits.trains or method, AdapterPlan((0,) * layers), **traits.defaults),
        lora_count=1 if reading == "per_layer" else layers,
        lora_rank=8,  # OPPU: r = 8 with alpha = 8
        ffn_layer_mask=(1,) * layers,
    )

"""A space of three layers, and trials on it by a formula."""

from __future__ import annotations

import math
from collections.abc import Sequence

from milp_search.core.arm import Arm
from milp_search.core.plan import TrialPlan
from milp_search.core.trial import Measurement, Objective, Trial, TrialStatus
from milp_search.search.presets import EngineSettings, FitSettings
from milp_search.search.proposal import Proposal
from milp_search.space.search_space import SearchSpace, configure

LAYERS = 3
LOSS = Objective("loss", "minimize", 3.0)
ROUGE = Objective("rouge_l", "maximize", 0.0)
SIZE = Objective("trainable_params", "minimize", 10_000.0)
TINY = EngineSettings(
    fit=FitSettings(
        chains=2, windows=(6, 8, 12, 6), warmup=2, samples=8, draws=6, max_tree_depth=3
    ),
    monte_carlo_samples=4,
    evaluations=60,
    restarts=2,
)


def small_space() -> SearchSpace:
    settings = {
        "lora_count": {"low": 0, "high": 6},
        "lora_rank": [2, 8, 32],
        "ffn_layer_mask": "search",
        "time_splits": [1, 2],
        "retrieved_items": [0, 1, 2],
        "communities": [1, 2],
    }
    return SearchSpace("small", LAYERS, configure(settings, LAYERS))


def plan_of(arm: Arm) -> TrialPlan:
    return small_space().plan(arm)


def parameters_of(arm: Arm) -> float:
    return 100.0 * plan_of(arm).adapter.total_rank


def measured(arm: Arm, sem: float | None = 0.01) -> dict[str, Measurement]:
    plan = plan_of(arm)
    ranks = plan.adapter.ranks
    loss = 2.5 - 0.3 * math.log1p(ranks[-1]) - 0.1 * plan.retrieved_items + 0.002 * sum(ranks)
    rouge = 0.2 + 0.02 * math.log1p(ranks[0]) + 0.05 * plan.retrieved_items
    return {"loss": Measurement(loss, sem), "rouge_l": Measurement(rouge, sem)}


def completed(
    proposals: Sequence[Proposal], first: int = 0, sem: float | None = 0.01
) -> list[Trial]:
    return [
        Trial(
            first + place,
            one.arm,
            status=TrialStatus.COMPLETED,
            origin=one.origin,
            measurements=measured(one.arm, sem),
        )
        for place, one in enumerate(proposals)
    ]

"""What the surrogate sees of a plan: the network that is built, not the values that name it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from milp_search.core.arm import Arm
from milp_search.core.plan import TrialPlan
from milp_search.search.orientation import Array
from milp_search.search.presets import Inputs
from milp_search.space.parameter import Parameter

# What stands between a plan's ranks and its T, k and c: derived from the ranks.
_DERIVED = 2
_SCOPES = ("user", "community", "all")


def features_by(
    inputs: Inputs, parameters: Sequence[Parameter]
) -> Callable[[Arm, TrialPlan], Array]:
    """Returns what maps an arm and its plan to the features of that name.

    Args:
        inputs: Which features; all but `realised` are there to be compared with it.
        parameters: The searched parameters, of which `raw` takes the values.

    Returns:
        The map.
    """
    if inputs == "raw":
        return lambda arm, plan: raw_features(arm, parameters)
    if inputs == "placement":
        return lambda arm, plan: placement_features(plan)
    return lambda arm, plan: plan_features(plan)


def plan_features(plan: TrialPlan) -> Array:
    """Returns a plan's features, shape `L + 8`; equal plans have equal features.

    They are the realised rank of each layer, the number of active layers, the first active layer
    (L where none is), the total rank, T, k, c, whether there is a profile and how many share an
    adapter (one user, a community, all: 0, 1, 2); all but the first active layer as log(1 + x),
    since doubling a rank matters about as much from 8 as from 64. Sums beside the single ranks
    let a sparse prior explain the response by few inputs where only the size counts.
    """
    adapter = plan.adapter
    active = adapter.active_layers
    sizes = (
        *adapter.ranks,
        len(active),
        adapter.total_rank,
        plan.time_splits,
        plan.retrieved_items,
        plan.communities,
        plan.profile,
        _SCOPES.index(plan.scope),
    )
    first = active[0] if active else len(adapter.ranks)
    return np.array([*(math.log1p(size) for size in sizes), float(first)])


def placement_features(plan: TrialPlan) -> Array:
    """Returns a plan's features without the derived ones, shape `L + 5`."""
    features, layers = plan_features(plan), len(plan.adapter.ranks)
    return np.concatenate([features[:layers], features[layers + _DERIVED : -1]])


def raw_features(arm: Arm, parameters: Sequence[Parameter]) -> Array:
    """Returns an arm's values, or their positions where they are no numbers; one per parameter.

    The one arm of no parameters has a single 0, since surrogates need an input.
    """
    values = [
        float(one.values.index(value)) if isinstance(value := arm[one.name], str) else value
        for one in parameters
    ]
    return np.array(values or [0.0], dtype=np.float64)

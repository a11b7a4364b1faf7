"""What the surrogate sees of a plan: the network that is built, not the values that name it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from milp_search.core.arm import Arm, Value
from milp_search.core.plan import TrialPlan
from milp_search.search.orientation import Array
from milp_search.search.presets import Inputs
from milp_search.space.parameter import Parameter

# What stands between a plan's ranks and its T, k and c: derived from the ranks.
_DERIVED = 2
_SCOPES = ("user", "community", "all")
# The settings by the names of their parameters, with the fields of the plan that hold them.
_SETTINGS = {
    "time_splits": "time_splits",
    "retrieved_items": "retrieved_items",
    "communities": "communities",
    "summary_lines": "summary_lines",
    "adapter_scope": "scope",
}
# ours: of a longer list the order says enough.
_SHORT_LIST = 6

# A field of a plan, and a value of it.
Level = tuple[str, Value]


def features_by(
    inputs: Inputs, parameters: Sequence[Parameter]
) -> Callable[[Arm, TrialPlan], Array]:
    """Returns what maps an arm and its plan to the features of that name.

    Args:
        inputs: Which features; all but `realised` are there to be compared with it. `ordered`
            has no inner levels, `placement` nothing derived at all.
        parameters: The searched parameters, of which `raw` takes the values.

    Returns:
        The map.
    """
    if inputs == "raw":
        return lambda arm, plan: raw_features(arm, parameters)
    if inputs == "placement":
        return lambda arm, plan: placement_features(plan)
    levels = inner_levels(parameters) if inputs == "realised" else ()
    return lambda arm, plan: plan_features(plan, levels)


def inner_levels(parameters: Sequence[Parameter]) -> tuple[Level, ...]:
    """Returns the levels of settings that lie between others, of lists of three to six values.

    Where one value alone is good, as c = 10 of 1, 5, 10 and 20, the others look alike, and a smooth
    function of the setting is as flat at the one that was not tried again.

    Args:
        parameters: The searched parameters.

    Returns:
        Fields of plans, and the value that counts.
    """
    return tuple(
        (_SETTINGS[one.name], level)
        for one in parameters
        if one.name in _SETTINGS and len(one.values) <= _SHORT_LIST
        for level in one.values[1:-1]
    )


def plan_features(plan: TrialPlan, levels: Sequence[Level] = ()) -> Array:
    """Returns a plan's features, shape `L + 9 + levels`; equal plans have equal features.

    They are the realised rank of each layer, the number of active layers, the first active layer
    (L where none is), the total rank, T, k, c, whether there is a profile, the lines of a summary
    and how many share an adapter (one user, a community, all: 0, 1, 2); all but the first active
    layer as log(1 + x), since doubling a rank matters about as much from 8 as from 64. Sums beside
    the single ranks let a sparse prior explain the response by few inputs where only the size
    counts; so does a 1 for each level that the plan has where one value alone matters.
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
        plan.summary_lines,
        _SCOPES.index(plan.scope),
    )
    first = active[0] if active else len(adapter.ranks)
    found = (float(getattr(plan, field) == value) for field, value in levels)
    return np.array([*(math.log1p(size) for size in sizes), float(first), *found])


def placement_features(plan: TrialPlan) -> Array:
    """Returns a plan's features without the derived ones, shape `L + 6`."""
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

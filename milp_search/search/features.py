"""What the surrogate sees of a plan: the network that is built, not the values that name it."""

from __future__ import annotations

import math

import numpy as np

from milp_search.core.plan import TrialPlan
from milp_search.search.orientation import Array


def plan_features(plan: TrialPlan) -> Array:
    """Returns a plan's features, shape `L + 6`; equal plans have equal features.

    They are the realised rank of each layer, the number of active layers, the first active layer
    (L where none is), the total rank, T, k and c; all but the first active layer as log(1 + x),
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
    )
    first = active[0] if active else len(adapter.ranks)
    return np.array([*(math.log1p(size) for size in sizes), float(first)])

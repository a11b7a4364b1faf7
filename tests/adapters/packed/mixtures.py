"""Random mixtures of jobs: users, examples, ranks, masks, maps, stacks below and starts."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from adapters.making import EXAMPLES
from adapters.packed.making import random_adapter
from milp_search.adapters.base_model import BaseModel
from milp_search.adapters.jobs import Adapter, Example, TrainJob
from milp_search.core.plan import AdapterPlan

# One without any target, one with a single token, one that is cut.
TEXTS = (*EXAMPLES, Example("", ""), Example("ab", ""), Example("long " * 30, "cut " * 10))
MAPS = ("all", "up", "down", "up_down", "q_v")

PLANS = st.builds(
    AdapterPlan,
    ranks=st.tuples(*[st.sampled_from([0, 0, 1, 2, 5])] * 3),
    alpha_over_rank=st.sampled_from([0.5, 1.0, 2.0]),
    target_maps=st.sampled_from(MAPS),
)


@st.composite
def stacks(draw: Any, base: BaseModel, most: int = 2) -> tuple[Adapter, ...]:
    """Draws some adapters that lie on one another."""
    plans = draw(st.lists(PLANS, max_size=most))
    seed = draw(st.integers(0, 9))
    return tuple(random_adapter(base, plan, seed + n, f"at{n}") for n, plan in enumerate(plans))


@st.composite
def jobs(draw: Any, base: BaseModel, place: int) -> TrainJob:
    """Draws a job of any kind; its key is its place."""
    plan, seed = draw(PLANS), draw(st.integers(0, 9))
    epochs, steps = draw(st.sampled_from([(0, None), (1, None), (2, None), (None, 3), (None, 5)]))
    return TrainJob(
        f"local:{place}",
        tuple(draw(st.lists(st.sampled_from(TEXTS), max_size=4))),
        plan,
        seed,
        epochs=epochs,
        steps=steps,
        shuffle=draw(st.booleans()),
        below=draw(stacks(base)),
        start=random_adapter(base, plan, seed) if draw(st.booleans()) else None,
    )


@st.composite
def mixtures(draw: Any, base: BaseModel, most: int = 4) -> list[TrainJob]:
    """Draws jobs that a trainer gets together."""
    return [draw(jobs(base, place)) for place in range(draw(st.integers(1, most)))]

"""What a job gives does not depend on what it is packed with, nor on the size of passes."""

from __future__ import annotations

from dataclasses import replace
from functools import cache, partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.making import EXAMPLES, llama
from adapters.packed.making import SETTINGS, furthest, loss_gap, random_adapter, step_gap, texts
from adapters.packed.mixtures import TEXTS
from milp_search.adapters.jobs import Adapter, PredictJob, TrainJob
from milp_search.adapters.packed import rows, sublayers
from milp_search.adapters.packed.rows import lane_spans
from milp_search.adapters.packed.trainer import PackedTrainer
from milp_search.core.plan import AdapterPlan

BASE = llama()
PLAN, ATTENTION = AdapterPlan((2, 0, 3), 2.0), AdapterPlan((0, 1, 1), 1.0, "q_v")
BELOW = random_adapter(BASE, AdapterPlan((1, 1, 0)), 7)
JOBS = (
    TrainJob("local:a", EXAMPLES, PLAN, 1, epochs=2),
    TrainJob("local:b", EXAMPLES[:2], PLAN, 1, steps=3, shuffle=True),
    TrainJob("local:c", TEXTS, PLAN, 1, epochs=1, below=(BELOW,)),
    TrainJob("local:d", EXAMPLES[1:], ATTENTION, 2, epochs=2),
    TrainJob("local:e", EXAMPLES[1:2], replace(PLAN, ranks=(0, 0, 4)), 2, epochs=3),
)
PREDICT = tuple(
    PredictJob(EXAMPLES[n:], stack)
    for n, stack in enumerate([(), (BELOW,), (BELOW, random_adapter(BASE, PLAN, 1))])
)


def trainer(memory_mib: float | None = 1024.0, halvings: int = 0, **changes: Any) -> PackedTrainer:
    made = PackedTrainer(BASE, replace(SETTINGS, **changes), memory_mib=memory_mib)
    made.halvings = halvings
    return made


@cache
def alone() -> tuple[list[Adapter], list[list[float]]]:
    """Returns what becomes of each job by itself."""
    packed, adapters, losses = trainer(), [], []
    for job in JOBS:
        adapters += packed.train([job])
        losses += packed.step_losses
    return adapters, losses


def check(packed: PackedTrainer, places: list[int]) -> None:
    adapters, losses = alone()
    found = packed.train([JOBS[place] for place in places])
    assert step_gap(packed.step_losses, [losses[place] for place in places]) < 1e-5
    asked = [
        [PredictJob(EXAMPLES, (*JOBS[place].below, one), generate=False)
         for place, one in zip(places, some, strict=True)]
        for some in (found, [adapters[place] for place in places])
    ]  # fmt: skip
    assert loss_gap(*map(packed.predict, asked)) < 1e-5


@settings(max_examples=8)
@given(order=st.permutations(range(len(JOBS))), cut=st.integers(0, len(JOBS)))
def test_a_training_depends_neither_on_order_nor_on_neighbours(order: list[int], cut: int) -> None:
    packed = trainer()
    for part in (order[:cut], order[cut:]):
        check(packed, part)


@pytest.mark.parametrize("memory_mib", [0.001, 64.0, 1e6], ids=["tiny", "middle", "huge"])
@pytest.mark.parametrize("halvings", [0, 1, 20])
def test_a_training_does_not_depend_on_memory(memory_mib: float, halvings: int) -> None:
    check(trainer(memory_mib, halvings), [*range(len(JOBS))])


@pytest.mark.parametrize("size", [1, 2])
def test_a_training_does_not_depend_on_the_micro_batch(size: int) -> None:
    check(trainer(micro_batch=size), [*range(len(JOBS))])


@pytest.mark.parametrize("short", [0, 128], ids=["fused", "plain"])
def test_a_training_is_the_same_the_way_a_gpu_computes_it(
    short: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone()
    monkeypatch.setattr(sublayers, "SHORT", short)
    monkeypatch.setattr(rows, "lane_spans", partial(lane_spans, batched=True))
    check(trainer(), [*range(len(JOBS))])


def test_the_same_call_gives_the_same_bits() -> None:
    one, other = trainer().train(JOBS), trainer().train(JOBS)
    assert max(map(furthest, one, other)) == 0.0


def test_a_diverging_lane_leaves_its_neighbours_alone() -> None:
    infinite = random_adapter(BASE, PLAN, 3)
    tensors = {path: (a * 1e30, b * 1e30) for path, (a, b) in infinite.tensors.items()}
    wild = replace(JOBS[0], key="local:0", start=replace(infinite, tensors=tensors))
    packed = trainer()
    found = packed.train([wild, JOBS[0], JOBS[1]])
    assert not packed.step_losses[0][-1] < 1e3
    assert step_gap(packed.step_losses[1:], alone()[1][:2]) < 1e-5
    answers = packed.predict([PredictJob(EXAMPLES, (adapter,)) for adapter in found])
    apart = packed.predict([PredictJob(EXAMPLES, (found[1],))])
    assert loss_gap(answers[1:2], apart) < 1e-5
    assert texts(answers[1:2]) == texts(apart)


@settings(max_examples=6, derandomize=True)
@given(order=st.permutations(range(len(PREDICT))), memory_mib=st.sampled_from([0.001, 1e6]))
def test_answers_depend_neither_on_order_nor_on_memory(order: list[int], memory_mib: float) -> None:
    apart = [trainer().predict([job])[0] for job in PREDICT]
    answers = trainer(memory_mib).predict([PREDICT[place] for place in order])
    assert loss_gap(answers, [apart[place] for place in order]) < 1e-5
    assert texts(answers) == texts([apart[place] for place in order])

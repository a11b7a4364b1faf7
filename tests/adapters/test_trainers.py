"""What every `AdapterTrainer` promises, checked on each of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch

from adapters.conftest import BASE, SETTINGS, Make
from adapters.making import EXAMPLES, same, weights
from milp_search.adapters.jobs import Adapter, AdapterTrainer, PredictJob, TrainJob
from milp_search.adapters.lora import fresh_adapter
from milp_search.adapters.peft_trainer import PeftTrainer
from milp_search.core.plan import AdapterPlan

PLAN, OTHER = AdapterPlan((2, 0, 3), 2.0), AdapterPlan((0, 1, 1), 1.0, "q_v")
JOB = TrainJob("local:a", EXAMPLES, PLAN, seed=1, epochs=2, reusable=True)


@cache
def below() -> Adapter:
    """Returns a trained adapter to lie underneath others."""
    job = replace(JOB, key="global:x", plan=OTHER, shuffle=True)
    return PeftTrainer(BASE, SETTINGS).train([job])[0]


MIXED = (
    JOB,
    replace(JOB, key="local:b", examples=EXAMPLES[:2], shuffle=True),
    replace(JOB, key="local:d", plan=OTHER, steps=3, epochs=None, reusable=False),
    replace(JOB, key="local:e", plan=AdapterPlan((0, 0, 0))),
    replace(JOB, key="local:f", examples=()),
)


def furthest(one: Adapter, other: Adapter) -> float:
    assert one.tensors.keys() == other.tensors.keys()
    pairs = [(one.tensors[path], other.tensors[path]) for path in one.tensors]
    gaps = [float((x - y).abs().max()) for a, b in pairs for x, y in zip(a, b, strict=True)]
    return max(gaps, default=0.0)


def losses(trainer: AdapterTrainer, *stacks: tuple[Adapter, ...]) -> list[list[float]]:
    jobs = [PredictJob(EXAMPLES, stack, generate=False) for stack in stacks]
    return [[answer.loss for answer in answers] for answers in trainer.predict(jobs)]


def copy(adapter: Adapter) -> Adapter:
    pairs = {path: (a.clone(), b.clone()) for path, (a, b) in adapter.tensors.items()}
    return replace(adapter, tensors=pairs)


# --- training -------------------------------------------------------------------------------


def test_adapters_come_in_order_as_the_plan_says(make: Make) -> None:
    adapters = make().train(MIXED)
    assert [one.key for one in adapters] == [job.key for job in MIXED]
    for job, adapter in zip(MIXED, adapters, strict=True):
        assert adapter.plan == job.plan
        fresh = fresh_adapter(job.key, job.plan, BASE.shape, job.seed)
        assert adapter.tensors.keys() == fresh.tensors.keys()
        for path, pair in adapter.tensors.items():
            for mine, expected in zip(pair, fresh.tensors[path], strict=True):
                assert (mine.shape, mine.dtype) == (expected.shape, torch.float32)
                assert mine.device.type == "cpu"


def test_they_are_those_of_the_plain_trainer(make: Make) -> None:
    jobs = [replace(job, below=(below(),)) if n % 2 else job for n, job in enumerate(MIXED)]
    plain = PeftTrainer(BASE, SETTINGS)
    stacks = [
        [(*job.below, adapter) for job, adapter in zip(jobs, trained, strict=True)]
        for trained in (make().train(jobs), plain.train(jobs))
    ]
    for mine, expected in zip(*(losses(plain, *each) for each in stacks), strict=True):
        assert mine == pytest.approx(expected, abs=1e-4)


def test_equal_jobs_give_equal_adapters_whatever_the_global_random_state(make: Make) -> None:
    torch.manual_seed(1)
    first = make().train([JOB])[0]
    torch.manual_seed(2)
    assert furthest(first, make().train([JOB])[0]) == 0.0


@pytest.mark.parametrize("order", [(4, 3, 2, 1, 0), (2, 0, 4, 1, 3)])
@pytest.mark.parametrize("cut", [1, 3])
def test_an_adapter_depends_neither_on_order_nor_on_grouping(
    make: Make, order: Sequence[int], cut: int
) -> None:
    together = make().train(MIXED)
    trainer = make()
    apart = [one for part in (order[:cut], order[cut:]) for one in trainer.train(
        [replace(MIXED[place], reusable=False) for place in part])]  # fmt: skip
    for place, adapter in zip(order, apart, strict=True):
        assert furthest(adapter, together[place]) < 1e-4


def test_the_base_stays_as_it_is_bit_for_bit(make: Make) -> None:
    before = weights(BASE.model)
    trainer = make()
    trainer.predict([PredictJob(EXAMPLES, (below(), trainer.train(MIXED)[0]))])
    trainer.embed(["ab"])
    assert same(weights(BASE.model), before)
    assert not any(p.requires_grad or p.grad is not None for p in BASE.model.parameters())


def test_adapters_given_stay_as_they_are_and_matter(make: Make) -> None:
    (start,) = make().train([JOB])
    before = [copy(below()), copy(start)]
    found = make().train([JOB, replace(JOB, below=(below(),)), replace(JOB, start=start)])
    assert [furthest(*pair) for pair in zip(before, (below(), start), strict=True)] == [0.0, 0.0]
    assert min(furthest(found[0], other) for other in found[1:]) > 1e-3


@pytest.mark.parametrize("change", [{"epochs": 0}, {"epochs": None, "steps": 0}, {"examples": ()}])
def test_without_a_step_the_start_comes_back(make: Make, change: dict[str, Any]) -> None:
    for start in (None, fresh_adapter("other", PLAN, BASE.shape, 9)):
        adapter = make().train([replace(JOB, start=start, **change)])[0]
        fresh = start or fresh_adapter(JOB.key, PLAN, BASE.shape, JOB.seed)
        assert furthest(adapter, fresh) == 0.0
        assert adapter.key == JOB.key


def test_training_lowers_the_loss_on_what_it_saw(make: Make) -> None:
    trainer = make()
    before, after = losses(trainer, (), tuple(trainer.train([replace(JOB, epochs=10)])))
    assert sum(after) < sum(before) - 0.5


@pytest.mark.parametrize("halvings", [1, 9])
def test_halvings_do_not_change_results(make: Make, halvings: int) -> None:
    trainer, halved = make(), make()
    halved.halvings = halvings
    jobs = [replace(job, reusable=False) for job in MIXED]
    for one, other in zip(trainer.train(jobs), halved.train(jobs), strict=True):
        assert furthest(one, other) < 1e-4
    mine, expected = (each.predict([PredictJob(EXAMPLES)])[0] for each in (halved, trainer))
    assert [a.loss for a in mine] == pytest.approx([a.loss for a in expected], abs=1e-5)
    assert [a.generated for a in mine] == [a.generated for a in expected]


def test_settings_may_change_between_calls(make: Make) -> None:
    trainer = make()
    trainer.settings = replace(SETTINGS, learning_rate=1e-3)
    assert furthest(*trainer.train([JOB]), *make(learning_rate=1e-3).train([JOB])) == 0.0


def test_nothing_to_do_gives_nothing(make: Make) -> None:
    trainer = make()
    assert (trainer.train([]), trainer.predict([])) == ([], [])
    assert trainer.predict([PredictJob(()), PredictJob((), (below(),))]) == [[], []]

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import pytest
import torch

from adapters.making import EXAMPLES, gpt2, llama, model_of
from adapters.packed.making import SETTINGS, furthest, loss_gap, texts
from milp_search.adapters.base_model import BaseModel
from milp_search.adapters.jobs import Adapter, PredictJob, TrainJob
from milp_search.adapters.packed import trainer as module
from milp_search.adapters.packed.memory import PassSize
from milp_search.adapters.packed.trainer import PackedTrainer
from milp_search.adapters.peft_trainer import PeftTrainer
from milp_search.core.plan import AdapterPlan

BASE = llama()
PLAN = AdapterPlan((0, 1, 2), 2.0)
JOBS = [TrainJob(f"local:{n}", EXAMPLES[n:], PLAN, n, epochs=2) for n in range(4)]


def odd() -> BaseModel:
    """Returns a Llama whose blocks do not compute what a Llama's do."""
    base = model_of("llama")
    base.model.model.layers[0].mlp.register_forward_hook(lambda _, __, output: output / 2)
    return base


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (gpt2, "model type gpt2"),
        (lambda: model_of("mistral", sliding_window=50), "attention window of 50 tokens"),
        (odd, "the blocks of LlamaForCausalLM compute something else"),
    ],
    ids=["gpt2", "window", "odd"],
)
def test_what_cannot_be_packed_is_left_to_plain_peft_with_one_warning(
    make: Callable[[], BaseModel], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    base = make()
    plain = PeftTrainer(base, SETTINGS)
    with caplog.at_level(logging.WARNING):
        packed = PackedTrainer(base, SETTINGS)
        adapters = packed.train(JOBS)
        answers = packed.predict([PredictJob(EXAMPLES, (adapters[0],))])
        packed.embed(["a"])
    assert packed.reason is not None
    assert packed.reason.startswith(reason)
    assert caplog.text.count("trials are not packed") == 1
    expected = plain.train(JOBS)
    assert max(map(furthest, adapters, expected)) == 0.0
    assert packed.step_losses == plain.step_losses
    assert answers == plain.predict([PredictJob(EXAMPLES, (expected[0],))])


def test_embedding_is_the_plain_trainers() -> None:
    packed, plain = PackedTrainer(BASE, SETTINGS), PeftTrainer(BASE, SETTINGS)
    assert torch.equal(packed.embed(["a", "bc"]), plain.embed(["a", "bc"]))


def test_prefixes_are_kept_from_call_to_call() -> None:
    packed = PackedTrainer(BASE, SETTINGS)
    packed.train(JOBS)
    missed = packed.prefixes.misses
    again = packed.train(JOBS)
    packed.predict([PredictJob(EXAMPLES, (again[0],))])
    assert missed == len(EXAMPLES)
    assert packed.prefixes.misses == missed


# --- out of memory --------------------------------------------------------------------------

HOST = RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.")
DEVICE = torch.OutOfMemoryError("CUDA out of memory.")
Calls = list[tuple[int, int]]


@cache
def whole() -> list[Adapter]:
    return PackedTrainer(BASE, SETTINGS, memory_mib=64).train(JOBS)


def failing(
    monkeypatch: pytest.MonkeyPatch, name: str, count: Callable[..., int],
    fails: Callable[[int, int], bool], error: Exception,
) -> Calls:  # fmt: skip
    """Makes a function of the trainer run out of memory; returns (items, tokens) of its calls."""
    calls: Calls = []
    real = getattr(module, name)

    def spy(*given: Any) -> Any:
        tokens = given[-1].tokens if isinstance(given[-1], PassSize) else given[-1]
        calls.append((count(*given), tokens))
        if fails(*calls[-1]):
            raise error
        return real(*given)

    monkeypatch.setattr(module, name, spy)
    return calls


def jobs_of(_: Any, __: Any, ___: Any, jobs: Sequence[Any], *____: Any) -> int:
    return len(jobs)


@pytest.mark.parametrize("error", [HOST, DEVICE, MemoryError()], ids=["host", "device", "python"])
def test_lanes_are_halved_where_memory_runs_out(
    error: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    expected = whole()
    calls = failing(monkeypatch, "train_lanes", jobs_of, lambda lanes, _: lanes > 1, error)
    with caplog.at_level(logging.INFO):
        found = PackedTrainer(BASE, SETTINGS, memory_mib=64).train(JOBS)
    assert [lanes for lanes, _ in calls] == [4, 2, 1, 1, 2, 1, 1]
    assert len({tokens for _, tokens in calls}) == 1
    assert max(map(furthest, found, expected)) < 1e-5
    assert "out of memory with 4 lanes side by side" in caplog.text


def test_passes_are_halved_once_a_lane_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = whole()
    most = 1024  # what fits in a processor's cache, with so much memory
    calls = failing(
        monkeypatch, "train_lanes", jobs_of, lambda _, tokens: tokens > most // 4, DEVICE
    )
    found = PackedTrainer(BASE, SETTINGS, memory_mib=64).train(JOBS[:2])
    assert calls == [(2, most), *[(1, most), (1, most // 2), (1, most // 4)] * 2]
    assert max(map(furthest, found, expected[:2])) < 1e-5


@pytest.mark.parametrize(("error", "tries"), [(HOST, 4), (DEVICE, 4), (ValueError("no"), 1)])
def test_what_does_not_pass_by_halving_is_raised(
    error: Exception, tries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = failing(monkeypatch, "train_lanes", jobs_of, lambda *_: True, error)
    with pytest.raises(type(error)) as raised:
        PackedTrainer(BASE, SETTINGS).train(JOBS[:1])
    assert raised.value is error
    assert len(calls) == tries


def test_answering_is_halved_too(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = [PredictJob(EXAMPLES, (adapter,)) for adapter in whole()]
    expected = PackedTrainer(BASE, SETTINGS).predict(asked)
    calls = failing(
        monkeypatch, "row_losses", lambda _, __, rows, *___: len(rows), lambda rows, _: rows > 5,
        DEVICE,
    )  # fmt: skip
    found = PackedTrainer(BASE, SETTINGS).predict(asked)
    assert [rows for rows, _ in calls] == [20, 10, 5, 5, 10, 5, 5]
    assert loss_gap(found, expected) < 1e-5
    assert texts(found) == texts(expected)


def test_halvings_from_outside_halve_lanes_and_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = failing(monkeypatch, "train_lanes", jobs_of, lambda *_: False, DEVICE)
    packed = PackedTrainer(BASE, SETTINGS, memory_mib=64)
    packed.train(JOBS)
    packed.halvings = 3
    packed.train(JOBS)
    assert calls[1][1] == calls[0][1] >> 3

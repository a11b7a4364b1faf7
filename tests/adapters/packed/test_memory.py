"""The closed-form memory model against the measured peak of live tensors."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch

from adapters.making import model_of
from adapters.packed.live_memory import LiveMemory
from adapters.packed.making import CPU, SETTINGS, lanes_of, paths_of, random_adapter, stack_of
from milp_search.adapters.base_model import BaseModel
from milp_search.adapters.encoding import Encoded
from milp_search.adapters.packed import head, memory
from milp_search.adapters.packed.decoding import generate
from milp_search.adapters.packed.factors import lane_weights
from milp_search.adapters.packed.memory import (
    PassSize,
    generation_bytes,
    head_bytes,
    lane_bytes,
    token_bytes,
)
from milp_search.adapters.packed.passes import START, entry_of, losses_and_gradients
from milp_search.adapters.packed.prefix import PrefixCache
from milp_search.adapters.packed.rows import Row, pack_rows
from milp_search.adapters.packed.sublayers import Lanes
from milp_search.adapters.packed.training import LaneJob, train_lanes
from milp_search.core.plan import AdapterPlan

WIDE = {"hidden_size": 128, "intermediate_size": 320, "num_attention_heads": 8}
NARROW = {"num_attention_heads": 8, "num_key_value_heads": 8, "intermediate_size": 32}
ALL, UPPER, LAST = (2, 2, 2, 2), (0, 0, 2, 2), (0, 0, 0, 4)


@pytest.fixture(autouse=True)
def _small_head(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets the head take little, so that the rest is seen."""
    monkeypatch.setattr(head, "LOGITS", 2**13)
    monkeypatch.setattr(memory, "LOGITS", 2**13)


@cache
def base_of(family: str, dtype: torch.dtype = torch.float32, **options: int) -> BaseModel:
    base = model_of(family, layers=4, **options)
    base.model.to(dtype)
    return base


def peak_and_model(
    base: BaseModel, plan: AdapterPlan, lengths: list[int], below: AdapterPlan | None = None,
    prompt: float = 0.5,
) -> tuple[int, float]:  # fmt: skip
    """Returns the peak of a training pass, and what the model says; a row a lane."""
    stack, lanes_count = stack_of(base), len(lengths)
    own = [random_adapter(base, plan, n) for n in range(lanes_count)]
    under = [random_adapter(base, below, n) for n in range(lanes_count)] if below else []
    lanes = lanes_of(base, own, [(adapter,) for adapter in under])
    assert lanes.trained is not None
    entry, texts = entry_of(lanes, len(stack.blocks)), [text(n, prompt) for n in lengths]
    gradients = lanes.trained.like(torch.zeros_like(lanes.trained.flat))
    cache = PrefixCache(stack, "print")
    cache.states(texts, entry)
    with LiveMemory() as live:
        packed = pack_rows([Row(n, text, 1.0) for n, text in enumerate(texts)], CPU)
        losses_and_gradients(stack, packed, lanes, entry, cache.states(texts, entry), gradients)
    ranks = sum(a.shape[0] for one in (*own[:1], *under[:1]) for a, _ in one.tensors.values())
    share = max(one.supervised / len(one) for one in texts)
    each = token_bytes(stack, entry, max(lengths), ranks, share)
    return live.peak, len(lengths) * max(lengths) * each + head_bytes(stack)


def text(length: int, prompt: float) -> Encoded:
    given = int(length * prompt)
    return Encoded((1,) * given, (2,) * (length - given))


@pytest.mark.parametrize("maps", ["all", "q_v"])
@pytest.mark.parametrize("ranks", [ALL, UPPER, LAST, (16, 16, 16, 16)])
@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_the_model_is_above_the_peak_and_near_it(
    family: str, ranks: tuple[int, ...], maps: Any
) -> None:
    base = base_of(family, **WIDE)
    peak, model = peak_and_model(base, AdapterPlan(ranks, 1.0, maps), [32] * 8)
    assert peak <= model <= 1.5 * peak


@pytest.mark.parametrize("lengths", [[8] * 40, [120] * 3, [129] * 3, [300] * 2])
@pytest.mark.parametrize("options", [WIDE, NARROW], ids=["wide", "narrow"])
@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_so_it_is_for_rows_of_any_length(
    family: str, options: dict[str, int], lengths: list[int]
) -> None:
    peak, model = peak_and_model(base_of(family, **options), AdapterPlan(ALL), lengths)
    assert peak <= model <= 1.5 * peak


@pytest.mark.parametrize("prompt", [0.0, 0.9])
@pytest.mark.parametrize("ranks", [ALL, LAST])
def test_so_it_is_for_any_share_of_targets(ranks: tuple[int, ...], prompt: float) -> None:
    peak, model = peak_and_model(
        base_of("llama", **WIDE), AdapterPlan(ranks), [64] * 6, prompt=prompt
    )
    assert peak <= model <= 1.6 * peak


def test_so_it_is_with_frozen_adapters_further_down() -> None:
    base = base_of("llama", **WIDE)
    peak, model = peak_and_model(base, AdapterPlan(UPPER), [64] * 4, AdapterPlan(ALL))
    assert peak <= model <= 1.5 * peak


def test_so_it_is_in_bfloat16() -> None:
    base = base_of("qwen3", torch.bfloat16, **WIDE)
    for ranks in (ALL, UPPER, LAST):
        peak, model = peak_and_model(base, AdapterPlan(ranks), [64] * 6)
        assert peak <= model <= 1.5 * peak


def test_rows_of_different_length_count_as_the_longest() -> None:
    peak, model = peak_and_model(base_of("llama", **NARROW), AdapterPlan(ALL), [100, *[8] * 20])
    assert peak <= model


def test_what_lanes_keep_is_above_the_peak_and_near_it() -> None:
    base = base_of("llama")
    stack, own, below = stack_of(base), AdapterPlan((64, 0, 64, 0)), AdapterPlan((8, 8, 8, 8))
    jobs = [
        LaneJob(random_adapter(base, own, n), (random_adapter(base, below, n),), ((text(4, 0),),))
        for n in range(8)
    ]
    paths, cache = paths_of(base), PrefixCache(stack, "print")
    with LiveMemory() as live:
        train_lanes(stack, paths, cache, jobs, SETTINGS, PassSize(4, 4))
    weights = lane_weights([(job.start,) for job in jobs], paths)
    model = len(jobs) * lane_bytes(weights, lane_weights([job.below for job in jobs], paths))
    small = 4 * token_bytes(stack, START, 4, 64 * 6 + 8 * 12) + head_bytes(stack)
    assert live.peak <= model + small
    assert model <= 1.5 * live.peak


@pytest.mark.parametrize("family", ["llama", "qwen3"])
@pytest.mark.parametrize("length", [10, 60, 120, 200])
def test_the_model_of_generation_is_above_the_peak(family: str, length: int) -> None:
    base, new_tokens = base_of(family, **WIDE), 20
    stack = stack_of(base)
    prompts = [Row(0, Encoded((1,) * length, ()))] * 8
    with LiveMemory() as live:
        generate(stack, prompts, Lanes(), new_tokens, (300,))
    model = 8 * (length + new_tokens) * generation_bytes(stack, length, new_tokens)
    assert live.peak <= model <= 1.7 * live.peak

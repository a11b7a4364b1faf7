"""Greedy generation of many lanes against transformers' own, prompt by prompt."""

from __future__ import annotations

from collections import Counter
from functools import cache
from typing import Any

import pytest
import torch

from adapters.making import model_of
from adapters.packed.making import CPU, paths_of, random_adapter, stack_of
from milp_search.adapters.base_model import BaseModel
from milp_search.adapters.encoding import Encoded
from milp_search.adapters.jobs import Adapter
from milp_search.adapters.lora import attached, load_weights
from milp_search.adapters.packed import decoding
from milp_search.adapters.packed.decoding import generate
from milp_search.adapters.packed.factors import frozen
from milp_search.adapters.packed.rows import Row
from milp_search.adapters.packed.sublayers import Lanes
from milp_search.core.plan import AdapterPlan

NONE = 300  # no token: nothing ends early
PROMPTS = (
    (0, (1,)), (0, tuple(range(40))), (1, (7, 8, 9)), (2, (5,) * 70), (2, (3, 1)), (3, (200, 2)),
)  # fmt: skip


@cache
def base_of(family: str) -> BaseModel:
    return model_of(family)


def stacks(base: BaseModel) -> list[tuple[Adapter, ...]]:
    """Returns four lanes: without adapters, with one, with two, with one without rank."""
    one = random_adapter(base, AdapterPlan((2, 0, 1), 2.0), 1)
    two = random_adapter(base, AdapterPlan((0, 3, 1), 1.0, "q_v"), 2)
    return [(), (one,), (two, one), (random_adapter(base, AdapterPlan((0, 0, 0)), 3),)]


@cache
def slow(family: str, new_tokens: int, end: int) -> list[list[int]]:
    """Returns what transformers generates, the end token left out."""
    base, found = base_of(family), []
    for lane, prompt in PROMPTS:
        adapters = [one for one in stacks(base)[lane] if one.plan.total_rank > 0]
        with attached(base, [one.plan for one in adapters]) as names:
            for name, adapter in zip(names, adapters, strict=True):
                load_weights(base.model, name, adapter)
            ids = torch.tensor([prompt])
            output = base.model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                do_sample=False,
                max_new_tokens=new_tokens,
                eos_token_id=None if end == NONE else end,
                pad_token_id=0,
            )
        tokens = output[0, len(prompt) :].tolist()
        found.append(tokens[: tokens.index(end)] if end in tokens else tokens)
    return found


def fast(family: str, new_tokens: int, end: int) -> list[list[int]]:
    base = base_of(family)
    lanes = Lanes(None, frozen(stacks(base), paths_of(base), CPU))
    rows = [Row(lane, Encoded(prompt, ())) for lane, prompt in PROMPTS]
    return generate(stack_of(base), rows, lanes, new_tokens, (end,))


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "qwen3"])
def test_generations_are_those_of_transformers(family: str) -> None:
    assert fast(family, 12, NONE) == slow(family, 12, NONE)


@pytest.mark.parametrize("new_tokens", [1, 2, 5])
def test_no_more_tokens_than_asked_for(new_tokens: int) -> None:
    found = fast("llama", new_tokens, NONE)
    assert found == slow("llama", new_tokens, NONE)
    assert {len(tokens) for tokens in found} == {new_tokens}


def first_tokens() -> list[int]:
    return [tokens[0] for tokens in slow("llama", 12, NONE)]


def test_a_row_whose_first_token_ends_it_says_nothing() -> None:
    end = first_tokens()[1]
    found = fast("llama", 12, end)
    assert found[1] == []
    assert found == slow("llama", 12, end)


def common_token() -> int:
    """Returns a token that many rows come to, though not at once."""
    seen = Counter(token for tokens in slow("llama", 12, NONE) for token in {*tokens[1:]})
    return seen.most_common(1)[0][0]


@pytest.mark.parametrize("leave", [0.01, 0.25, 2.0], ids=["at once", "some", "none"])
def test_rows_that_end_early_leave_without_a_trace(
    leave: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "_LEAVE", leave)
    end = common_token()
    found = fast("llama", 12, end)
    assert len({len(tokens) for tokens in found}) > 1
    assert found == slow("llama", 12, end)


def test_rows_that_have_ended_are_not_computed_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    widths, real = [], decoding._step

    def spy(stack: Any, tokens: torch.Tensor, *rest: Any) -> torch.Tensor:
        widths.append(len(tokens))
        return real(stack, tokens, *rest)

    monkeypatch.setattr(decoding, "_step", spy)
    monkeypatch.setattr(decoding, "_LEAVE", 0.01)
    found = fast("llama", 12, common_token())
    assert (
        widths
        == [sum(len(tokens) > step for tokens in found) for step in range(max(map(len, found)))][
            :11
        ]
    )


def test_no_step_is_taken_once_all_have_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    base, end = base_of("llama"), first_tokens()[0]
    monkeypatch.setattr(decoding, "_step", None)
    rows = [Row(0, Encoded(PROMPTS[0][1], ()))] * 3
    assert generate(stack_of(base), rows, Lanes(), 12, (end,)) == [[], [], []]

"""Forward and backward by hand against autograd through the block of transformers, with PEFT."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from adapters.making import model_of
from adapters.packed.making import lanes_of, random_adapter, random_rows, stack_of
from milp_search.adapters.base_model import BaseModel
from milp_search.adapters.jobs import Adapter
from milp_search.adapters.lora import attached, load_weights
from milp_search.adapters.packed import sublayers
from milp_search.adapters.packed.factors import Factors
from milp_search.adapters.packed.rows import PackedRows
from milp_search.adapters.packed.sublayers import (
    Core,
    Lanes,
    attention,
    attention_backward,
    feed_forward,
    feed_forward_backward,
)
from milp_search.core.plan import AdapterPlan

PLANS = [
    AdapterPlan((0, 2, 0), 2.0),
    AdapterPlan((0, 3, 0), 1.0, "q_v"),
    AdapterPlan((0, 1, 0), 0.5, "up"),
    AdapterPlan((2, 0, 1), 1.0),
]
ROWS = ((0, 5), (1, 1), (1, 9), (2, 4), (3, 7))


def check(found: torch.Tensor, expected: torch.Tensor) -> None:
    """Checks numbers of size 1 to 3 to 1e-5."""
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-5)


Pairs = dict[str, tuple[torch.Tensor, torch.Tensor]]


def slow(
    base: BaseModel, stacks: list[tuple[Adapter, ...]], h: torch.Tensor, dout: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, list[Pairs]]:
    """Runs layer 1 row by row; returns output, gradient of h, and gradients of the top adapters."""
    out, leaf = torch.zeros_like(h), h.clone().requires_grad_()
    found: list[Any] = [{} for _ in stacks]
    ends = torch.tensor([length for _, length in ROWS]).cumsum(0).tolist()
    for (lane, length), end in zip(ROWS, ends, strict=True):
        part, stack = slice(end - length, end), stacks[lane]
        with attached(base, [adapter.plan for adapter in stack]) as names:
            for name, adapter in zip(names, stack, strict=True):
                load_weights(base.model, name, adapter)
            top = stack[-1].tensors
            modules = {path: base.model.get_submodule(path) for path in top}
            pairs = {p: (m.lora_A[names[-1]].weight, m.lora_B[names[-1]].weight)
                     for p, m in modules.items()}  # fmt: skip
            for weight in (w for pair in pairs.values() for w in pair):
                weight.requires_grad_(True)
            places = torch.arange(length).unsqueeze(0)
            y = base.model.model.layers[1](
                leaf[part].unsqueeze(0),
                position_ids=places,
                position_embeddings=base.model.model.rotary_emb(h, position_ids=places),
            )[0]
            y.backward(dout[part])
            out[part] = y.detach()
            for path, pair in pairs.items():
                before = found[lane].get(path, (0.0, 0.0))
                new = (torch.zeros_like(w) if w.grad is None else w.grad for w in pair)
                found[lane][path] = tuple(x + y for x, y in zip(before, new, strict=True))
    assert leaf.grad is not None
    return out, leaf.grad, found


def packed(
    base: BaseModel, lanes: Lanes, rows: PackedRows, h: torch.Tensor, dout: torch.Tensor,
    kept: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor, Factors]:  # fmt: skip
    stack = stack_of(base)
    assert lanes.trained is not None
    gradients = lanes.trained.like(torch.zeros_like(lanes.trained.flat))
    rotation = stack.rotate(rows.positions)
    spans = rows.spans if kept is None else rows.spans.at(kept)
    with torch.no_grad():
        middle, seen = attention(stack, 1, h, rows, lanes, rotation, trace=True, kept=kept)
        out, told = feed_forward(stack, 1, middle, spans, lanes, trace=True)
        assert seen is not None
        assert told is not None
        dh = feed_forward_backward(stack, 1, dout, told, spans, lanes, gradients, deeper=True)
        assert dh is not None
        dh = attention_backward(stack, 1, dh, seen, rows, lanes, gradients, deeper=True)
    assert dh is not None
    return out, dh, gradients


def numbers(rows: PackedRows) -> tuple[torch.Tensor, torch.Tensor]:
    keyed = torch.Generator().manual_seed(1)
    shape = (len(rows.ids), 32)
    return torch.randn(shape, generator=keyed), 0.1 * torch.randn(shape, generator=keyed)


@pytest.mark.parametrize("stacked", [False, True], ids=["alone", "on frozen ones"])
@pytest.mark.parametrize("short", [0, 128], ids=["fused", "plain"])
@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "qwen3"])
def test_a_block_and_its_gradients_are_those_of_autograd(
    family: str, short: int, stacked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sublayers, "SHORT", short)
    base, rows = model_of(family), random_rows(*ROWS)
    tops = [random_adapter(base, plan, n) for n, plan in enumerate(PLANS)]
    below = [(random_adapter(base, PLANS[n - 1], 9 + n),) for n in range(4)] if stacked else []
    stacks: list[tuple[Adapter, ...]] = [
        (*below[n], top) if below else (top,) for n, top in enumerate(tops)
    ]
    h, dout = numbers(rows)
    out, dh, gradients = packed(base, lanes_of(base, tops, below), rows, h, dout)
    expected = slow(base, stacks, h, dout)
    check(out, expected[0])
    check(dh, expected[1])
    for lane, pairs in enumerate(expected[2]):
        for path, (a, b) in pairs.items():
            da, db = gradients.matrices(path, lane, len(a))
            check(da, a)
            check(db.T, b)


def test_only_some_tokens_kept_give_the_gradients_of_only_those() -> None:
    base, rows = model_of("qwen3"), random_rows(*ROWS)
    lanes = lanes_of(base, [random_adapter(base, plan, n) for n, plan in enumerate(PLANS)])
    h, dout = numbers(rows)
    kept = rows.supervised
    masked = torch.zeros_like(dout).index_copy_(0, kept, dout[kept])
    whole = packed(base, lanes, rows, h, masked)
    part = packed(base, lanes, rows, h, dout[kept], kept)
    check(part[0], whole[0][kept])
    check(part[1], whole[1])
    check(part[2].flat, whole[2].flat)


@pytest.mark.parametrize("longest", [sublayers.SHORT - 1, sublayers.SHORT, sublayers.SHORT + 1])
def test_short_and_long_rows_attend_alike(longest: int, monkeypatch: pytest.MonkeyPatch) -> None:
    keyed = torch.Generator().manual_seed(0)
    q, k, v, do = (torch.randn((2, n, longest, 8), generator=keyed) for n in (4, 2, 2, 4))
    found = []
    for short in (sublayers.SHORT, 0, 10**6):
        monkeypatch.setattr(sublayers, "SHORT", short)
        core = Core(q, k, v, 0.3, trace=True)
        found.append((core.out.detach(), *core.backward(do)))
    for other in found[1:]:
        for mine, theirs in zip(found[0], other, strict=True):
            check(mine, theirs)

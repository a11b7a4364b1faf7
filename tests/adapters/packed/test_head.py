from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import cross_entropy

from adapters.making import model_of
from adapters.packed.making import stack_of
from milp_search.adapters.packed import head
from milp_search.adapters.packed.head import next_tokens, target_losses
from milp_search.adapters.packed.stack import Norm

BASE = model_of("llama", layers=1, tie_word_embeddings=False)
STACK = stack_of(BASE)
N = 7


def numbers() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    keyed = torch.Generator().manual_seed(0)
    h = torch.randn((N, 32), generator=keyed)
    return h, torch.randint(260, (N,), generator=keyed), torch.rand(N, generator=keyed)


@pytest.mark.parametrize("logits", [1, 2 * 260, 3 * 260, 2**20])
def test_losses_and_gradient_are_those_of_autograd_in_parts_of_any_size(
    logits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(head, "LOGITS", logits)
    h, targets, weights = numbers()
    leaf = h.clone().requires_grad_()
    expected = cross_entropy(
        BASE.model.lm_head(BASE.model.model.norm(leaf)), targets, reduction="none"
    )
    (expected * weights).sum().backward()  # type: ignore[no-untyped-call]
    losses, dh = target_losses(STACK, h, targets, weights)
    torch.testing.assert_close(losses, expected.detach())
    torch.testing.assert_close(dh, leaf.grad)
    again, none = target_losses(STACK, h, targets)
    assert none is None
    assert torch.equal(again, losses)


def test_a_target_that_is_as_good_as_impossible_has_a_finite_loss() -> None:
    h, _, weights = numbers()
    stack = replace(STACK, head=replace(STACK.head, weight=STACK.head.weight * 300))
    logits = stack.head.forward(STACK.norm.forward(h)[0])
    worst = logits.argmin(1)
    losses, dh = target_losses(stack, h, worst, weights)
    assert float(losses.min()) > 200.0
    torch.testing.assert_close(losses, cross_entropy(logits, worst, reduction="none"))
    assert dh is not None
    assert bool(dh.isfinite().all())


def test_without_targets_there_is_nothing() -> None:
    h, targets, weights = numbers()
    losses, dh = target_losses(STACK, h[:0], targets[:0], weights[:0])
    assert losses.shape == (0,)
    assert dh is not None
    assert dh.shape == (0, 32)


def test_the_next_token_is_the_likeliest() -> None:
    h, _, _ = numbers()
    logits = BASE.model.lm_head(BASE.model.model.norm(h))
    assert next_tokens(STACK, h).tolist() == logits.argmax(1).tolist()


@pytest.mark.parametrize("shape", [(5, 12), (5, 4, 12)], ids=["states", "states per head"])
def test_the_norm_and_its_gradient_are_those_of_autograd(shape: tuple[int, ...]) -> None:
    keyed = torch.Generator().manual_seed(0)
    h, dy = (torch.randn(shape, generator=keyed) for _ in range(2))
    weight, eps = torch.randn(12, generator=keyed), 1e-3
    leaf = h.clone().requires_grad_()
    expected = weight * leaf / (leaf.pow(2).mean(-1, keepdim=True) + eps).sqrt()
    expected.backward(dy)  # type: ignore[no-untyped-call]
    norm = Norm(weight, eps)
    y, inverse = norm.forward(h)
    torch.testing.assert_close(y, expected.detach())
    torch.testing.assert_close(norm.backward(dy, h, inverse), leaf.grad)

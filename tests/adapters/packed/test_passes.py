from __future__ import annotations

import pytest
import torch

from adapters.making import llama
from adapters.packed.making import lanes_of, random_adapter, random_rows, stack_of
from milp_search.adapters.packed.passes import (
    START,
    Entry,
    entry_of,
    hidden_at,
    losses,
    losses_and_gradients,
    prefix,
)
from milp_search.adapters.packed.sublayers import Lanes
from milp_search.core.plan import AdapterPlan

BASE = llama()
STACK = stack_of(BASE)
ROWS = random_rows((0, 5), (0, 2), (1, 9))


def lanes(plan: AdapterPlan, below: AdapterPlan | None = None) -> Lanes:
    under = [(random_adapter(BASE, below, 7),)] * 2 if below else []
    return lanes_of(BASE, [random_adapter(BASE, plan, n) for n in range(2)], under)


@pytest.mark.parametrize(
    ("plan", "below", "entry"),
    [
        (AdapterPlan((2, 0, 1)), None, Entry(0, True)),
        (AdapterPlan((0, 0, 1)), None, Entry(2, True)),
        (AdapterPlan((0, 1, 1), 1.0, "q_v"), None, Entry(1, False)),
        (AdapterPlan((0, 0, 1)), AdapterPlan((0, 1, 0)), Entry(1, True)),
        (AdapterPlan((0, 1, 0)), AdapterPlan((0, 1, 0), 1.0, "q_v"), Entry(1, False)),
    ],
)
def test_a_pass_begins_where_the_first_lora_is(
    plan: AdapterPlan, below: AdapterPlan | None, entry: Entry
) -> None:
    assert entry_of(lanes(plan, below), 3) == entry


def test_without_lora_it_begins_before_the_last_feed_forward() -> None:
    assert entry_of(Lanes(), 3) == Entry(2, True)
    assert entry_of(lanes(AdapterPlan((0, 0, 0))), 3) == Entry(2, True)


@pytest.mark.parametrize("below", [None, AdapterPlan((0, 1, 0), 1.0, "q_v")])
@pytest.mark.parametrize("plan", [AdapterPlan((0, 0, 3)), AdapterPlan((0, 2, 0), 2.0, "q_v")])
def test_where_a_pass_begins_changes_neither_losses_nor_gradients(
    plan: AdapterPlan, below: AdapterPlan | None
) -> None:
    mixed = lanes(plan, below)
    assert mixed.trained is not None
    highest = entry_of(mixed, 3)
    found = []
    for entry in (START, Entry(0, True), Entry(1, False), highest):
        h = prefix(STACK, ROWS, START, None, entry)
        gradients = mixed.trained.like(torch.zeros_like(mixed.trained.flat))
        told = losses_and_gradients(STACK, ROWS, mixed, entry, h, gradients)
        assert torch.equal(told, losses(STACK, ROWS, mixed, entry, h))
        found.append((told, gradients.flat))
    for told, gradient in found[1:]:
        torch.testing.assert_close(told, found[0][0])
        torch.testing.assert_close(gradient, found[0][1], atol=2e-5, rtol=1e-5)


def test_gradients_add_up_to_those_there_already() -> None:
    mixed = lanes(AdapterPlan((2, 0, 1)))
    assert mixed.trained is not None
    h = prefix(STACK, ROWS, START, None, entry := entry_of(mixed, 3))
    gradients = mixed.trained.like(torch.zeros_like(mixed.trained.flat))
    losses_and_gradients(STACK, ROWS, mixed, entry, h, gradients)
    once = gradients.flat.clone()
    losses_and_gradients(STACK, ROWS, mixed, entry, h, gradients)
    torch.testing.assert_close(gradients.flat, 2 * once)


def test_states_on_top_are_those_of_the_model_at_the_places_asked_for() -> None:
    places, told = torch.tensor([0, 4, 6, 15]), []
    found = hidden_at(STACK, ROWS, Lanes(), places, lambda *given: told.append(given))
    seen: list[torch.Tensor] = []
    handle = BASE.model.model.norm.register_forward_pre_hook(lambda _, x: seen.append(x[0][0]))
    for part in torch.split(ROWS.ids, [5, 2, 9]):
        with torch.no_grad():
            BASE.model(input_ids=part.unsqueeze(0))
    handle.remove()
    torch.testing.assert_close(found, torch.cat(seen)[places])
    assert [(layer, *keys.shape) for layer, keys, _ in told] == [(n, 3, 2, 9, 8) for n in range(3)]

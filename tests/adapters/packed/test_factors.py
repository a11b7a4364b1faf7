from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

from adapters.making import llama
from adapters.packed.making import CPU, paths_of, random_adapter
from milp_search.adapters.jobs import Adapter
from milp_search.adapters.packed.factors import (
    GROUPS,
    Factors,
    add_low_rank,
    frozen,
    low_rank_gradients,
    trainable,
)
from milp_search.adapters.packed.rows import Spans, lane_spans
from milp_search.core.plan import AdapterPlan

BASE = llama(layers=2)
PATHS = paths_of(BASE)
WIDTHS = {"q": (32, 32), "v": (32, 16), "gate": (32, 48), "up": (32, 48), "down": (48, 32)}
# Ranks, scalings, maps and masks that differ; the last lane has nothing in layer 0.
ADAPTERS = [
    random_adapter(BASE, plan, n)
    for n, plan in enumerate(
        [
            AdapterPlan((2, 3), 2.0),
            AdapterPlan((3, 1), 0.5, "up"),
            AdapterPlan((1, 0), 1.0, "down"),
            AdapterPlan((2, 2), 1.5, "q_v"),
            AdapterPlan((0, 4), 1.0),
        ]
    )
]
SIZES = [4, 1, 6, 3, 5]
LANES = [*range(5)]


def spans(*, batched: bool, sizes: Sequence[int] = SIZES) -> Spans:
    return lane_spans(LANES, sizes, CPU, batched=batched)


def inputs(name: str, seed: int = 0) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Returns random inputs of a group's maps, and random gradients of their outputs."""
    keyed = torch.Generator().manual_seed(seed)
    n, d_in = sum(SIZES), WIDTHS[GROUPS[name][0]][0]
    outs = {m: torch.randn(n, WIDTHS[m][1], generator=keyed) for m in GROUPS[name]}
    return torch.randn(n, d_in, generator=keyed), outs


def path_of(layer: int, name: str) -> str:
    return next(path for path, place in PATHS.items() if place == (layer, name))


def lane_by_lane(layer: int, name: str, x: torch.Tensor, leaves: Sequence[Adapter]) -> torch.Tensor:
    """Returns s B A x of a map, one lane after another, zero where a lane has none."""
    parts = []
    for adapter, part in zip(leaves, torch.split(x, SIZES), strict=True):
        delta = torch.zeros(len(part), WIDTHS[name][1])
        if path_of(layer, name) in adapter.tensors:
            a, b = adapter.tensors[path_of(layer, name)]
            delta = adapter.plan.alpha_over_rank * part @ a.T @ b.T
        parts.append(delta)
    return torch.cat(parts)


def added(factors: Factors, layer: int, name: str, *, batched: bool) -> dict[str, torch.Tensor]:
    x, _ = inputs(name)
    ys = {m: torch.zeros(len(x), WIDTHS[m][1]) for m in GROUPS[name]}
    add_low_rank(factors, layer, name, x, ys, spans(batched=batched))
    return ys


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize("name", GROUPS)
def test_each_lane_adds_its_own_low_rank_product(name: str, layer: int, batched: bool) -> None:
    factors = trainable(ADAPTERS, PATHS, CPU)
    x, _ = inputs(name)
    for map_name, y in added(factors, layer, name, batched=batched).items():
        torch.testing.assert_close(y, lane_by_lane(layer, map_name, x, ADAPTERS))


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("name", GROUPS)
def test_a_frozen_stack_adds_the_sum_of_its_adapters(name: str, batched: bool) -> None:
    stacks = [(one, other) for one, other in zip(ADAPTERS, reversed(ADAPTERS), strict=True)]
    x, _ = inputs(name)
    ys = added(frozen(stacks, PATHS, CPU), 1, name, batched=batched)
    for map_name, y in ys.items():
        both = [lane_by_lane(1, map_name, x, lanes) for lanes in (ADAPTERS, ADAPTERS[::-1])]
        torch.testing.assert_close(y, both[0] + both[1])


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("name", GROUPS)
def test_gradients_are_those_of_autograd(name: str, batched: bool) -> None:
    x, dys = inputs(name)
    x.requires_grad_()
    leaves = [
        replace(one, tensors={p: (a.clone().requires_grad_(), b.clone().requires_grad_())
                              for p, (a, b) in one.tensors.items()})
        for one in ADAPTERS
    ]  # fmt: skip
    outs = [(lane_by_lane(1, m, x, leaves) * dys[m]).sum() for m in GROUPS[name]]
    torch.stack(outs).sum().backward()  # type: ignore[no-untyped-call]
    factors = trainable(ADAPTERS, PATHS, CPU)
    gradients, dx = back(factors, name, batched=batched)
    torch.testing.assert_close(dx, x.grad)
    for lane, adapter in enumerate(leaves):
        for path, (a, b) in adapter.tensors.items():
            if PATHS[path][0] == 1 and PATHS[path][1] in GROUPS[name]:
                da, db = gradients.matrices(path, lane, len(a))
                torch.testing.assert_close(da, a.grad)
                torch.testing.assert_close(db.T, b.grad)


def back(factors: Factors, name: str, *, batched: bool) -> tuple[Factors, torch.Tensor]:
    x, dys = inputs(name)
    runs = spans(batched=batched)
    ys = {m: torch.zeros(len(x), WIDTHS[m][1]) for m in GROUPS[name]}
    inner = add_low_rank(factors, 1, name, x, ys, runs)
    gradients = factors.like(torch.zeros_like(factors.flat))
    dx = torch.zeros_like(x)
    low_rank_gradients(factors, gradients, 1, name, x, inner, dys, dx, runs)
    return gradients, dx


def test_gradients_add_up_over_passes() -> None:
    factors = trainable(ADAPTERS, PATHS, CPU)
    x, dys = inputs("middle")
    for batched in (False, True):
        runs, total = spans(batched=batched), torch.zeros_like(factors.flat)
        inner = add_low_rank(factors, 1, "middle", x, {"down": torch.zeros(len(x), 32)}, runs)
        for _ in range(2):
            low_rank_gradients(factors, factors.like(total), 1, "middle", x, inner, dys, None, runs)
        once, _ = back(factors, "middle", batched=batched)
        torch.testing.assert_close(total, 2 * once.flat)


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("name", GROUPS)
def test_the_gradient_of_the_padding_is_zero(name: str, batched: bool) -> None:
    factors = trainable(ADAPTERS, PATHS, CPU)
    gradients, _ = back(factors, name, batched=batched)
    assert gradients.flat.abs().sum() > 0
    own = torch.zeros_like(factors.flat, dtype=torch.bool)
    for lane, adapter in enumerate(ADAPTERS):
        for path, (a, _) in adapter.tensors.items():
            for part in factors.like(own).matrices(path, lane, len(a)):
                part.fill_(True)
    assert own.float().mean() < 0.6
    assert not gradients.flat[~own].any()


@pytest.mark.parametrize("batched", [False, True])
def test_what_is_not_finite_stays_in_its_lane(batched: bool) -> None:
    factors = trainable(ADAPTERS, PATHS, CPU)
    x, dys = inputs("ffn")
    first = slice(0, SIZES[0])
    for z in (x, *dys.values()):
        z[first] = float("nan")
    runs, gradients = spans(batched=batched), factors.like(torch.zeros_like(factors.flat))
    ys = {m: torch.zeros(len(x), 48) for m in GROUPS["ffn"]}
    inner = add_low_rank(factors, 1, "ffn", x, ys, runs)
    low_rank_gradients(factors, gradients, 1, "ffn", x, inner, dys, torch.zeros_like(x), runs)
    assert gradients.flat[0].isnan().any()
    assert gradients.flat[1:].isfinite().all()


def test_what_is_read_is_what_went_in() -> None:
    factors = trainable(ADAPTERS, PATHS, CPU)
    for lane, adapter in enumerate(ADAPTERS):
        again = factors.read(lane, adapter)
        for path, pair in adapter.tensors.items():
            assert all(torch.equal(*both) for both in zip(pair, again.tensors[path], strict=True))


def test_lanes_without_any_rank_have_nothing() -> None:
    factors = frozen([(), (random_adapter(BASE, AdapterPlan((0, 0)), 0),)], PATHS, CPU)
    assert (factors.first_layer, factors.groups, factors.flat.shape) == (None, {}, (2, 0))

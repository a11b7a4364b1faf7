from __future__ import annotations

import pytest
import torch

from adapters.making import llama
from adapters.packed.making import CPU, paths_of, random_adapter, stack_of
from milp_search.adapters.packed.factors import frozen, lane_weights
from milp_search.adapters.packed.memory import (
    MemoryPlan,
    generation_bytes,
    head_bytes,
    is_out_of_memory,
    lane_bytes,
    memory_plan,
    token_bytes,
)
from milp_search.adapters.packed.passes import START, Entry
from milp_search.core.plan import AdapterPlan

BASE = llama()
STACK = stack_of(BASE)
MIB = 2**20


def test_the_budget_is_the_one_given_or_what_is_free() -> None:
    assert memory_plan(CPU, 2.5) == MemoryPlan(int(2.5 * MIB), "cpu")
    assert 16 * MIB < memory_plan(CPU).bytes < 2**45


def test_the_parts_of_the_budget_are_less_than_the_whole() -> None:
    plan = MemoryPlan(200 * MIB, "cuda")
    lanes = plan.lanes(10_000, 1_000) * lane_bytes(10_000, 1_000)
    size = plan.training(STACK, START, 64, 12)
    one_pass = size.slots * token_bytes(STACK, START, 64, 12) + head_bytes(STACK)
    total = lanes + one_pass + plan.prefix_mib * MIB
    assert 0.8 * plan.bytes < total < plan.bytes
    answered = plan.generating(STACK, 64, 16) * generation_bytes(STACK, 64, 16)
    assert answered < plan.bytes


def test_a_pass_is_never_larger_than_is_quick() -> None:
    plan = MemoryPlan(2**40, "cpu")
    size = plan.training(STACK, START, 64, 12)
    assert size.tokens == 1024
    assert size.slots > 10 * size.tokens
    assert plan.generating(STACK, 64, 16) == 8 * 1024


def test_there_is_room_for_one_lane_and_one_row_at_least() -> None:
    plan = MemoryPlan(1, "cpu")
    assert plan.lanes(10**9, 0) == 1
    assert plan.training(STACK, START, 64, 12) == (1, 1)
    assert plan.generating(STACK, 64, 16) == 1


def test_halvings_halve() -> None:
    plan = MemoryPlan(2**40, "cpu")
    whole, halved = (plan.training(STACK, START, 64, 12, halvings=n) for n in (0, 2))
    assert halved == (whole.tokens // 4, whole.slots // 4)
    assert plan.generating(STACK, 64, 16, halvings=2) == 2 * 1024


def test_a_higher_entry_takes_less() -> None:
    entries = [START, Entry(0, True), Entry(1, False), Entry(2, True)]
    each = [token_bytes(STACK, entry, 64, 12, 0.5) for entry in entries]
    assert each == sorted(each, reverse=True)
    assert len(set(each)) == 4


@pytest.mark.parametrize("stacked", [False, True])
def test_a_lanes_weights_are_counted_with_their_padding(stacked: bool) -> None:
    plans = [AdapterPlan((2, 0, 5)), AdapterPlan((0, 3, 0), 1.0, "q_v"), AdapterPlan((4, 0, 0))]
    adapters = [random_adapter(BASE, plan, n) for n, plan in enumerate(plans)]
    stacks = [tuple(adapters)] if stacked else [(adapter,) for adapter in adapters]
    paths = paths_of(BASE)
    assert lane_weights(stacks, paths) == frozen(stacks, paths, CPU).flat.shape[1]


def test_memory_that_runs_out_is_known_by_its_error() -> None:
    with pytest.raises(RuntimeError) as raised:
        torch.empty(2**50)
    assert is_out_of_memory(raised.value)
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert is_out_of_memory(MemoryError())


@pytest.mark.parametrize(
    "message",
    [
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "CUDA error: out of memory",
    ],
)
def test_memory_of_a_gpu_that_runs_out_outside_torchs_allocator_is_known_too(message: str) -> None:
    assert is_out_of_memory(RuntimeError(message))


@pytest.mark.parametrize("error", [RuntimeError("size mismatch"), ValueError("x"), OSError(12)])
def test_other_errors_are_not_taken_for_it(error: Exception) -> None:
    assert not is_out_of_memory(error)

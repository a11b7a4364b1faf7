"""Memory that is left, and plans that fit in it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from milp_search.core.model_shape import LinearMap, ModelShape
from milp_search.core.plan import AdapterPlan, TrialPlan
from milp_search.dispatch.memory import (
    adapters_mib,
    free_bytes,
    plans_that_fit,
    shared_memory_mib,
    training_mib,
    worker_memory_mib,
)
from milp_search.study.spec import DispatchSettings

# 2^14 parameters a rank: with rank 4, three users and one community 1 MiB of float32.
SHAPE = ModelShape(2, "model.layers", (LinearMap("up", "up", 2**13, 2**13),))
PLAN = TrialPlan("logo", AdapterPlan((4, 0)), communities=1)


def test_adapters_take_four_bytes_a_parameter_for_each_user_and_community() -> None:
    assert adapters_mib(PLAN, 3, SHAPE) == 4 * 2**14 * (3 + 1) * 4 / 2**20 == 1.0


def test_injected_memories_are_there_beside_the_adapters_that_begin_with_them() -> None:
    plan = replace(PLAN, method="milp_logo")
    assert training_mib(plan, 3, SHAPE) == 4 * 2**14 * (2 * 3 + 1) * 4 / 2**20
    assert training_mib(PLAN, 3, SHAPE) == adapters_mib(plan, 3, SHAPE) == 1.0, "not on disk"


def test_adapters_made_of_three_pieces_take_three_times_as_much_and_the_pieces_once_more() -> None:
    plan = replace(PLAN, method="per_pcs", communities=0)
    assert adapters_mib(plan, 3, SHAPE) == 4 * 2**14 * (3 * 3) * 4 / 2**20
    # Up to 32 share, whether they are targets or not.
    assert training_mib(plan, 3, SHAPE) == 4 * 2**14 * (3 * 3 + 32) * 4 / 2**20
    assert training_mib(plan, 40, SHAPE) == 4 * 2**14 * (3 * 40 + 40) * 4 / 2**20


@pytest.mark.parametrize(("memory", "count"), [(100.0, 5), (6.0, 3), (5.9, 2), (0.1, 1)])
def test_the_adapters_of_a_pack_fill_half_of_the_memory_at_most(memory: float, count: int) -> None:
    assert plans_that_fit([PLAN] * 5, 3, SHAPE, memory) == count


def test_without_a_shape_all_plans_fit() -> None:
    assert plans_that_fit([PLAN] * 5, 3, None, 0.0) == 5


def test_the_study_file_says_how_much_memory_a_worker_may_fill() -> None:
    assert worker_memory_mib(DispatchSettings(memory_gib=1.5, parallel=3)) == 1536.0


def test_what_is_free_is_shared_by_the_workers() -> None:
    alone = worker_memory_mib(DispatchSettings(parallel=8, local=True))
    shared = worker_memory_mib(DispatchSettings(parallel=8))
    assert alone / shared == pytest.approx(8, rel=0.2)


def test_a_container_may_have_less_than_the_machine(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 9000 kB\nMemAvailable: 3000 kB\n")
    assert free_bytes(meminfo, tmp_path) == 3000 * 1024
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("1000000\n")
    assert free_bytes(meminfo, tmp_path) == 3000 * 1024
    (tmp_path / "memory.max").write_text("1500000\n")
    assert free_bytes(meminfo, tmp_path) == 500000


def test_where_nothing_tells_what_is_free_all_memory_counts(tmp_path: Path) -> None:
    assert free_bytes(tmp_path / "meminfo", tmp_path) > 0


def test_shared_memory_that_is_not_there_has_nothing_free(tmp_path: Path) -> None:
    assert shared_memory_mib(tmp_path) > 0
    assert shared_memory_mib(tmp_path / "shm") == 0.0

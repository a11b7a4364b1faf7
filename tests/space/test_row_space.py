"""Rows of a table: methods with their own defaults, over what the space fixes."""

from __future__ import annotations

import json

import pytest

from milp_search.core.arm import Arm
from milp_search.core.errors import SpecError
from milp_search.core.plan import AdapterPlan
from milp_search.space.row_space import Row, RowSpace, row_plan, row_space, space_from_dict
from milp_search.space.search_space import SearchSpace, configure


def space(**settings: object) -> SearchSpace:
    return SearchSpace("small", 2, configure(settings, 2))


def test_a_row_has_its_methods_defaults() -> None:
    plan = row_plan(space(), Row("OPPU + RAG", "oppu_rag"), users=5)
    assert (plan.method, plan.retrieved_items) == ("oppu", 1)
    assert plan.adapter == AdapterPlan((8, 8), 1.0, "q_v")


def test_a_row_has_what_the_space_fixes_and_not_what_it_searches() -> None:
    narrow = space(lora_rank=4, time_splits=2, communities=[2, 3])
    plan = row_plan(narrow, Row("LoGo", "logo"), users=5)
    assert (plan.adapter.ranks, plan.time_splits, plan.communities) == ((4, 4), 2, 1)


def test_a_method_s_own_default_goes_before_what_the_space_fixes() -> None:
    plan = row_plan(space(retrieved_items=4), Row("OPPU", "oppu"), users=5)
    assert plan.retrieved_items == 0


def test_a_row_s_fields_go_before_everything() -> None:
    row = Row("LoGo", "logo", {"communities": 3, "time_splits": 10})
    plan = row_plan(space(time_splits=2), row, users=5)
    assert (plan.communities, plan.time_splits) == (3, 10)


def test_communities_are_capped_at_the_number_of_users() -> None:
    rows = (Row("c = 10", "logo", {"communities": 10}), Row("c = 20", "logo", {"communities": 20}))
    plans = row_space("table", space(), rows, (0,), users=8).rows
    assert plans["c = 10"] == plans["c = 20"]


def table() -> RowSpace:
    rows = (Row("Base", "base"), Row("OPPU", "oppu"))
    return row_space("table", space(), rows, (3, 5), users=4)


def test_an_arm_is_a_row_with_a_seed() -> None:
    plan = table().plan(Arm({"seed": 5, "row": "OPPU"}))
    assert (plan.method, plan.seed) == ("oppu", 5)
    assert table().size == 4


def test_equal_plans_with_different_seeds_are_different_trials() -> None:
    plans = [table().plan(Arm({"seed": seed, "row": "OPPU"})) for seed in (3, 5)]
    assert plans[0].fingerprint() != plans[1].fingerprint()


@pytest.mark.parametrize(
    "arm",
    [
        Arm({"seed": 4, "row": "OPPU"}),
        Arm({"seed": 3, "row": "other"}),
        Arm({"seed": 3}),
        Arm({"seed": 3, "row": "OPPU", "more": 1}),
    ],
)
def test_an_arm_of_another_table_is_refused(arm: Arm) -> None:
    with pytest.raises(SpecError, match="a row and a seed of the table 'table'"):
        table().plan(arm)


def test_a_table_and_a_space_come_back_from_their_json() -> None:
    for one in (table(), space(lora_rank=[2, 4])):
        assert space_from_dict(json.loads(json.dumps(one.as_dict()))) == one


def test_a_single_seed_or_row_is_fixed_and_no_axis() -> None:
    one = row_space("table", space(), (Row("Base", "base"), Row("OPPU", "oppu")), (3,), users=4)
    assert [axis.name for axis in one.parameters] == ["row"]
    assert one.fixed == {"seed": 3}
    assert one.plan(Arm({"row": "OPPU"})).seed == 3
    assert (
        row_space("table", space(), (Row("Base", "base"),), (3,), users=4).plan(Arm({})).seed == 3
    )

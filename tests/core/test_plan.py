"""What of a plan does not matter is neutral, and old fingerprints stay."""

from __future__ import annotations

from dataclasses import replace

import pytest

from milp_search.core.methods import METHODS
from milp_search.core.plan import AdapterPlan, TrialPlan, plan_from_dict

PLAN = TrialPlan("logo", AdapterPlan((4, 4)), time_splits=5, communities=2, retrieved_items=0)
LIMITED = replace(PLAN, global_users=3, global_periods=2)


def test_limits_of_the_global_adapter_count_where_there_is_one() -> None:
    assert LIMITED.canonical(METHODS["logo"], 8) == LIMITED
    local = LIMITED.canonical(METHODS["oppu"], 8)
    assert (local.global_users, local.global_periods) == (None, None)


def test_a_limit_that_limits_nothing_is_none() -> None:
    whole = replace(PLAN, global_users=8, global_periods=5)
    assert whole.canonical(METHODS["logo"], 8) == PLAN.canonical(METHODS["logo"], 8)


@pytest.mark.parametrize("change", [{"global_users": 3}, {"global_periods": 2}, {"seed": 0}])
def test_a_limit_or_seed_makes_another_fingerprint(change: dict[str, int]) -> None:
    assert replace(PLAN, **change).fingerprint() != PLAN.fingerprint()  # type: ignore[arg-type]


def test_fingerprints_are_those_of_before_these_fields_came() -> None:
    # As written by the version before: sha256 of the sorted JSON of the fields of then.
    assert TrialPlan("base", AdapterPlan((0, 0)), 0, 0, 1).fingerprint() == FINGERPRINT


FINGERPRINT = "7b21a309c751330d"


def test_plans_of_earlier_stores_are_read() -> None:
    old = PLAN.as_dict()
    for name in ("global_users", "global_periods", "seed", "retrieval"):
        del old[name]
    assert plan_from_dict(old) == PLAN


def test_malp_without_items_is_malp_with_one() -> None:
    none, one = (TrialPlan("malp", AdapterPlan((4, 4)), 0, 0, count) for count in (0, 1))
    assert none.canonical(METHODS["malp"]) == one.canonical(METHODS["malp"])
    assert none.canonical(METHODS["oppu"]).retrieved_items == 0

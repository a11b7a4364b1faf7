from __future__ import annotations

from itertools import islice

import pytest

from milp_search.core.plan import AdapterPlan, TrialPlan
from milp_search.search.domain import Domain
from milp_search.search.initial_design import UnseenPlans, grid_points, random_points, sobol_points
from milp_search.search.proposal import SpaceExhausted
from milp_search.space.parameter import Parameter

from .small_space import plan_of, small_space


def three_plans() -> Domain:
    """Four arms of three plans: ranks 1 and 2 are one network."""
    parameter = Parameter("lora_rank", (1, 2, 4, 8))
    return Domain(
        (parameter,),
        lambda arm: TrialPlan("milp", AdapterPlan((max(2, int(arm["lora_rank"])),))),
        {},
    )


def test_sobol_points_are_balanced_over_each_parameter() -> None:
    points = [*islice(sobol_points((2, 4), seed=3), 64)]
    for axis, size in enumerate((2, 4)):
        counts = [sum(point[axis] == value for point in points) for value in range(size)]
        assert counts == [64 // size] * size


@pytest.mark.parametrize("draws", [sobol_points, random_points])
def test_a_sequence_depends_on_its_seed(draws: object) -> None:
    assert callable(draws)
    first, again, other = ([*islice(draws((9, 9), seed), 20)] for seed in (1, 1, 2))
    assert first == again != other


def test_what_comes_next_depends_only_on_what_was_seen() -> None:
    domain = Domain(small_space().parameters, plan_of, {})
    whole = [one.fingerprint for one in UnseenPlans(domain, sobol_points, 0).first(12, set())]
    rest = UnseenPlans(domain, sobol_points, 0).first(7, {*whole[:5]})
    assert len(set(whole)) == 12
    assert [one.fingerprint for one in rest] == whole[5:]


def test_a_sequence_that_goes_on_equals_one_gone_through_anew() -> None:
    domain = Domain(small_space().parameters, plan_of, {})
    small = UnseenPlans(domain, random_points, 0, lambda one: one.plan.adapter.ranks[0] < 4)
    seen: set[str] = set()
    for count in (3, 2, 5, 1, 4):
        anew = UnseenPlans(domain, random_points, 0, lambda one: one.plan.adapter.ranks[0] < 4)
        found = [one.fingerprint for one in small.first(count, seen)]
        assert found == [one.fingerprint for one in anew.first(count, seen)]
        assert found == [one.fingerprint for one in small.first(count, seen)]
        seen |= {*found[::2]}  # the others were not taken


def test_fewer_come_back_near_the_end_and_then_none() -> None:
    domain = three_plans()
    found = UnseenPlans(domain, sobol_points, 0).first(10, set())
    assert len(found) == 3
    with pytest.raises(SpaceExhausted, match="widen"):
        UnseenPlans(domain, random_points, 0).first(1, {one.fingerprint for one in found})


@pytest.mark.parametrize("draws", [sobol_points, random_points])
def test_a_space_without_parameters_has_one_plan(draws: object) -> None:
    assert callable(draws)
    domain = Domain((), lambda arm: TrialPlan("milp", AdapterPlan((1,))), {})
    assert len(UnseenPlans(domain, draws, 0).first(4, set())) == 1


def test_a_grid_lists_every_point_once_the_last_parameter_fastest() -> None:
    assert [*grid_points((2, 3), seed=7)] == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]


def test_a_grid_goes_on_where_it_stopped_and_skips_plans_that_are_the_same() -> None:
    domain = three_plans()
    first, *_ = whole = UnseenPlans(domain, grid_points, 0).first(10, set())
    assert [one.arm["lora_rank"] for one in whole] == [1, 4, 8]
    assert UnseenPlans(domain, grid_points, 0).first(10, {first.fingerprint}) == whole[1:]

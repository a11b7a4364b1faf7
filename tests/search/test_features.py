from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from milp_search.core.arm import Arm
from milp_search.core.plan import AdapterPlan, TrialPlan
from milp_search.search.domain import Domain
from milp_search.search.features import (
    inner_levels,
    placement_features,
    plan_features,
    raw_features,
)
from milp_search.search.presets import Inputs
from milp_search.space.parameter import Parameter
from milp_search.space.space_file import load_search_space, shipped_spaces

from .small_space import parameters_of, plan_of, small_space


@cache
def small_domain() -> Domain:
    return Domain(small_space().parameters, plan_of, {"trainable_params": parameters_of})


def test_features_are_the_realised_network() -> None:
    plan = TrialPlan("logo", AdapterPlan((0, 7, 1)), time_splits=5, communities=1)
    log = math.log1p
    expected = [0, log(7), log(1), log(2), log(8), log(5), log(1), log(1), 0, 0, 0, 1]
    assert plan_features(plan) == pytest.approx(expected)


def test_a_level_between_others_has_a_feature_of_its_own() -> None:
    levels = (("communities", 5), ("communities", 10), ("scope", "community"))
    plan = TrialPlan("logo", AdapterPlan((0, 7, 1)), communities=10)
    assert plan_features(plan, levels)[-3:].tolist() == [0.0, 1.0, 0.0]
    assert plan_features(plan, levels)[:-3].tolist() == plan_features(plan).tolist()


def test_inner_levels_are_those_of_short_lists_of_settings() -> None:
    parameters = (
        Parameter("lora_rank", (2, 8, 32)),
        Parameter("time_splits", (1, 2, 3, 4, 5, 6, 7)),
        Parameter("retrieved_items", (1, 2)),
        Parameter("communities", (1, 5, 10, 20)),
        Parameter("adapter_scope", ("user", "community", "all")),
    )
    expected = (("communities", 5), ("communities", 10), ("scope", "community"))
    assert inner_levels(parameters) == expected


def test_without_adapters_the_first_active_layer_is_beyond_the_last() -> None:
    assert plan_features(TrialPlan("logo", AdapterPlan((0, 0, 0))))[-1] == 3.0


def test_inputs_of_the_corners_span_the_unit_interval() -> None:
    domain = small_domain()
    corners = [(0,) * len(domain.sizes), tuple(size - 1 for size in domain.sizes)]
    inputs = domain.inputs([domain.candidate(point) for point in corners])
    assert inputs.min() == 0.0
    assert inputs.max() == 1.0


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_equal_networks_are_one_candidate(data: st.DataObject) -> None:
    domain = small_domain()
    first, second = (
        domain.candidate(tuple(data.draw(st.integers(0, size - 1)) for size in domain.sizes))
        for _ in range(2)
    )
    same = bool(np.array_equal(domain.inputs([first]), domain.inputs([second])))
    assert same == (first.fingerprint == second.fingerprint)


@cache
def shipped_domain(name: str, method: str, inputs: Inputs) -> Domain:
    space = load_search_space(name, layers=4)
    return Domain(space.parameters, lambda arm: space.plan(arm, method), {}, inputs)


@pytest.mark.parametrize("inputs", ["placement", "ordered", "realised"])
@pytest.mark.parametrize("name", shipped_spaces())
@settings(deadline=None, max_examples=30)
@given(data=st.data())
def test_whatever_a_shipped_space_changes_in_a_plan_the_model_sees(
    data: st.DataObject, name: str, inputs: Inputs
) -> None:
    method = "chat_logo_profile_rag" if name == "logo_blackbox" else "milp_logo"
    domain = shipped_domain(name, method, inputs)
    point = tuple(data.draw(st.integers(0, size - 1)) for size in domain.sizes)
    other = data.draw(st.sampled_from([point, *domain.neighbours(point)]))
    first, second = domain.candidate(point), domain.candidate(other)
    seen = domain.inputs([first, second])
    assert np.array_equal(*seen) == (first.plan == second.plan)


def test_neighbours_differ_in_one_place() -> None:
    domain = small_domain()
    point = (0,) * len(domain.sizes)
    around = [*domain.neighbours(point)]
    assert len(around) == sum(size - 1 for size in domain.sizes)
    assert all(sum(a != b for a, b in zip(point, one, strict=True)) == 1 for one in around)


def test_a_foreign_arm_has_no_point_and_an_own_one_comes_back() -> None:
    domain = small_domain()
    point = tuple(size - 1 for size in domain.sizes)
    assert domain.point(domain.candidate(point).arm) == point
    assert domain.point(Arm({"lora_rank": 3})) is None


def test_a_space_of_one_plan_still_has_an_input() -> None:
    domain = Domain((), lambda arm: TrialPlan("logo", AdapterPlan((1,))), {})
    assert domain.inputs([domain.candidate(())]).tolist() == [[0.0]]


def test_inputs_without_derived_features_are_ranks_and_settings() -> None:
    plan = TrialPlan("logo", AdapterPlan((0, 7, 1)), time_splits=5, communities=1)
    log = math.log1p
    expected = [0, log(7), log(1), log(5), log(1), log(1), 0, 0, 0]
    assert placement_features(plan) == pytest.approx(expected)


def test_raw_inputs_are_the_values_of_an_arm() -> None:
    parameters = (
        Parameter("lora_rank", (2, 8)),
        Parameter("layer_0", (False, True)),
        Parameter("kind", ("a", "b")),
    )
    arm = Arm({"kind": "b", "lora_rank": 8, "layer_0": True})
    assert raw_features(arm, parameters).tolist() == [8.0, 1.0, 1.0]


@pytest.mark.parametrize("inputs", ["raw", "placement", "ordered", "realised"])
def test_the_one_arm_of_a_space_without_parameters_has_one_input(inputs: Inputs) -> None:
    plan = TrialPlan("logo", AdapterPlan((0, 7)), time_splits=1, communities=1)
    domain = Domain([], lambda arm: plan, {}, inputs)
    assert domain.inputs([domain.candidate(())]).tolist() == [[0.0]]


@pytest.mark.parametrize(
    ("inputs", "columns"), [("raw", 8), ("placement", 9), ("ordered", 12), ("realised", 13)]
)
def test_a_domain_shows_the_inputs_that_are_asked_for(inputs: Inputs, columns: int) -> None:
    domain = Domain(small_space().parameters, plan_of, {}, inputs)
    assert domain.candidate((0,) * 8).features.shape == (columns,)


def test_raw_inputs_tell_arms_of_one_network_apart() -> None:
    domain = Domain(small_space().parameters, plan_of, {}, "raw")
    # Without modules the rank does not matter.
    first, second = (domain.candidate((0, rank, 1, 1, 1, 0, 0, 0)) for rank in (0, 1))
    assert first.plan == second.plan
    assert not np.array_equal(first.features, second.features)

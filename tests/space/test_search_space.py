"""Search spaces: arms become plans, and equal networks equal fingerprints."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from milp_search.core.arm import Arm, Value
from milp_search.core.errors import SpecError
from milp_search.core.methods import METHODS
from milp_search.core.model_shape import LinearMap, ModelShape, trainable_parameters
from milp_search.core.plan import AdapterPlan, TrialPlan, plan_from_dict
from milp_search.space.search_space import SearchSpace, configure
from milp_search.space.space_file import load_search_space, shipped_spaces

SPACE = replace(load_search_space("quickstart", layers=3), alpha_over_rank=1.0)
MAPS = (LinearMap("up", "mlp.up", 5, 7), LinearMap("down", "mlp.down", 7, 5))


def arms(space: SearchSpace) -> st.SearchStrategy[Arm]:
    axes = {axis.name: st.sampled_from(axis.values) for axis in space.parameters}
    return st.fixed_dictionaries(axes).map(Arm)


def arm(count: int, rank: int, mask: str, t: int = 2, k: int = 1, c: int = 2) -> Arm:
    layers: dict[str, Value] = {f"ffn_layer_{i}": int(bit) for i, bit in enumerate(mask)}
    searched: dict[str, Value] = {"time_splits": t, "retrieved_items": k, "communities": c}
    return Arm({"lora_count": count, "lora_rank": rank, **layers, **searched})


def network(plan: TrialPlan) -> tuple[object, ...]:
    """Returns what distinguishes two trained networks, written out by hand from the papers."""
    has_global = METHODS[plan.method].global_adapter and sum(plan.adapter.ranks) > 0
    return (
        plan.adapter.ranks,
        (plan.time_splits, plan.communities) if has_global else None,
        plan.retrieved_items,
    )


def test_an_arm_becomes_the_plan_it_describes() -> None:
    assert SPACE.plan(arm(2, 4, "111", t=4, k=2, c=1)) == TrialPlan(
        "milp_logo", AdapterPlan((4, 0, 4)), time_splits=4, communities=1, retrieved_items=2
    )


def test_modules_in_one_layer_sum_their_ranks() -> None:
    assert SPACE.plan(arm(3, 8, "010")).adapter.ranks == (0, 24, 0)


def test_without_modules_count_rank_mask_periods_and_communities_collapse() -> None:
    base = SPACE.plan(arm(0, 2, "111", t=1, k=1, c=1))
    assert base.adapter == AdapterPlan((0, 0, 0))
    assert SPACE.plan(arm(3, 16, "000", t=4, k=1, c=4)) == base
    assert SPACE.plan(arm(0, 2, "111", k=2)) != base


def test_scaling_and_maps_collapse_without_modules() -> None:
    scaled = replace(SPACE, alpha_over_rank=2.0, target_maps="up")
    assert scaled.plan(arm(0, 2, "111")) == SPACE.plan(arm(0, 2, "111"))
    assert scaled.plan(arm(1, 2, "111")).adapter == AdapterPlan((0, 0, 2), 2.0, "up")


def test_periods_and_communities_collapse_without_a_global_adapter() -> None:
    one, other = arm(2, 4, "111", t=1, c=1), arm(2, 4, "111", t=4, c=4)
    assert SPACE.plan(one, "milp") == SPACE.plan(other, "milp")
    assert SPACE.plan(one, "logo") != SPACE.plan(other, "logo")


def test_more_communities_than_users_are_as_many_as_users() -> None:
    two, four = arm(2, 4, "111", c=2), arm(2, 4, "111", c=4)
    assert SPACE.plan(four, max_communities=2) == SPACE.plan(two, max_communities=2)
    assert SPACE.plan(four, max_communities=3) != SPACE.plan(two, max_communities=3)


def test_the_base_method_trains_nothing_and_still_retrieves() -> None:
    plan = SPACE.plan(arm(3, 16, "111", k=2), "base")
    assert plan.adapter == AdapterPlan((0, 0, 0))
    assert plan.retrieved_items == 2


def test_oppu_is_rank_8_on_queries_and_values_of_all_layers_unless_the_space_says_more() -> None:
    bare = SearchSpace("bare", 3, configure({"retrieved_items": [1, 2]}, 3))
    assert bare.plan({"retrieved_items": 1}, "oppu").adapter == AdapterPlan((8, 8, 8), 1.0, "q_v")
    searched = SPACE.plan(arm(1, 4, "110"), "oppu").adapter
    assert searched == AdapterPlan((0, 4, 0), 1.0, "q_v")


def test_a_space_that_names_nothing_keeps_the_defaults() -> None:
    bare = SearchSpace("bare", 2, ())
    assert bare.size == 1
    assert bare.plan({}) == TrialPlan("milp_logo", AdapterPlan((8, 8)))


def test_per_layer_and_derived_readings() -> None:
    named = configure({"lora_rank": [2, 4], "ffn_layer_mask": [1, 0, 1]}, 3)
    derived = SearchSpace("derived", 3, named, count_reading="derived")
    assert derived.plan({"lora_rank": 4}).adapter.ranks == (4, 0, 4)
    counted = configure({"lora_count": [0, 3], "lora_rank": 2, "ffn_layer_mask": [1, 0, 1]}, 3)
    per_layer = SearchSpace("per_layer", 3, counted, count_reading="per_layer")
    assert per_layer.plan({"lora_count": 3}).adapter.ranks == (6, 0, 6)
    assert SearchSpace("one", 3, named, "per_layer").plan({"lora_rank": 4}).adapter.ranks == (
        4,
        0,
        4,
    )


def test_only_complete_arms_with_listed_values_are_contained() -> None:
    good = dict(arm(2, 4, "111"))
    assert SPACE.contains(good)
    assert not SPACE.contains({**good, "lora_rank": 5})
    assert not SPACE.contains({**good, "lora_rank": 4.0})
    assert not SPACE.contains({**good, "ffn_layer_0": True})
    assert not SPACE.contains({**good, "extra": 1})
    assert not SPACE.contains({"lora_rank": 4})


def test_an_arm_of_another_space_is_refused() -> None:
    wrong = {**arm(2, 5, "111"), "extra": 1}
    del wrong["communities"]
    with pytest.raises(SpecError, match="got lora_rank=5, extra=1, no communities"):
        SPACE.plan(wrong)


def test_an_unknown_method_is_refused_with_the_nearest() -> None:
    with pytest.raises(SpecError, match="did you mean `milp_logo`"):
        SPACE.plan(arm(2, 4, "111"), "milp-logo")


@pytest.mark.parametrize("name", shipped_spaces())
def test_a_space_survives_json(name: str) -> None:
    space = load_search_space(name, layers=5)
    assert SearchSpace.from_dict(json.loads(json.dumps(space.as_dict()))) == space


@settings(deadline=None)
@given(st.data(), st.sampled_from(sorted(shipped_spaces())), st.sampled_from(sorted(METHODS)))
def test_any_arm_of_a_shipped_space_gives_a_valid_plan(
    data: st.DataObject, name: str, method: str
) -> None:
    space = load_search_space(name, layers=6)
    chosen = data.draw(arms(space))
    plan = space.plan(chosen, method)
    assert space.contains(chosen)
    assert len(plan.adapter.ranks) == 6
    assert min(plan.adapter.ranks) >= 0
    assert plan.time_splits >= (1 if network(plan)[1] else 0)
    assert plan_from_dict(json.loads(json.dumps(plan.as_dict()))) == plan


@settings(deadline=None)
@given(arms(SPACE))
def test_trainable_parameters_are_n_r_times_the_maps_sizes(chosen: Arm) -> None:
    active = sum(chosen[f"ffn_layer_{layer}"] == 1 for layer in range(3))
    count, rank = chosen["lora_count"], chosen["lora_rank"]
    assert isinstance(count, int)
    assert isinstance(rank, int)
    maps = ModelShape(3, "layers", MAPS).targets("all")
    # (5 + 7) + (7 + 5) = 24
    assert trainable_parameters(SPACE.plan(chosen).adapter, maps) == (
        count * rank * 24 if active else 0
    )


@settings(deadline=None, max_examples=300)
@given(arms(SPACE), arms(SPACE), st.sampled_from(sorted(METHODS)))
def test_equal_networks_and_only_those_have_equal_fingerprints(
    one: Arm, other: Arm, method: str
) -> None:
    first, second = SPACE.plan(one, method), SPACE.plan(other, method)
    same = network(first) == network(second)
    assert (first.fingerprint() == second.fingerprint()) == same


@settings(deadline=None)
@given(arms(SPACE), st.sampled_from(sorted(METHODS)))
def test_a_plan_is_canonical_already(chosen: Arm, method: str) -> None:
    plan, traits = SPACE.plan(chosen, method), METHODS[method]
    again = plan.canonical(traits)
    assert again == plan

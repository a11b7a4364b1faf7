"""The ablations of MiLP's space are the shipped ones where the space is MiLP's."""

from __future__ import annotations

from dataclasses import replace

import pytest

from milp_search.dispatch.comparison.spaces import largest, narrowed
from milp_search.dispatch.comparison.tables import MILP_4
from milp_search.space.search_space import SearchSpace, configure
from milp_search.space.space_file import load_search_space

SHIPPED = {
    "Num": "milp_num",
    "Size": "milp_size",
    "Layer": "milp_layer",
    "Num + Size": "milp_num_size",
    "Num + Layer": "milp_num_layer",
    "Size + Layer": "milp_size_layer",
    "Num + Size + Layer": "milp_num_size_layer",
}


@pytest.mark.parametrize("label", MILP_4)
def test_they_are_the_shipped_ones(label: str) -> None:
    found = narrowed(load_search_space("milp", layers=4), MILP_4[label])
    assert found.dimensions == load_search_space(SHIPPED[label], layers=4).dimensions


def test_a_factor_that_the_space_fixes_is_searched_over_the_papers_values() -> None:
    space = SearchSpace("small", 2, configure({"lora_rank": 4, "communities": [1, 2]}, 2))
    found = narrowed(space, ("lora_rank",))
    assert [axis.name for axis in found.parameters] == ["lora_rank"]
    assert found.parameters[0].values == (8, 16, 32, 64, 96)


def test_the_space_s_own_values_and_scaling_stay() -> None:
    space = load_search_space("quickstart", layers=8)
    found = narrowed(space, ("lora_rank",))
    assert found.parameters[0].values == (2, 4, 8, 16)
    assert found.alpha_over_rank == 4.0
    assert narrowed(space, ("lora_count",)).fixed["lora_rank"] == 2


def test_the_largest_set_up_fills_every_layer_at_the_largest_rank() -> None:
    found = largest(load_search_space("milp", layers=3))
    assert found.size == 1
    assert found.plan({}, "milp").adapter.ranks == (96, 96, 96)


def test_a_count_that_follows_from_the_mask_is_not_set() -> None:
    space = replace(load_search_space("quickstart", layers=2), count_reading="derived")
    assert "lora_count" not in largest(space).fixed
    assert largest(space).plan({}, "milp").adapter.ranks == (16, 16)

"""What every dimension of the table must do."""

from __future__ import annotations

from typing import Any

import pytest

from milp_search.core.methods import METHODS
from milp_search.space.dimension import SettingError
from milp_search.space.dimensions import DIMENSIONS
from milp_search.space.plan_draft import initial_draft

LAYERS = 4
# A searched and a fixed setting of each; a new dimension adds its own.
SEARCHED: dict[str, Any] = {
    "lora_count": {"low": 0, "high": "auto"},
    "lora_rank": [2, 4],
    "ffn_layer_mask": "search",
    "time_splits": [1, 2],
    "retrieved_items": {"low": 0, "high": 2},
    "communities": [1, 3],
    "profile": ["off", "on"],
    "summary_lines": [5, 10],
    "adapter_scope": ["user", "all"],
}
FIXED: dict[str, Any] = {
    "lora_count": "auto",
    "lora_rank": 4,
    "ffn_layer_mask": "upper_half",
    "time_splits": 2,
    "retrieved_items": 0,
    "communities": 3,
    "profile": "on",
    "summary_lines": 10,
    "adapter_scope": "community",
}


def test_the_table_is_covered() -> None:
    assert SEARCHED.keys() == FIXED.keys() == DIMENSIONS.keys()


@pytest.mark.parametrize("name", DIMENSIONS)
def test_a_searched_dimension_has_axes_with_distinct_values(name: str) -> None:
    axes = DIMENSIONS[name].configure(SEARCHED[name], LAYERS).parameters()
    assert axes
    assert all(len(set(axis.values)) == len(axis.values) > 1 for axis in axes)
    assert len({axis.name for axis in axes}) == len(axes)


@pytest.mark.parametrize("name", DIMENSIONS)
def test_a_fixed_dimension_has_axes_of_one_value(name: str) -> None:
    axes = DIMENSIONS[name].configure(FIXED[name], LAYERS).parameters()
    assert axes
    assert all(len(axis.values) == 1 for axis in axes)


@pytest.mark.parametrize("name", DIMENSIONS)
@pytest.mark.parametrize("settings", [SEARCHED, FIXED])
def test_a_dimension_comes_back_from_its_setting(name: str, settings: dict[str, Any]) -> None:
    dimension = DIMENSIONS[name].configure(settings[name], LAYERS)
    assert dimension.name == name
    assert DIMENSIONS[name].configure(dimension.setting(), LAYERS) == dimension


@pytest.mark.parametrize("name", DIMENSIONS)
def test_different_values_make_different_drafts(name: str) -> None:
    dimension = DIMENSIONS[name].configure(SEARCHED[name], LAYERS)
    draft = initial_draft("milp_logo", METHODS["milp_logo"], LAYERS, "budget")
    low = {axis.name: axis.values[0] for axis in dimension.parameters()}
    high = {axis.name: axis.values[-1] for axis in dimension.parameters()}
    assert dimension.apply(draft, low) != dimension.apply(draft, high)
    assert dimension.apply(dimension.apply(draft, high), low) == dimension.apply(draft, low)


@pytest.mark.parametrize("name", DIMENSIONS)
def test_a_setting_of_the_wrong_kind_is_refused(name: str) -> None:
    settings: tuple[Any, ...] = (None, 2.5, True, "nonsense", [[]], {})
    for wrong in settings:
        with pytest.raises(SettingError):
            DIMENSIONS[name].configure(wrong, LAYERS)


def test_integers_are_listed_in_ascending_order() -> None:
    (axis,) = DIMENSIONS["lora_rank"].configure([16, 2, 8], LAYERS).parameters()
    assert axis.values == (2, 8, 16)


@pytest.mark.parametrize(
    ("name", "mask"),
    [
        ("all", (1, 1, 1, 1, 1)),
        ("upper_half", (0, 0, 1, 1, 1)),
        ("top_quarter", (0, 0, 0, 1, 1)),
        ("last", (0, 0, 0, 0, 1)),
        ("none", (0, 0, 0, 0, 0)),
    ],
)
def test_named_masks_are_counted_from_the_top(name: str, mask: tuple[int, ...]) -> None:
    axes = DIMENSIONS["ffn_layer_mask"].configure(name, 5).parameters()
    assert tuple(axis.values[0] for axis in axes) == mask

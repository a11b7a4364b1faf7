"""The readings of MiLP's n, against hand-made examples and their defining properties."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from milp_search.space.count_readings import budget, derived, evenly_spaced, per_layer

MASKS = st.lists(st.integers(0, 1), min_size=1, max_size=40)


def test_two_modules_go_to_the_first_and_the_last_layer() -> None:
    # MiLP, Fig. 2.
    assert budget(2, (1,) * 8) == (1, 0, 0, 0, 0, 0, 0, 1)


def test_two_modules_go_to_the_first_and_the_last_active_layer() -> None:
    assert budget(2, (0, 1, 1, 1, 0)) == (0, 1, 0, 1, 0)


def test_three_modules_in_five_layers_leave_one_free_between_them() -> None:
    assert budget(3, (1,) * 5) == (1, 0, 1, 0, 1)


def test_a_single_module_goes_to_the_last_active_layer() -> None:
    assert budget(1, (1, 1, 1, 0)) == (0, 0, 1, 0)


def test_modules_beyond_the_active_layers_go_round_from_the_first() -> None:
    # 8 = 3 * 2 + 2: two each, the first two one more.
    assert budget(8, (1, 0, 1, 1)) == (3, 0, 3, 2)


def test_no_count_or_no_active_layer_is_the_base_model() -> None:
    assert budget(0, (1, 1)) == (0, 0)
    assert budget(5, (0, 0)) == (0, 0)


def test_the_other_readings() -> None:
    assert derived(7, (1, 0, 1)) == (1, 0, 1)
    assert per_layer(7, (1, 0, 1)) == (7, 0, 7)


@given(st.integers(0, 100), MASKS)
def test_the_budget_is_spent_exactly_and_in_active_layers_only(count: int, mask: list[int]) -> None:
    modules = budget(count, mask)
    assert len(modules) == len(mask)
    assert sum(modules) == (count if any(mask) else 0)
    assert all(active for active, number in zip(mask, modules, strict=True) if number)


@given(st.integers(0, 100), MASKS)
def test_layers_differ_by_at_most_one_module(count: int, mask: list[int]) -> None:
    active = [n for n, on in zip(budget(count, mask), mask, strict=True) if on]
    assert max(active, default=0) - min(active, default=0) <= 1


@given(st.data())
def test_places_keep_both_ends_and_have_equal_gaps_up_to_one(data: st.DataObject) -> None:
    size = data.draw(st.integers(2, 60))
    places = evenly_spaced(data.draw(st.integers(2, size)), size)
    gaps = {after - before for before, after in pairwise(places)}
    assert (places[0], places[-1]) == (0, size - 1)
    assert min(gaps) >= 1
    assert max(gaps) - min(gaps) <= 1

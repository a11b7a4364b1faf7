from __future__ import annotations

import torch

from milp_search.adapters.recent_entries import Entry, RecentEntries


def entry(numbers: int) -> Entry:
    """Returns an entry of four bytes a number."""
    return {"a": torch.zeros(numbers)}, {}


def test_an_entry_that_is_held_is_the_one_added() -> None:
    recent, one = RecentEntries(100), entry(1)
    recent.add("one", one)
    assert recent.get("one") is one
    assert recent.get("other") is None


def test_the_entries_longest_unused_go_first() -> None:
    recent = RecentEntries(100)
    for key in ("a", "b"):
        recent.add(key, entry(12))
    recent.get("a")
    recent.add("c", entry(12))
    assert [key for key in "abc" if recent.get(key)] == ["a", "c"]
    assert recent.size == 96


def test_a_second_entry_of_one_key_takes_the_place_of_the_first() -> None:
    recent = RecentEntries(100)
    recent.add("a", entry(12))
    recent.add("a", entry(1))
    assert recent.size == 4


def test_an_entry_that_would_drive_out_most_others_is_not_held() -> None:
    recent = RecentEntries(100)
    recent.add("a", entry(1))
    recent.add("b", entry(13))
    assert recent.get("a")
    assert recent.get("b") is None

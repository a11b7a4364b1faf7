"""Suggestions for unknown words."""

from __future__ import annotations

from milp_search.space.suggestion import suggestion


def test_a_word_like_no_other_gets_the_list_of_all() -> None:
    assert suggestion("lora_rnak", ("lora_rank", "layers")) == "did you mean `lora_rank`?"
    assert suggestion("xyz", ("lora_rank", "layers")) == "known here: lora_rank, layers"

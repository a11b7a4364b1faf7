from __future__ import annotations

from typing import Any

import torch
from hypothesis import given
from hypothesis import strategies as st

from adapters.making import byte_tokenizer
from milp_search.adapters.encoding import (
    Encoded,
    encode,
    encode_prompt,
    generation_batch,
    training_batch,
)
from milp_search.adapters.jobs import Example

CPU = torch.device("cpu")


def text(tokenizer: Any, ids: tuple[int, ...]) -> str:
    return str(tokenizer.decode(ids))


def test_an_example_is_its_prompt_its_response_and_the_end_token() -> None:
    tokenizer = byte_tokenizer()
    row = encode(tokenizer, Example("ab", " c"), 10)
    assert text(tokenizer, row.prompt) == "ab"
    assert text(tokenizer, row.response) == " c</s>"


def test_the_start_token_stands_first_where_the_tokenizer_has_one() -> None:
    tokenizer = byte_tokenizer(start=True)
    assert text(tokenizer, encode(tokenizer, Example("ab", "c"), 10).prompt) == "<s>ab"
    assert text(tokenizer, encode(tokenizer, Example("", "c"), 10).prompt) == "<s>"


def test_a_long_prompt_loses_its_oldest_part_and_the_end_token_stays() -> None:
    tokenizer = byte_tokenizer(start=True)
    row = encode(tokenizer, Example("abcdef", "xy"), 7)
    assert text(tokenizer, row.prompt) == "<s>def"
    assert text(tokenizer, row.response) == "xy</s>"


def test_a_response_too_long_by_itself_loses_its_end_and_leaves_no_prompt() -> None:
    tokenizer = byte_tokenizer()
    row = encode(tokenizer, Example("abc", "uvwxyz"), 4)
    assert row.prompt == ()
    assert text(tokenizer, row.response) == "uvwx"


def test_the_prompt_of_a_generation_does_not_depend_on_the_response() -> None:
    tokenizer = byte_tokenizer()
    assert text(tokenizer, encode_prompt(tokenizer, "abcdef", 4).prompt) == "cdef"


def test_nothing_to_continue_is_the_end_of_a_text_before() -> None:
    tokenizer = byte_tokenizer()
    assert encode_prompt(tokenizer, "", 4).prompt == (tokenizer.eos_token_id,)


def test_a_prompt_keeps_a_token_however_little_room_there_is() -> None:
    tokenizer = byte_tokenizer(start=True)
    assert text(tokenizer, encode_prompt(tokenizer, "abc", -5).prompt) == "<s>c"


def test_an_end_token_that_a_user_writes_is_plain_text() -> None:
    tokenizer = byte_tokenizer()
    row = encode(tokenizer, Example("a</s>b", "</s>"), 20)
    assert tokenizer.eos_token_id not in row.prompt
    assert row.response.count(tokenizer.eos_token_id) == 1


@given(prompt=st.text(max_size=20), response=st.text(max_size=20), limit=st.integers(2, 40))
def test_no_example_is_longer_than_the_limit(prompt: str, response: str, limit: int) -> None:
    row = encode(byte_tokenizer(start=True), Example(prompt, response), limit)
    assert len(row) <= limit
    assert row.supervised >= 1


def test_a_training_batch_pads_right_and_supervises_responses_only() -> None:
    ids, mask, targets = training_batch([Encoded((1, 2), (3,)), Encoded((), (4, 5))], 9, CPU)
    assert ids.tolist() == [[1, 2, 3], [4, 5, 9]]
    assert mask.tolist() == [[1, 1, 1], [1, 1, 0]]
    # Token 4 is the first of its row: nothing before it can predict it.
    assert targets.tolist() == [[-100, -100, 3], [-100, 5, -100]]


def test_a_generation_batch_pads_left_and_holds_prompts_only() -> None:
    ids, mask = generation_batch([Encoded((1, 2), (3,)), Encoded((4,), ())], 9, CPU)
    assert ids.tolist() == [[1, 2], [9, 4]]
    assert mask.tolist() == [[1, 1], [0, 1]]


def test_the_border_is_after_the_prompt_or_after_the_first_token() -> None:
    assert (Encoded((1, 2), (3, 4)).border, Encoded((1, 2), (3, 4)).supervised) == (2, 2)
    assert (Encoded((), (3, 4)).border, Encoded((), (3, 4)).supervised) == (1, 1)

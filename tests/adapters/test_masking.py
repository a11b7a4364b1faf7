from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from adapters.encoders import WORDS, word_tokenizer
from milp_search.adapters.encoding import text_tokens
from milp_search.adapters.lora import generator
from milp_search.adapters.masking import MaskedText, masked_answer, masked_batch, masked_text

TOKENIZER = word_tokenizer()
COMEDY, SCIENCE, FICTION = (
    TOKENIZER.convert_tokens_to_ids(word) for word in ("comedy", "science", "fiction")
)
MASK, SEPARATOR = TOKENIZER.mask_token_id, TOKENIZER.sep_token_id


def shown(row: MaskedText) -> str:
    return str(TOKENIZER.decode(row.ids))


def test_a_prompt_ends_with_masks_that_hold_the_answer() -> None:
    row = masked_answer(TOKENIZER, "a film :", (SCIENCE, FICTION), 2, 20)
    assert shown(row) == "<s> a film : <mask> <mask> </s>"
    assert row.targets == (-100, -100, -100, -100, SCIENCE, FICTION, -100)
    assert row.supervised == 2


def test_answers_of_any_length_look_alike_and_shorter_ones_end_with_separators() -> None:
    short = masked_answer(TOKENIZER, "a film :", (COMEDY,), 2, 20)
    assert short.ids == masked_answer(TOKENIZER, "a film :", (SCIENCE, FICTION), 2, 20).ids
    assert short.targets[4:6] == (COMEDY, SEPARATOR)
    assert masked_answer(TOKENIZER, "", (COMEDY, 9, 8), 2, 20).targets[1:3] == (COMEDY, 9)


def test_a_long_prompt_loses_its_oldest_part() -> None:
    row = masked_answer(TOKENIZER, "a film about love :", (COMEDY,), 1, 6)
    assert shown(row) == "<s> about love : <mask> </s>"


def test_a_special_token_that_a_user_writes_is_no_special_token() -> None:
    row = masked_answer(TOKENIZER, "a <mask> </s> film", (COMEDY,), 1, 30)
    assert (row.ids.count(MASK), row.ids.count(SEPARATOR)) == (1, 1)


def test_fifteen_percent_of_a_text_are_masked_and_the_rest_is_shown() -> None:
    text = " ".join(WORDS[:20])
    row = masked_text(TOKENIZER, text, 30, generator("a"))
    tokens = (TOKENIZER.cls_token_id, *text_tokens(TOKENIZER, text), SEPARATOR)
    assert row.supervised == row.ids.count(MASK) == 3
    whole = [a if b == -100 else b for a, b in zip(row.ids, row.targets, strict=True)]
    assert tuple(whole) == tokens


@given(st.integers(0, 30), st.integers(3, 20), st.integers())
def test_masks_are_a_function_of_the_seed_and_at_least_one(
    length: int, limit: int, seed: int
) -> None:
    text = " ".join(WORDS[:length])
    row = masked_text(TOKENIZER, text, limit, generator(seed))
    assert row == masked_text(TOKENIZER, text, limit, generator(seed))
    shown_words = min(length, limit - 2)
    assert row.supervised == min(max(round(0.15 * shown_words), 1), shown_words)
    assert len(row) == shown_words + 2


def test_a_batch_pads_right() -> None:
    rows = [MaskedText((0, 3, 2), (-100, 7, -100)), MaskedText((0, 2), (-100, -100))]
    ids, mask, targets = masked_batch(rows, 1, torch.device("cpu"))
    assert ids.tolist() == [[0, 3, 2], [0, 2, 1]]
    assert mask.tolist() == [[1, 1, 1], [1, 1, 0]]
    assert targets.tolist() == [[-100, 7, -100], [-100, -100, -100]]

from __future__ import annotations

import pytest
import torch

from adapters.packed.making import CPU
from milp_search.adapters.encoding import Encoded
from milp_search.adapters.packed.answering import buckets, prompt_row
from milp_search.adapters.packed.rows import Row, lane_spans, pack_rows

ROWS = [
    Row(0, Encoded((1, 2), (3, 4)), 0.5),
    Row(0, Encoded((), (5,)), 0.5),
    Row(2, Encoded((), (6, 7, 8)), 0.25),
]


def test_tokens_stand_one_after_another_with_their_places() -> None:
    packed = pack_rows(ROWS, CPU)
    assert packed.ids.tolist() == [1, 2, 3, 4, 5, 6, 7, 8]
    assert packed.positions.tolist() == [0, 1, 2, 3, 0, 0, 1, 2]
    assert packed.spans.runs == ((0, 0, 5), (2, 5, 8))


def test_targets_are_predicted_by_the_token_before_them() -> None:
    packed = pack_rows(ROWS, CPU)
    assert packed.supervised.tolist() == [1, 2, 5, 6]
    assert packed.targets.tolist() == [3, 4, 7, 8]
    assert packed.weights.tolist() == [0.5, 0.5, 0.25, 0.25]
    assert packed.target_spans.runs == ((0, 0, 2), (2, 2, 4))
    assert packed.counts == (2, 0, 2)


def test_padding_repeats_the_first_token_of_its_own_row() -> None:
    packed = pack_rows(ROWS, CPU)
    assert packed.shape == (3, 4)
    assert packed.gather.view(3, 4).tolist() == [[0, 1, 2, 3], [4, 4, 4, 4], [5, 6, 7, 5]]
    assert packed.gather[packed.slots].tolist() == [*range(8)]


def test_runs_side_by_side_are_padded_with_their_own_first_token() -> None:
    spans = lane_spans([1, 1, 4], [2, 1, 2], CPU)
    assert spans.lanes.tolist() == [1, 4]
    assert spans.gather.view(2, 3).tolist() == [[0, 1, 2], [3, 4, 3]]
    assert spans.filled[..., 0].tolist() == [[1, 1, 1], [1, 1, 0]]
    assert spans.gather[spans.scatter].tolist() == [*range(5)]


def test_a_lane_without_tokens_has_no_run() -> None:
    assert lane_spans([0, 1, 2], [1, 0, 2], CPU).runs == ((0, 0, 1), (2, 1, 3))
    nothing = lane_spans([0], [0], CPU, batched=True)
    assert (nothing.runs, nothing.batched) == ((), False)


def test_runs_of_some_tokens_keep_their_lanes() -> None:
    spans = lane_spans([0, 1, 2], [3, 2, 2], CPU)
    assert spans.at(torch.tensor([0, 2, 6])).runs == ((0, 0, 2), (2, 2, 3))


@pytest.mark.parametrize(
    ("tokens", "extra", "expected"),
    [
        (12, 0, [[0, 1, 2]]),
        (6, 0, [[1, 2], [0]]),
        (1, 0, [[1], [2], [0]]),
        (12, 2, [[1, 2], [0]]),
    ],
)
def test_buckets_hold_rows_of_similar_length_in_order(
    tokens: int, extra: int, expected: list[list[int]]
) -> None:
    assert buckets(ROWS, tokens, extra) == expected


def test_a_prompt_row_has_no_targets() -> None:
    assert prompt_row(3, ROWS[0].text) == Row(3, Encoded((1, 2), ()))

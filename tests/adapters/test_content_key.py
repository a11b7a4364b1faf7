from __future__ import annotations

import pytest
import torch

from milp_search.adapters.content_key import content_key, tensors_digest

ONE = {"a": torch.tensor([1.0, 2.0]), "b": torch.tensor([[3.0]])}


def test_a_key_is_32_hex_digits() -> None:
    assert len(content_key("a", 1)) == 32
    assert int(content_key("a", 1), 16) >= 0


def test_equal_parts_have_equal_keys() -> None:
    assert content_key("a", {"x": 1, "y": 2}) == content_key("a", {"y": 2, "x": 1})


@pytest.mark.parametrize("other", [("ab", "c"), ("a", "bc", ""), (["a", "bc"],), ("a", "bC")])
def test_parts_do_not_run_into_one_another(other: tuple[object, ...]) -> None:
    assert content_key(*other) != content_key("a", "bc")


def test_half_a_surrogate_pair_has_a_key() -> None:
    assert content_key("\ud83d") != content_key("\ude00")


def test_the_order_of_names_does_not_matter_to_a_digest() -> None:
    assert tensors_digest(ONE) == tensors_digest({"b": ONE["b"], "a": ONE["a"]})


@pytest.mark.parametrize(
    "other",
    [
        {"a": ONE["a"]},
        {"a": ONE["b"], "b": ONE["a"]},
        {**ONE, "b": torch.tensor([3.0])},
        {**ONE, "b": torch.tensor([[3.0]], dtype=torch.float64)},
        {**ONE, "a": torch.tensor([1.0, torch.nextafter(torch.tensor(2.0), torch.tensor(3.0))])},
        {**ONE, "c": torch.zeros(0)},
    ],
)
def test_names_shapes_types_and_every_bit_matter_to_a_digest(
    other: dict[str, torch.Tensor],
) -> None:
    assert tensors_digest(other) != tensors_digest(ONE)


def test_layout_in_memory_does_not_matter_to_a_digest() -> None:
    square = torch.arange(6.0).reshape(2, 3)
    assert tensors_digest({"a": square}) == tensors_digest({"a": square.T.contiguous().T})


def test_numbers_without_a_numpy_type_and_single_ones_have_digests() -> None:
    one, two = torch.tensor(1.0, dtype=torch.bfloat16), torch.tensor(2.0, dtype=torch.bfloat16)
    assert tensors_digest({"a": one}) != tensors_digest({"a": two})

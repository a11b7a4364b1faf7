"""A base model that is taken apart into arrays and rebuilt."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch

from adapters.making import EXAMPLES, gpt2, llama, model_of, response_losses, same, weights
from milp_search.adapters.base_model import BaseModel, load_base_model
from milp_search.adapters.placed_base import PlacedBase, place_base, rebuild_base
from milp_search.core.errors import ModelError


def read_only(placed: PlacedBase) -> PlacedBase:
    """Returns the same with arrays as Ray's object store hands them out."""
    arrays = {name: np.array(array) for name, array in placed.arrays.items()}
    for array in arrays.values():
        array.flags.writeable = False
    return replace(placed, arrays=arrays)


@pytest.mark.parametrize("base", [llama(), gpt2()], ids=["llama", "gpt2"])
def test_a_rebuilt_base_answers_like_the_first(base: BaseModel) -> None:
    again = rebuild_base(read_only(place_base(base)), "cpu")
    for example in EXAMPLES:
        expected = response_losses(base.model, base.tokenizer, example)
        assert torch.equal(response_losses(again.model, again.tokenizer, example), expected)
    assert again.fingerprint == base.fingerprint
    assert again.shape == base.shape
    assert not any(weight.requires_grad for weight in again.model.parameters())
    assert not again.model.training


def test_a_rebuilt_base_on_the_cpu_copies_no_weight() -> None:
    placed = read_only(place_base(llama()))
    again = rebuild_base(placed, "cpu").model.state_dict()
    for name, array in placed.arrays.items():
        assert again[name].data_ptr() == array.ctypes.data


def test_bfloat16_weights_go_through_int16_bit_for_bit() -> None:
    base = llama()
    halved = read_only(place_base(base, half=True))
    base.model.to(torch.bfloat16)
    expected = {name: weight.float() for name, weight in weights(base.model).items()}
    for placed in (halved, read_only(place_base(base))):
        assert {array.dtype for array in placed.arrays.values()} == {np.dtype(np.int16)}
        assert same(weights(rebuild_base(placed, "cpu").model), expected)


@pytest.mark.parametrize("half", [False, True])
def test_tied_weights_travel_once_and_are_tied_again(half: bool) -> None:
    base = model_of("llama", tie_word_embeddings=True)
    placed = place_base(base, half=half)
    sent: list[pickle.PickleBuffer] = []
    pickle.dumps(placed, protocol=5, buffer_callback=sent.append)
    bytes_each = 2 if half else 4
    count = sum(weight.numel() for weight in base.model.parameters())
    assert sum(buffer.raw().nbytes for buffer in sent) == count * bytes_each
    assert placed.size_mib == count * bytes_each / 2**20
    again = rebuild_base(read_only(placed), "cpu").model
    assert again.lm_head.weight is again.model.embed_tokens.weight
    base.model.to(torch.bfloat16 if half else torch.float32).float()
    assert same(weights(again), weights(base.model))


@pytest.mark.gpu
def test_on_cuda_a_rebuilt_base_answers_like_one_that_was_read() -> None:
    read = load_base_model(device="cuda")
    again = rebuild_base(read_only(place_base(load_base_model(device="cpu"))), "cuda")
    assert same(weights(again.model), weights(read.model))
    ids = torch.arange(40, device="cuda").unsqueeze(0)
    assert torch.equal(again.model(ids).logits, read.model(ids).logits)


def test_the_size_counts_four_bytes_a_parameter() -> None:
    base = llama()
    count = sum(weight.numel() for weight in base.model.parameters())
    assert place_base(base).size_mib == count * 4 / 2**20


def test_a_weight_that_is_missing_is_told() -> None:
    placed = place_base(llama())
    name = "model.layers.1.mlp.up_proj.weight"
    arrays = {key: array for key, array in placed.arrays.items() if key != name}
    with pytest.raises(ModelError, match=r"got none for model\.layers\.1\.mlp\.up_proj"):
        rebuild_base(replace(placed, arrays=arrays), "cpu")

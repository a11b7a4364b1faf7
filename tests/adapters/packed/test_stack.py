from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from adapters.making import gpt2, llama, model_of
from adapters.packed.making import stack_of
from milp_search.adapters.packed.agreement import disagreement
from milp_search.adapters.packed.stack import FAMILIES, frozen_stack


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_the_known_families_compute_what_their_models_do(family: str, tied: bool) -> None:
    base = model_of(family, tie_word_embeddings=tied)
    assert disagreement(base, stack_of(base)) is None


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_so_they_do_in_other_types(dtype: torch.dtype) -> None:
    base = model_of("qwen3")
    base.model.to(dtype)
    assert disagreement(base, stack_of(base)) is None


def test_an_unknown_family_is_not_packed() -> None:
    assert frozen_stack(gpt2(), 100) == "model type gpt2"


def test_another_activation_is_not_packed() -> None:
    assert frozen_stack(model_of("llama", hidden_act="gelu"), 100) == "activation gelu"


@pytest.mark.parametrize(
    ("family", "options"),
    [
        ("mistral", {}),
        ("qwen2", {"use_sliding_window": True, "max_window_layers": 0}),
        ("qwen3", {"use_sliding_window": True, "max_window_layers": 0}),
    ],
)
def test_a_window_shorter_than_the_texts_is_not_packed(
    family: str, options: dict[str, Any]
) -> None:
    base = model_of(family, sliding_window=8, **options)
    assert frozen_stack(base, 9) == "attention window of 8 tokens"
    stack = frozen_stack(base, 8)
    assert not isinstance(stack, str)


def test_a_window_that_is_not_in_use_does_not_matter() -> None:
    assert not isinstance(frozen_stack(model_of("qwen2", sliding_window=8), 100), str)


def test_the_frozen_weights_are_the_models_own_memory() -> None:
    base = llama()
    stack = stack_of(base)
    weight = base.model.model.layers[1].mlp.up_proj.weight
    assert stack.blocks[1].maps["up"].weight.data_ptr() == weight.data_ptr()
    assert not stack.blocks[1].maps["up"].weight.requires_grad
    assert stack.width == 32


def doubled(_: Any, __: Any, output: torch.Tensor) -> torch.Tensor:
    return output * 2


def shifted(_: Any, __: Any, output: torch.Tensor) -> torch.Tensor:
    return output.roll(1, dims=-1)


@pytest.mark.parametrize(
    "path",
    ["layers.2.mlp", "layers.0.input_layernorm", "layers.1.self_attn.v_proj", "embed_tokens"],
)
@pytest.mark.parametrize("change", [doubled, shifted])
def test_a_model_that_computes_something_else_is_found_out(
    path: str, change: Callable[..., torch.Tensor]
) -> None:
    base = model_of("llama")
    base.model.model.get_submodule(path).register_forward_hook(change)
    found = disagreement(base, stack_of(base))
    assert found is not None
    assert found.startswith("the blocks of LlamaForCausalLM compute something else (off by ")

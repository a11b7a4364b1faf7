"""Closed forms of memory, by hand for LLaMA-2-7B: 32 layers of width 4096, FFN 11008."""

from __future__ import annotations

from milp_search.core.model_shape import LinearMap, ModelShape
from milp_search.core.plan import AdapterPlan
from milp_search.metrics.memory_use import (
    InferenceSizes,
    adapter_memory,
    inference_sizes,
    prompt_memory,
)

FFN = (
    LinearMap("up", "mlp.gate_proj", 4096, 11008),
    LinearMap("up", "mlp.up_proj", 4096, 11008),
    LinearMap("down", "mlp.down_proj", 11008, 4096),
)
Q, V = LinearMap("q", "q", 4096, 4096), LinearMap("v", "v", 4096, 4096)
LLAMA = ModelShape(32, "model.layers", (Q, V, *FFN))


def test_a_prompt_takes_embeddings_activations_and_attention_for_each_token() -> None:
    # 4096 embedded, 32 x 4096 handed on, 2 x 32 x 4096 keys and values; two bytes each.
    assert prompt_memory(1, inference_sizes(LLAMA)) == 2 * 4096 * (1 + 32 + 64) == 794_624
    assert prompt_memory(2000, inference_sizes(LLAMA)) == 2000 * 794_624
    assert prompt_memory(0, inference_sizes(LLAMA)) == 0


def test_an_adapter_takes_the_parameters_of_its_modules() -> None:
    # A module of rank 8 on the three maps: 8 * 3 * (4096 + 11008) = 362,496 parameters.
    plan = AdapterPlan((8,) * 32)
    assert adapter_memory(plan, LLAMA.targets("all")) == 32 * 362_496 * 2 == 23_199_744
    # Three modules of rank 8 in one layer are one of rank 24.
    assert adapter_memory(AdapterPlan((0, 24)), LLAMA.targets("all"), 4) == 3 * 362_496 * 4


def test_from_30_tokens_on_a_prompt_takes_more_than_the_adapter() -> None:
    adapter = adapter_memory(AdapterPlan((8,) * 32), LLAMA.targets("all"))
    assert prompt_memory(29, inference_sizes(LLAMA)) < adapter
    assert prompt_memory(30, inference_sizes(LLAMA)) > adapter


def test_keys_and_values_may_be_narrower_than_the_embeddings() -> None:
    maps = (
        LinearMap("q", "q", 32, 32), LinearMap("v", "v", 32, 8), LinearMap("up", "up", 32, 48),
    )  # fmt: skip
    narrow = ModelShape(2, "layers", maps)
    assert inference_sizes(narrow, 4) == InferenceSizes(2, 32, 8, 4)
    # 32 + 2 * 32 + 2 * 2 * 8 numbers of four bytes.
    assert prompt_memory(1, inference_sizes(narrow, 4)) == 4 * (32 + 64 + 32)


def test_fused_maps_hold_the_keys_and_values_beside_the_query() -> None:
    up = LinearMap("up", "up", 32, 48)
    gpt2 = ModelShape(3, "h", (LinearMap("qkv", "c_attn", 32, 96), up))
    phi3 = ModelShape(3, "layers", (LinearMap("qkv", "qkv_proj", 32, 64), up))
    assert inference_sizes(gpt2).key_value_width == 32
    assert inference_sizes(phi3).key_value_width == 16

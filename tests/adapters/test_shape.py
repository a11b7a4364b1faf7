from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import nn

from adapters.making import llama
from milp_search.adapters.base_model import read_shape
from milp_search.adapters.shape import model_shape
from milp_search.core.errors import ModelError
from milp_search.core.model_shape import ModelShape

COMMON = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
GATED = {"mlp.gate_proj": ("up", 32, 48), "mlp.up_proj": ("up", 32, 48)}
DOWN = {"mlp.down_proj": ("down", 48, 32)}
QV = {"self_attn.q_proj": ("q", 32, 32), "self_attn.v_proj": ("v", 32, 16)}

# Per family: extra configuration, layer list, and every map with its role and sizes, written
# down from the families' papers and configurations.
FAMILIES: dict[str, tuple[dict[str, Any], str, dict[str, tuple[str, int, int]]]] = {
    "Llama": ({}, "model.layers", QV | GATED | DOWN),
    "Mistral": ({}, "model.layers", QV | GATED | DOWN),
    "Qwen2": ({}, "model.layers", QV | GATED | DOWN),
    # Qwen3's heads are wider than hidden size / heads: q is 32 -> 4 * 16, v is 32 -> 2 * 16.
    "Qwen3": (
        {"head_dim": 16},
        "model.layers",
        {"self_attn.q_proj": ("q", 32, 64), "self_attn.v_proj": ("v", 32, 32)} | GATED | DOWN,
    ),
    "Gemma2": ({"head_dim": 8}, "model.layers", QV | GATED | DOWN),
    # Phi-3 fuses q, k, v (32 + 16 + 16) and gate with up (48 + 48).
    "Phi3": (
        {},
        "model.layers",
        {"self_attn.qkv_proj": ("qkv", 32, 64), "mlp.gate_up_proj": ("up", 32, 96)} | DOWN,
    ),
    "GPT2": (
        {"n_inner": 48},
        "transformer.h",
        {
            "attn.c_attn": ("qkv", 32, 96),
            "mlp.c_fc": ("up", 32, 48),
            "mlp.c_proj": ("down", 48, 32),
        },
    ),
    "OPT": (
        {"ffn_dim": 48, "word_embed_proj_dim": 32},
        "model.decoder.layers",
        {
            "self_attn.q_proj": ("q", 32, 32),
            "self_attn.v_proj": ("v", 32, 32),
            "fc1": ("up", 32, 48),
            "fc2": ("down", 48, 32),
        },
    ),
    # MPT fuses q, k, v and has no configuration of its feed-forward but a factor.
    "Mpt": (
        {"d_model": 32, "n_heads": 4, "n_layers": 3, "expansion_ratio": 2},
        "transformer.blocks",
        {
            "attn.Wqkv": ("qkv", 32, 96),
            "ffn.up_proj": ("up", 32, 128),
            "ffn.down_proj": ("down", 128, 32),
        },
    ),
    "GPTNeoX": (
        {},
        "gpt_neox.layers",
        {
            "attention.query_key_value": ("qkv", 32, 96),
            "mlp.dense_h_to_4h": ("up", 32, 48),
            "mlp.dense_4h_to_h": ("down", 48, 32),
        },
    ),
}


def tiny_config(family: str, **extra: Any) -> Any:
    return getattr(transformers, f"{family}Config")(**{**COMMON, **extra})


def on_meta(config: Any) -> nn.Module:
    with torch.device("meta"):
        model: nn.Module = transformers.AutoModelForCausalLM.from_config(config)
    return model


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_has_its_layers_roles_and_sizes(family: str) -> None:
    extra, path, maps = FAMILIES[family]
    shape = model_shape(on_meta(tiny_config(family, **extra)))
    assert (shape.layers, shape.layers_path) == (3, path)
    assert {m.path: (m.role, m.d_in, m.d_out) for m in shape.maps} == maps


@pytest.mark.parametrize("family", FAMILIES)
def test_query_and_value_can_carry_lora_in_every_family(family: str) -> None:
    shape = model_shape(on_meta(tiny_config(family, **FAMILIES[family][0])))
    assert {m.role for m in shape.targets("q_v")} <= {"q", "v", "qkv"}
    assert shape.targets("q_v")


def test_down_alone_and_up_alone_are_disjoint_and_make_up_all() -> None:
    shape = llama().shape
    up, down = shape.targets("up"), shape.targets("down")
    assert not set(up) & set(down)
    assert {*up, *down} == {*shape.targets("all")} == {*shape.targets("up_down")}


def test_a_model_of_experts_is_refused_by_name() -> None:
    config = tiny_config("Mixtral", num_local_experts=2)
    with pytest.raises(ModelError, match=r"feed-forward(.|\n)*experts cannot be searched"):
        model_shape(on_meta(config))


@pytest.mark.parametrize("family", ["Mamba", "RecurrentGemma"])
def test_a_state_space_model_is_refused(family: str) -> None:
    # The second layer of its pattern (recurrent, recurrent, attention) would be one.
    model = on_meta(tiny_config(family, state_size=4, lru_width=32))
    with pytest.raises(ModelError, match=r"no query map of an attention(.|\n)*[Ss]tate-space"):
        model_shape(model)


def test_a_model_that_mixes_kinds_of_layers_is_refused() -> None:
    model: Any = on_meta(tiny_config("Llama"))
    model.model.layers[2].mlp.up_proj = nn.Linear(32, 40)
    with pytest.raises(ModelError, match=r"layer 2 of model\.layers has other linear maps"):
        model_shape(model)


def test_a_model_without_a_stack_of_layers_is_refused() -> None:
    with pytest.raises(ModelError, match="no stack of equal layers in Linear"):
        model_shape(nn.Linear(2, 2))


def test_a_shape_is_read_from_the_configuration_without_weights(tmp_path: Path) -> None:
    tiny_config("Llama").save_pretrained(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["config.json"]
    assert read_shape(str(tmp_path)) == ModelShape(
        3, "model.layers", model_shape(on_meta(tiny_config("Llama"))).maps
    )


def test_the_embedded_model_has_eight_layers() -> None:
    assert read_shape("embedded").layers == 8

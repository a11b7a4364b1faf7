"""Tiny random models of the families that carry LoRA through plain PEFT, each with its own ways."""

from __future__ import annotations

from typing import Any

import torch
import transformers

from adapters.making import byte_tokenizer
from milp_search.adapters.base_model import BaseModel, as_base_model

_SIZES = {
    "vocab_size": 260,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "initializer_range": 0.2,
    "pad_token_id": None,
    "bos_token_id": None,
    "eos_token_id": None,
}

# What is particular to a family, written down from its configuration class.
FAMILIES: dict[str, dict[str, Any]] = {
    "Llama": {"tie_word_embeddings": True},
    "Qwen2": {"tie_word_embeddings": True},
    "Qwen3": {"head_dim": 16},
    "Mistral": {"sliding_window": 8},
    "Gemma": {"head_dim": 8},
    "Gemma2": {"head_dim": 8, "sliding_window": 8, "query_pre_attn_scalar": 8,
               "attn_logit_softcapping": 5.0, "final_logit_softcapping": 3.0},
    "Gemma3": {"head_dim": 8, "sliding_window": 8, "query_pre_attn_scalar": 8,
               "layer_types": ["sliding_attention", "full_attention", "sliding_attention"]},
    "Phi": {"partial_rotary_factor": 0.5, "num_key_value_heads": 4},
    "Phi3": {"sliding_window": 8},
    "GPT2": {"n_inner": 48},
    "OPT": {"ffn_dim": 48, "word_embed_proj_dim": 16, "do_layer_norm_before": False},
    "GPTNeoX": {"rotary_pct": 0.5, "use_parallel_residual": True},
}  # fmt: skip

# Whose tokenizers put a start token before every text.
_STARTED = ("Llama", "Mistral", "Gemma", "Gemma2", "Gemma3", "OPT")

_CONFIGS = {"Gemma3": "Gemma3TextConfig"}


def tiny_model(family: str) -> BaseModel:
    """Returns a random model of a family, with a start token where the family's texts have one."""
    torch.manual_seed(0)
    config = getattr(transformers, _CONFIGS.get(family, f"{family}Config"))
    model = transformers.AutoModelForCausalLM.from_config(config(**{**_SIZES, **FAMILIES[family]}))
    return as_base_model(family, model, byte_tokenizer(start=family in _STARTED))

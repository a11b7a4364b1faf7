"""Which kinds of base models can be searched, told from their configuration alone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from milp_search.core.errors import ModelError

# Encoders that fill in masked tokens.
ENCODERS = ("bert", "camembert", "modernbert", "roberta", "xlm-roberta")

_NUMBER_OF_EXPERTS = re.compile(r"(n|num|moe_num)_(local_|routed_)?experts")
_DECODERS = "a decoder-only model of the Llama, Qwen, Mistral, Gemma, Phi, GPT-2 or OPT family"
_RATHER = f"Use {_DECODERS}, or for classification and ratings an encoder-only one (RoBERTa, BERT)."


def is_encoder(config: Any) -> bool:
    """Returns whether a model fills in masked tokens instead of continuing a text."""
    return config.model_type in ENCODERS and not getattr(config, "is_decoder", False)


def require_supported(name: str, config: Any, *, trust_remote_code: bool = False) -> None:
    """Refuses kinds of models that nothing here can train.

    Args:
        name: What the user called the model.
        config: Its configuration.
        trust_remote_code: Whether code that comes with the model may be run.

    Raises:
        ModelError: It is an encoder-decoder, a mixture of experts, or no language model.
    """
    kind = config.model_type
    if config.is_encoder_decoder:
        raise ModelError(
            f"base model {name!r} is an encoder-decoder ({kind}): expected one stack of layers, "
            "got two, and no placement of LoRA over both is known here",
            remedy=_RATHER,
        )
    experts = max(_expert_counts(config.to_dict()), default=0)
    if experts > 1:
        raise ModelError(
            f"base model {name!r} is a mixture of {experts} experts ({kind}): expected "
            "feed-forward linear maps in every layer, and LoRA cannot be placed on experts here",
            remedy=f"Use the dense model of the family, or {_DECODERS}.",
        )
    if kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES or kind in ENCODERS:
        return
    if "AutoModelForCausalLM" not in (getattr(config, "auto_map", None) or ()):
        raise ModelError(
            f"base model {name!r} ({kind}) is neither a causal language model nor one of the "
            f"encoders {', '.join(ENCODERS)}",
            remedy=_RATHER,
        )
    if not trust_remote_code:
        raise own_code(name)


def own_code(name: str) -> ModelError:
    """Returns the refusal of a model that only runs by code of its own."""
    return ModelError(
        f"base model {name!r} comes with code of its own (auto_map), which has to be run to load "
        "it, with your rights and over your data",
        remedy="Read that code, then allow it by --trust-remote-code, or by trust_remote_code: "
        f"true in the study file. Or use {_DECODERS}.",
    )


def _expert_counts(config: dict[str, Any]) -> Iterator[int]:
    """Yields the numbers of experts in a configuration and in those inside it."""
    for key, value in config.items():
        if isinstance(value, dict):
            yield from _expert_counts(value)
        elif isinstance(value, int) and _NUMBER_OF_EXPERTS.fullmatch(key):
            yield value

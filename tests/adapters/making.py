"""Tiny random models with a byte-level tokenizer, and plain PyTorch to compare with."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch.nn.functional import cross_entropy
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from milp_search.adapters.base_model import BaseModel, as_base_model
from milp_search.adapters.jobs import Example

EXAMPLES = (
    Example("ab cd", " xyz"),
    Example("a much longer prompt than the others", " yes"),
    Example("", "Question: hi\nAnswer: no"),
    Example("q", " a rather long answer, this one"),
    Example("cd ef", " xy"),
)


@cache
def byte_tokenizer(*, start: bool = False) -> Any:
    """Returns a tokenizer with one token per byte; `start` gives it a start token."""
    vocab = {token: i for i, token in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    plain = Tokenizer(models.BPE(vocab, []))
    plain.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    plain.decoder = decoders.ByteLevel()
    special = {"eos_token": "</s>", "pad_token": "<pad>"} | ({"bos_token": "<s>"} if start else {})
    return PreTrainedTokenizerFast(tokenizer_object=plain, **special)


def llama(layers: int = 3, seed: int = 0, *, start: bool = False) -> BaseModel:
    """Returns a random Llama of width 32 whose weights are large enough to have opinions."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=260,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.2,
        bos_token_id=None,
        eos_token_id=None,
    )
    return as_base_model("tiny", LlamaForCausalLM(config), byte_tokenizer(start=start))


_FAMILIES: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "llama": (LlamaConfig, LlamaForCausalLM, {"attention_bias": True, "mlp_bias": True}),
    "mistral": (MistralConfig, MistralForCausalLM, {"head_dim": 12}),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM, {}),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM, {"head_dim": 12}),
}


def model_of(family: str, layers: int = 3, seed: int = 0, **options: Any) -> BaseModel:
    """Returns a random model of a family with its own specialities.

    Llama has biases everywhere here, Mistral heads of another width than width / heads, Qwen 2
    biases of queries, keys and values, Qwen 3 norms of queries and keys. `options` go into the
    configuration.
    """
    torch.manual_seed(seed)
    config_type, model_type, own = _FAMILIES[family]
    sizes = {
        "vocab_size": 260,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "initializer_range": 0.2,
        "bos_token_id": None,
        "eos_token_id": None,
    }
    model = model_type(config_type(**{**sizes, **own, **options}))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            # They start as zeros and ones, which would hide a mistake.
            if name.endswith("bias") or "norm" in name:
                weight += 0.2 * torch.randn(weight.shape)
    return as_base_model(family, model, byte_tokenizer())


def gpt2(layers: int = 3, seed: int = 0) -> BaseModel:
    """Returns a random GPT-2, whose linear maps are `Conv1D`."""
    torch.manual_seed(seed)
    config = GPT2Config(
        vocab_size=260,
        n_embd=32,
        n_layer=layers,
        n_head=4,
        n_positions=128,
        initializer_range=0.2,
        bos_token_id=None,
        eos_token_id=None,
    )
    return as_base_model("gpt2", GPT2LMHeadModel(config), byte_tokenizer())


def weights(model: Any) -> dict[str, torch.Tensor]:
    """Returns a copy of all weights by name."""
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    """Returns whether two sets of weights agree bit for bit, names included."""
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def response_losses(model: Any, tokenizer: Any, example: Example) -> torch.Tensor:
    """Returns the loss of each response token of one example, alone in its batch."""
    prompt = tokenizer(example.prompt)["input_ids"]
    if tokenizer.bos_token_id is not None:
        prompt = [tokenizer.bos_token_id, *prompt]
    response = [*tokenizer(example.response)["input_ids"], tokenizer.eos_token_id]
    ids = torch.tensor([prompt + response])
    losses = cross_entropy(model(input_ids=ids).logits[0, :-1], ids[0, 1:], reduction="none")
    return losses[max(len(prompt) - 1, 0) :]


def mean_losses(model: Any, tokenizer: Any, examples: Sequence[Example]) -> list[float]:
    """Returns each example's mean loss by the slow way."""
    with torch.no_grad():
        return [float(response_losses(model, tokenizer, one).mean()) for one in examples]

"""A model from a configuration, with users to match: random weights serve for timing."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from setting import Setting
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from milp_search.core.settings import DataSettings, TrainingSettings
from milp_search.core.trial import Objective
from milp_search.study.spec import Budget, DispatchSettings, StudySpec

_SPECIAL = ("<unk>", "</s>", "<pad>")


@dataclass(frozen=True)
class Size:
    """How large the model, its users and their answers are.

    Attributes:
        lengths: Tokens of an example; each is a setting of its own.
        config: Llama's configuration.
        users: Target users.
        items: Interactions per user.
        steps: Optimiser steps of the global stage.
        new_tokens: Tokens of a generation.
    """

    lengths: tuple[int, ...]
    config: dict[str, Any]
    users: int
    items: int
    steps: int
    new_tokens: int


# The shape of Llama 3.2 1B: 1.24 billion weights.
LARGE = Size(
    lengths=(128, 1024),
    config={
        "vocab_size": 128_256,
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "max_position_embeddings": 8192,
    },
    users=8,
    items=24,
    steps=32,
    new_tokens=48,
)
# Weights large enough for the tiny model to have opinions.
SMALL = Size(
    lengths=(32, 64),
    config={
        "vocab_size": 300,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 128,
        "initializer_range": 0.2,
    },
    users=3,
    items=6,
    steps=4,
    new_tokens=6,
)


def built_settings(folder: Path, size: Size, device: str, proposer: str) -> list[Setting]:
    """Returns one setting per length; model and users are written into the folder."""
    _write_model(folder / "model", size, device)
    return [_built(folder, size, length, device, proposer) for length in size.lengths]


def llama(size: Size, device: str) -> LlamaForCausalLM:
    """Returns a Llama of random weights."""
    config = LlamaConfig(
        tie_word_embeddings=True, bos_token_id=None, eos_token_id=1, pad_token_id=2, **size.config
    )
    with torch.device(device):
        return LlamaForCausalLM(config)


def _built(folder: Path, size: Size, length: int, device: str, proposer: str) -> Setting:
    records = folder / f"records-{length}.jsonl"
    _write_records(records, size, length)
    spec = StudySpec(
        name=f"{length} tokens",
        space="quickstart",
        data=DataSettings(path=str(records), targets=size.users, validation=0.2, test=0.2),
        base_model=str(folder / "model"),
        objectives=(
            Objective("loss", "minimize"),
            Objective("rouge_l", "maximize"),
            Objective("trainable_params", "minimize"),
        ),
        proposer=proposer,
        initial_trials=12,
        batch=4,
        budget=Budget(trials=24),
        training=TrainingSettings(
            learning_rate=1e-3,
            batch_size=4,
            tuning_epochs=1,
            global_steps=size.steps,
            max_length=length,
            max_new_tokens=size.new_tokens,
        ),
        dispatch=DispatchSettings(device="cuda" if device.startswith("cuda") else "cpu"),
        test_seeds=(1,),
    )
    return Setting(spec.name, spec, device)


def _write_model(folder: Path, size: Size, device: str) -> None:
    torch.manual_seed(0)
    model = llama(size, device)
    model.to(torch.bfloat16 if device.startswith("cuda") else torch.float32)
    model.save_pretrained(folder)
    words = [
        *_SPECIAL,
        *(f"w{number}" for number in range(model.config.vocab_size - len(_SPECIAL))),
    ]
    vocabulary = {word: number for number, word in enumerate(words)}
    plain = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    plain.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(
        tokenizer_object=plain, unk_token="<unk>", eos_token="</s>", pad_token="<pad>"
    ).save_pretrained(folder)


def _write_records(file: Path, size: Size, length: int) -> None:
    """Writes histories of random words; one word is one token, and queries fill an example."""
    rng = random.Random(0)
    common = min(size.config["vocab_size"] - len(_SPECIAL), 5000)

    def words(count: int) -> str:
        return " ".join(f"w{rng.randrange(common)}" for _ in range(count))

    with open(file, "w", encoding="utf-8") as records:
        for user in range(size.users):
            for time in range(size.items):
                # Some examples are shorter, as anywhere.
                query = words(rng.randint(length // 2, length))
                record = {"user_id": f"user {user}", "timestamp": time, "query": query}
                print(json.dumps({**record, "response": words(max(length // 8, 4))}), file=records)

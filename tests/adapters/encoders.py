"""Tiny random encoders with a word-level tokenizer."""

from __future__ import annotations

import random
from functools import cache
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from milp_search.adapters.base_model import BaseModel, as_base_model

SPECIAL = {
    "cls_token": "<s>",
    "pad_token": "<pad>",
    "sep_token": "</s>",
    "mask_token": "<mask>",
    "unk_token": "<unk>",
}
WORDS = [
    *("Question", "Answer", "Profile", ":", "a", "film", "about", ",", "."),
    *("ship", "star", "robot", "judge", "clown", "thief", "ghost", "king", "farm", "sea", "love"),
    *("war", "comedy", "crime", "drama", "science", "fiction", "1", "2", "3", "4", "5"),
]

SUBJECTS = WORDS[9:21]
LABELS = ("comedy", "crime", "drama", "science fiction")

ENCODERS: dict[str, dict[str, Any]] = {
    "Roberta": {},
    "Bert": {},
    "ModernBert": {"local_attention": 8, "cls_token_id": 0, "sep_token_id": 2},
}


def film_kinds(user: int, count: int) -> list[tuple[str, str]]:
    """Returns films and what a user would call them: each user shuffles the kinds of subjects."""
    draw = random.Random(user)
    taste = dict(zip(draw.sample(SUBJECTS, len(SUBJECTS)), LABELS * 3, strict=True))
    about = [draw.choice(SUBJECTS) for _ in range(count)]
    return [(f"a film about a {one}", taste[one]) for one in about]


@cache
def word_tokenizer() -> Any:
    """Returns a tokenizer with one token per word, which puts `<s>` and `</s>` around a text."""
    vocab = {token: place for place, token in enumerate([*SPECIAL.values(), *WORDS])}
    words = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=words, **SPECIAL)


def encoder(family: str = "Roberta", layers: int = 3, seed: int = 0, **options: Any) -> BaseModel:
    """Returns a random encoder of width 32, with positions for 62 tokens if it is a RoBERTa."""
    torch.manual_seed(seed)
    sizes = {
        "vocab_size": 48,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "max_position_embeddings": 64,
        "initializer_range": 0.2,
        "pad_token_id": 1,
        "bos_token_id": 0,
        "eos_token_id": 2,
    }
    config = getattr(transformers, f"{family}Config")(**{**sizes, **ENCODERS[family], **options})
    model = transformers.AutoModelForMaskedLM.from_config(config)
    return as_base_model(family, model, word_tokenizer())

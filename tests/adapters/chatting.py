"""A byte-level tokenizer with a chat template, and templates that make trouble."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from adapters.making import byte_tokenizer, llama
from milp_search.adapters.base_model import BaseModel, as_base_model

# As ChatML: no system prompt, one line per turn. The brackets are special tokens.
TEMPLATE = (
    "{% for message in messages %}⟦{{ message.role }}\n{{ message.content | trim }}⟧\n{% endfor %}"
    "{% if add_generation_prompt %}⟦assistant\n{% endif %}"
)


def chat_tokenizer(template: str = TEMPLATE) -> Any:
    """Returns a tokenizer with a chat template, whose turns are `⟦role ... ⟧`."""
    tokenizer = deepcopy(byte_tokenizer(start=True))
    tokenizer.add_special_tokens({"extra_special_tokens": ["⟦", "⟧"]})
    tokenizer.chat_template = template
    return tokenizer


def chat_llama() -> BaseModel:
    """Returns a random Llama whose tokenizer has a chat template."""
    model = llama().model
    model.resize_token_embeddings(264, mean_resizing=False)
    return as_base_model("chat", model, chat_tokenizer())

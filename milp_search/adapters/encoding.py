"""Texts to token ids: prompt and response apart, so that the border never moves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from milp_search.adapters.jobs import Example


@dataclass(frozen=True)
class Encoded:
    """Token ids of one example: what is given, and what is supervised (end token included)."""

    prompt: tuple[int, ...]
    response: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.prompt) + len(self.response)


def encode(tokenizer: Any, example: Example, max_length: int) -> Encoded:
    """Returns an example's token ids, at most `max_length` in all.

    A prompt that is too long loses its oldest part, a response that alone is too long its end.
    The start token stands before the prompt, or before the response where there is no prompt.
    """
    start = [tokenizer.bos_token_id] if tokenizer.bos_token_id is not None else []
    prompt = tokenizer(example.prompt, add_special_tokens=False)["input_ids"]
    response = tokenizer(example.response, add_special_tokens=False)["input_ids"]
    response = [*response, tokenizer.eos_token_id][: max_length - len(start)]
    room = max_length - len(start) - len(response)
    prompt = prompt[len(prompt) - room :] if len(prompt) > room else prompt
    return Encoded((*start, *prompt), tuple(response))


def training_batch(
    rows: Sequence[Encoded], pad: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Returns ids, attention mask and targets (rows x length each), padded on the right.

    Targets are -100 wherever a token is not supervised; the very first token of a row has
    nothing before it and is never a target.
    """
    length = max(map(len, rows))
    ids = torch.full((len(rows), length), pad)
    mask = torch.zeros((len(rows), length), dtype=torch.long)
    targets = torch.full((len(rows), length), -100)
    for place, row in enumerate(rows):
        ids[place, : len(row)] = torch.tensor(row.prompt + row.response)
        mask[place, : len(row)] = 1
        first = max(len(row.prompt), 1)
        targets[place, first : len(row)] = ids[place, first : len(row)]
    return ids.to(device), mask.to(device), targets.to(device)


def generation_batch(
    rows: Sequence[Encoded], pad: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns prompt ids and attention mask (rows x length each), padded on the left."""
    length = max(len(row.prompt) for row in rows)
    ids = torch.full((len(rows), length), pad)
    mask = torch.zeros((len(rows), length), dtype=torch.long)
    for place, row in enumerate(rows):
        ids[place, length - len(row.prompt) :] = torch.tensor(row.prompt)
        mask[place, length - len(row.prompt) :] = 1
    return ids.to(device), mask.to(device)

"""Texts for a masked language model: what is masked, and what stands there in truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from milp_search.adapters.encoding import latest, text_tokens

_SHARE = 0.15  # BERT, section 3.1; RoBERTa, section 2.3
_NONE = -100


@dataclass(frozen=True)
class MaskedText:
    """Token ids of one text as the model sees it, and per place the token that was masked there.

    Targets are -100 at places that are not masked.
    """

    ids: tuple[int, ...]
    targets: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def supervised(self) -> int:
        """The number of targets."""
        return sum(target != _NONE for target in self.targets)


def masked_answer(
    tokenizer: Any, prompt: str, answer: Sequence[int], places: int, max_length: int
) -> MaskedText:
    """Returns a prompt that ends with so many masked places, which hold the answer.

    An answer with fewer tokens ends with separators, so that the number of places tells nothing of
    it; one with more loses its end. A prompt that is too long loses its oldest part.
    """
    targets = (*answer, *[tokenizer.sep_token_id] * places)[:places]
    given = latest(text_tokens(tokenizer, prompt), max_length - 2 - places)
    ids = (*given, *[tokenizer.mask_token_id] * places)
    return _between(tokenizer, ids, (*[_NONE] * len(given), *targets))


def masked_text(tokenizer: Any, text: str, max_length: int, random: torch.Generator) -> MaskedText:
    """Returns a text of which random tokens are masked: 15 %, and one at the least.

    A text that is too long loses its end. Every chosen token is masked, none replaced by another
    (ours: that is for models that will see unmasked text later, and these never do).

    Source: BERT, section 3.1; RoBERTa, section 4.1 (new masks in every pass).
    """
    tokens = text_tokens(tokenizer, text)[: max_length - 2]
    count = min(max(round(_SHARE * len(tokens)), 1), len(tokens))
    hidden = {*torch.randperm(len(tokens), generator=random)[:count].tolist()}
    places = range(len(tokens))
    ids = [tokenizer.mask_token_id if place in hidden else tokens[place] for place in places]
    targets = [tokens[place] if place in hidden else _NONE for place in places]
    return _between(tokenizer, ids, targets)


def whole_text(tokenizer: Any, text: str, max_length: int) -> tuple[int, ...]:
    """Returns a text's token ids, nothing masked; one that is too long loses its end."""
    tokens = text_tokens(tokenizer, text)[: max_length - 2]
    return (tokenizer.cls_token_id, *tokens, tokenizer.sep_token_id)


def masked_batch(
    rows: Sequence[MaskedText], pad: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Returns ids, attention mask and targets (rows x length each), padded on the right."""
    length = max(map(len, rows))
    ids = torch.full((len(rows), length), pad)
    mask = torch.zeros((len(rows), length), dtype=torch.long)
    targets = torch.full((len(rows), length), _NONE)
    for place, row in enumerate(rows):
        ids[place, : len(row)] = torch.tensor(row.ids)
        mask[place, : len(row)] = 1
        targets[place, : len(row)] = torch.tensor(row.targets)
    return ids.to(device), mask.to(device), targets.to(device)


def _between(tokenizer: Any, ids: Sequence[int], targets: Sequence[int]) -> MaskedText:
    return MaskedText(
        (tokenizer.cls_token_id, *ids, tokenizer.sep_token_id), (_NONE, *targets, _NONE)
    )

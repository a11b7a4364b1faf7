"""Vectors of texts by the base model, each computed once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice

import torch

from milp_search.adapters.base_model import BaseModel
from milp_search.adapters.encoding import Encoded, training_batch
from milp_search.adapters.job_by_job import in_batches

_KEPT_BYTES = 256 * 2**20  # ours: what vectors kept from call to call may take


class TextVectors:
    """The base's mean last hidden states of texts.

    Vectors are kept from call to call, up to a bound: the base is frozen, and every trial asks for
    the same histories, though for generations of its own.
    """

    def __init__(self, base: BaseModel):
        self._base = base
        self._kept: dict[str, torch.Tensor] = {}

    def of(
        self, texts: Sequence[str], encode: Callable[[str], Encoded], tokens: int
    ) -> torch.Tensor:
        """Returns a vector of each text (texts x width, float32).

        Args:
            texts: The texts.
            encode: Gives the token ids of one of them.
            tokens: Bounds one forward pass, rows x length.

        Returns:
            The vectors, in order.
        """
        missing = [text for text in dict.fromkeys(texts) if text not in self._kept]
        found = in_batches([encode(text) for text in missing], self._means, tokens)
        self._kept.update(zip(missing, found, strict=True))
        vectors = torch.stack([self._kept[text] for text in texts])
        over = len(self._kept) - _KEPT_BYTES // vectors[0].nbytes
        for text in [*islice(self._kept, max(over, 0))]:
            del self._kept[text]
        return vectors

    @torch.no_grad()
    def _means(self, rows: Sequence[Encoded]) -> list[torch.Tensor]:
        pad = int(self._base.tokenizer.pad_token_id)
        ids, mask, _ = training_batch(rows, pad, self._base.device)
        output = self._base.model(input_ids=ids, attention_mask=mask, output_hidden_states=True)
        hidden, weights = output.hidden_states[-1].float(), mask.unsqueeze(-1).float()
        return list(((hidden * weights).sum(1) / weights.sum(1)).cpu())

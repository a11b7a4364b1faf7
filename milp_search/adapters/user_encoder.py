"""The network that makes a soft prompt of the vectors of a user's past."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence

from milp_search.adapters.base_model import BaseModel
from milp_search.adapters.conditioned import draw_weights
from milp_search.adapters.lora import generator

_WIDTH = 64  # ours: of the encoder; a small one, for a population of texts is small
_HEADS = 4  # ours
READ = 32
"""ours: of a past, the latest so many items are read."""


@final
class UserEncoder(nn.Module):
    """Maps the vectors of a user's past items to a soft prompt.

    One layer of self-attention reads the latest items, each with its distance from now; learnt
    queries attend to what it found (a Perceiver's way of making any number of items a few
    vectors). What they read is added to learnt vectors that all users share, which begin as
    embeddings of random tokens (Lester et al. 2021); the last layer begins at 0, so that users
    first differ in nothing.

    Args:
        width: Of the items' vectors.
        tokens: What the shared vectors begin as (vectors x the base's embedding width).
        seed: Of the weights.
    """

    def __init__(self, width: int, tokens: torch.Tensor, seed: int):
        super().__init__()
        self.read = nn.Linear(width, _WIDTH)
        self.ago = nn.Embedding(READ, _WIDTH)
        self.nothing = nn.Parameter(torch.zeros(1, 1, _WIDTH))
        self.attend = nn.TransformerEncoderLayer(
            _WIDTH, _HEADS, 2 * _WIDTH, dropout=0.0, batch_first=True, norm_first=True
        )
        self.queries = nn.Parameter(torch.zeros(len(tokens), _WIDTH))
        self.gather = nn.MultiheadAttention(_WIDTH, _HEADS, batch_first=True)
        self.norm = nn.LayerNorm(_WIDTH)
        self.write = nn.Linear(_WIDTH, tokens.shape[1], bias=False)
        draw_weights(self, "user encoder", seed)
        nn.init.zeros_(self.write.weight)
        self.shared = nn.Parameter(tokens.clone())
        # The users' parts are in units of the base's embeddings.
        self.scale = float(tokens.square().mean().sqrt())

    def forward(self, pasts: Sequence[torch.Tensor]) -> torch.Tensor:
        """Returns a soft prompt for each past (items x width, oldest first; none is a past too)."""
        items, absent = _latest_first(pasts)
        read = self.read(items) + self.ago.weight[: items.shape[1]]
        # A user without items has this one alone, for attention to nothing is no number.
        read = torch.cat([self.nothing.expand(len(pasts), 1, -1), read], 1)
        absent = nn.functional.pad(absent, (1, 0), value=False)
        seen = self.attend(read, src_key_padding_mask=absent)
        queries = self.queries.expand(len(pasts), -1, -1)
        found, _ = self.gather(queries, seen, seen, key_padding_mask=absent, need_weights=False)
        own: torch.Tensor = self.scale * self.write(self.norm(found))
        return self.shared + own


def fresh_encoder(base: BaseModel, width: int, vectors: int, seed: int) -> UserEncoder:
    """Returns an untrained encoder for a base: item vectors of that width to so many vectors."""
    size = len(base.model.get_input_embeddings().weight)
    drawn = torch.randint(size, (vectors,), generator=generator("soft prompt", seed))
    tokens: torch.Tensor = base.model.get_input_embeddings()(drawn.to(base.device))
    return UserEncoder(width, tokens.float().cpu(), seed).to(base.device)


def _latest_first(pasts: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the latest items, the latest first (rows x items x width), and which are padding."""
    items = [past[-READ:].flip(0) for past in pasts]
    present = [torch.ones(len(one), device=one.device) for one in items]
    return pad_sequence(items, batch_first=True), pad_sequence(present, batch_first=True) == 0

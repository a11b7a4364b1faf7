"""A user's past as a soft prompt: vectors in front of the token embeddings of the frozen base."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import final

import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence

from milp_search.adapters.base_model import BaseModel
from milp_search.adapters.conditioned import KnownRow, draw_weights, fit_network
from milp_search.adapters.encoding import (
    Encoded,
    encode,
    encode_prompt,
    generation_batch,
    training_batch,
)
from milp_search.adapters.jobs import AdapterTrainer, Answer, Example, TrainJob
from milp_search.adapters.lora import generator
from milp_search.adapters.peft_trainer import (
    greedy_texts,
    in_batches,
    predict_tokens,
    row_means,
    target_losses,
)
from milp_search.core.settings import TrainingSettings

_WIDTH = 64  # ours: of the encoder; a small one, for a population of texts is small
_HEADS = 4  # ours
_ITEMS = 32  # ours: of a past, the latest so many items are read
_VECTORS = 8  # ours: of a soft prompt
_SHARE = 8  # ours: a soft prompt takes at most the 8th part of a short window


@final
class UserEncoder(nn.Module):
    """Maps the vectors of a user's past items to a soft prompt.

    One layer of self-attention reads the latest items, each with its distance from now; learnt
    queries attend to what it found (a Perceiver's way of making any number of items a few
    vectors). What they read is added to learnt vectors that all users share, which begin as
    embeddings of random tokens; the last layer begins at 0, so that users first differ in nothing.

    Args:
        width: Of the items' vectors.
        tokens: What the shared vectors begin as (vectors x the base's embedding width).
        seed: Of the weights.
    """

    def __init__(self, width: int, tokens: torch.Tensor, seed: int):
        super().__init__()
        self.read = nn.Linear(width, _WIDTH)
        self.ago = nn.Embedding(_ITEMS, _WIDTH)
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
        self.scale = nn.Buffer(tokens.square().mean().sqrt())

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


def fit_encoder(
    trainer: AdapterTrainer, job: TrainJob, pasts: Sequence[torch.Tensor]
) -> UserEncoder:
    """Returns an encoder trained through the frozen base on a job's examples, one past for each.

    The loss is that of the base behind the soft prompt, on response tokens. Without examples the
    encoder stays as it was drawn.
    """
    base, settings = trainer.base, trainer.settings
    width = pasts[0].shape[1] if pasts else 1
    vectors = _vectors(settings)
    encoder = UserEncoder(width, _token_embeddings(base, vectors, job.seed), job.seed)
    encoder.to(base.device)
    rows = [
        _row(base, encode(base.tokenizer, one, settings.max_length - vectors), past, vectors)
        for one, past in zip(job.examples, pasts, strict=True)
    ]

    def losses(batch: Sequence[KnownRow]) -> torch.Tensor:
        return _losses(base, encoder, batch)[0]

    fit_network(encoder, trainer, job, rows, losses)
    return encoder


@torch.no_grad()
def answer_softly(
    trainer: AdapterTrainer,
    encoder: UserEncoder,
    examples: Sequence[Example],
    pasts: Sequence[torch.Tensor],
    *,
    generate: bool,
) -> list[Answer]:
    """Returns one answer per example by the base behind the soft prompt of the past beside it."""
    base, settings = trainer.base, trainer.settings
    vectors, tokens = _vectors(settings), predict_tokens(trainer.halvings)
    room = settings.max_length - vectors
    known = list(zip(examples, pasts, strict=True))

    def means(batch: Sequence[KnownRow]) -> list[float]:
        return row_means(*_losses(base, encoder, batch))

    def texts(batch: Sequence[KnownRow]) -> list[str]:
        ids, mask = generation_batch([row.text for row in batch], _pad(base), base.device)
        inputs = _embedded(base, encoder, ids, mask, batch)
        new = settings.max_new_tokens
        return greedy_texts(base, new, inputs_embeds=inputs, attention_mask=mask)

    rows = [_row(base, encode(base.tokenizer, one, room), past, vectors) for one, past in known]
    answers = [
        Answer(loss, row.supervised, None)
        for loss, row in zip(in_batches(rows, means, tokens), rows, strict=True)
    ]
    if not generate:
        return answers
    room -= settings.max_new_tokens
    prompts = [
        _row(base, encode_prompt(base.tokenizer, one.prompt, room), past, vectors)
        for one, past in known
    ]
    generated = in_batches(prompts, texts, tokens)
    return [replace(one, generated=text) for one, text in zip(answers, generated, strict=True)]


def _losses(
    base: BaseModel, encoder: UserEncoder, rows: Sequence[KnownRow]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the losses of the rows' tokens (rows x length - 1), and the targets."""
    ids, mask, targets = training_batch([row.text for row in rows], _pad(base), base.device)
    inputs = _embedded(base, encoder, ids, mask, rows)
    logits = base.model(inputs_embeds=inputs, attention_mask=mask).logits
    return target_losses(logits, targets), targets


def _embedded(
    base: BaseModel,
    encoder: UserEncoder,
    ids: torch.Tensor,
    mask: torch.Tensor,
    rows: Sequence[KnownRow],
) -> torch.Tensor:
    """Returns the token embeddings, with each row's soft prompt in the places kept for it."""
    embeddings = base.model.get_input_embeddings()(ids)
    soft = encoder([row.known for row in rows]).to(embeddings)
    first = mask.argmax(1, keepdim=True)  # texts may be padded on either side
    places = first + torch.arange(soft.shape[1], device=mask.device)
    everyone = torch.arange(len(rows), device=mask.device).unsqueeze(1)
    placed: torch.Tensor = embeddings.index_put((everyone, places), soft)
    return placed


def _row(base: BaseModel, text: Encoded, past: torch.Tensor, vectors: int) -> KnownRow:
    """Returns a text with places for a soft prompt in front of it, and the past."""
    kept = (_pad(base),) * vectors
    return KnownRow(replace(text, prompt=kept + text.prompt), past.to(base.device))


def _latest_first(pasts: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the latest items, the latest first (rows x items x width), and which are padding."""
    items = [past[-_ITEMS:].flip(0) for past in pasts]
    present = [torch.ones(len(one), device=one.device) for one in items]
    return pad_sequence(items, batch_first=True), pad_sequence(present, batch_first=True) == 0


def _token_embeddings(base: BaseModel, count: int, seed: int) -> torch.Tensor:
    """Returns the base's embeddings of random tokens (count x width, float32)."""
    embed = base.model.get_input_embeddings()
    drawn = torch.randint(len(embed.weight), (count,), generator=generator("tokens", seed))
    tokens: torch.Tensor = embed(drawn.to(base.device))
    return tokens.float().cpu()


def _vectors(settings: TrainingSettings) -> int:
    return max(min(_VECTORS, settings.max_length // _SHARE), 1)


def _pad(base: BaseModel) -> int:
    return int(base.tokenizer.pad_token_id)

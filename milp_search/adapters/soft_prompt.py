"""Soft prompts: vectors of a user's past in front of the token embeddings of the frozen base."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch

from milp_search.adapters.base_model import BaseModel
from milp_search.adapters.checkpoints import Checkpoints
from milp_search.adapters.conditioned import KnownRow, fit_network
from milp_search.adapters.encoding import (
    Encoded,
    PromptEncoder,
    generation_batch,
    training_batch,
)
from milp_search.adapters.job_by_job import in_batches, predict_tokens
from milp_search.adapters.jobs import AdapterTrainer, Answer, Example, TrainJob
from milp_search.adapters.peft_trainer import greedy_texts, row_means, target_losses
from milp_search.adapters.user_encoder import READ, UserEncoder, fresh_encoder
from milp_search.core.settings import TrainingSettings

_VECTORS = 8  # ours: of a soft prompt
_SHARE = 8  # ours: a soft prompt takes at most the 8th part of a short window


def fit_encoder(
    trainer: AdapterTrainer,
    job: TrainJob,
    pasts: Sequence[torch.Tensor],
    checkpoints: Checkpoints | None = None,
) -> UserEncoder:
    """Returns an encoder trained through the frozen base on a job's examples, one past for each.

    A past is the vectors of a user's items (items x width), oldest first. The loss is that of the
    base behind the soft prompt, on response tokens. Without examples the encoder stays as it was
    drawn.
    """
    base, settings = trainer.base, trainer.settings
    width = pasts[0].shape[1] if pasts else 1
    encoder = fresh_encoder(base, width, _vectors(settings), job.seed)
    prompted = _Prompted(base, encoder, settings)
    rows = [prompted.row(*pair) for pair in zip(job.examples, pasts, strict=True)]

    def losses(batch: Sequence[KnownRow]) -> torch.Tensor:
        return prompted.losses(batch)[0]

    fit_network(encoder, trainer, job, rows, losses, checkpoints)
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
    prompted = _Prompted(trainer.base, encoder, trainer.settings)
    pairs, tokens = list(zip(examples, pasts, strict=True)), predict_tokens(trainer.halvings)
    rows = [prompted.row(*pair) for pair in pairs]
    losses = in_batches(rows, prompted.means, tokens)
    texts: list[str] | list[None] = [None] * len(rows)
    if generate:
        prompts = [prompted.prompt_row(*pair) for pair in pairs]
        texts = in_batches(prompts, prompted.texts, tokens)
    return [
        Answer(loss, row.supervised, text)
        for loss, row, text in zip(losses, rows, texts, strict=True)
    ]


@dataclass(frozen=True, eq=False)
class _Prompted:
    """The base behind an encoder's soft prompts.

    A text with its soft prompt is no longer than `max_length`: padding tokens keep the places in
    front of it, and their embeddings are replaced.
    """

    base: BaseModel
    encoder: UserEncoder
    settings: TrainingSettings

    def row(self, example: Example, past: torch.Tensor) -> KnownRow:
        """Returns an example to learn from or to measure."""
        return self._behind(self.encoding.encode(example, _vectors(self.settings)), past)

    def prompt_row(self, example: Example, past: torch.Tensor) -> KnownRow:
        """Returns an example's prompt, to be continued."""
        return self._behind(self.encoding.encode_prompt(example, _vectors(self.settings)), past)

    def losses(self, rows: Sequence[KnownRow]) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the losses of the rows' tokens (rows x length - 1), and the targets."""
        texts = [row.text for row in rows]
        ids, mask, targets = training_batch(texts, self._pad, self.base.device)
        inputs = self._embedded(ids, mask, rows)
        logits = self.base.model(inputs_embeds=inputs, attention_mask=mask).logits
        return target_losses(logits, targets), targets

    def means(self, rows: Sequence[KnownRow]) -> list[float]:
        """Returns each row's mean loss."""
        return row_means(*self.losses(rows))

    def texts(self, rows: Sequence[KnownRow]) -> list[str]:
        """Returns what greedily follows each row."""
        ids, mask = generation_batch([row.text for row in rows], self._pad, self.base.device)
        inputs, new = self._embedded(ids, mask, rows), self.settings.max_new_tokens
        ends = self.encoding.ends
        return greedy_texts(self.base, new, ends, inputs_embeds=inputs, attention_mask=mask)

    def _embedded(
        self, ids: torch.Tensor, mask: torch.Tensor, rows: Sequence[KnownRow]
    ) -> torch.Tensor:
        """Returns the token embeddings, with each row's soft prompt in the places kept for it."""
        embeddings = self.base.model.get_input_embeddings()(ids)
        soft = self.encoder([row.known for row in rows]).to(embeddings)
        first = mask.argmax(1, keepdim=True)  # texts may be padded on either side
        places = first + torch.arange(soft.shape[1], device=mask.device)
        everyone = torch.arange(len(rows), device=mask.device).unsqueeze(1)
        placed: torch.Tensor = embeddings.index_put((everyone, places), soft)
        return placed

    def _behind(self, text: Encoded, past: torch.Tensor) -> KnownRow:
        kept = (self._pad,) * _vectors(self.settings)
        # No more than the encoder reads: every item of a history has a past of its own.
        known = past[-READ:].to(self.base.device)
        return KnownRow(replace(text, prompt=kept + text.prompt), known)

    @cached_property
    def encoding(self) -> PromptEncoder:
        """What turns examples into tokens."""
        return PromptEncoder(self.base.tokenizer, self.settings)

    @property
    def _pad(self) -> int:
        return int(self.base.tokenizer.pad_token_id)


def _vectors(settings: TrainingSettings) -> int:
    return max(min(_VECTORS, settings.max_length // _SHARE), 1)

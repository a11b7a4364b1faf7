"""The trainer of masked language models, which choose among given answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch.nn.functional import cross_entropy

from milp_search.adapters.base_model import BaseModel, require_positions
from milp_search.adapters.encoding import Encoded, text_tokens
from milp_search.adapters.job_by_job import (
    in_batches,
    predict_jobs,
    predict_tokens,
    train_jobs,
)
from milp_search.adapters.jobs import Adapter, Answer, Example, PredictJob, TrainJob
from milp_search.adapters.lora import generator
from milp_search.adapters.masking import (
    MaskedText,
    masked_answer,
    masked_batch,
    masked_text,
    whole_text,
)
from milp_search.adapters.peft_trainer import fit, step_plan
from milp_search.adapters.prompt import answer_text
from milp_search.adapters.text_vectors import TextVectors
from milp_search.core.errors import ModelError
from milp_search.core.settings import TrainingSettings


class EncoderTrainer:
    """An `AdapterTrainer` over a masked language model, job by job.

    A prompt ends with as many masked places as the longest choice has tokens, and shorter answers
    end with separators: with as many places as an answer has tokens, their number would give
    away its length, and training would teach nothing else. The loss of an answer is the mean
    negative log-likelihood over these places, each given the prompt alone; what is "generated" is
    the choice of lowest loss, the first of equal ones. A text without prompt is learned by masked
    language modelling.

    MiLP (section 3.2) has RoBERTa among its base models and does not say how it answers. Here its
    own head does and no new one, so that adapters are all that is trained, as on every other base
    (ours).

    `step_losses` holds, per adapter of the last `train`, the loss of each optimiser step.

    Args:
        base: The frozen base model, an encoder.
        settings: How adapters are trained.
        choices: What an answer may be. Raises ModelError if there are none, or no room for them.
    """

    def __init__(self, base: BaseModel, settings: TrainingSettings, choices: Sequence[str]):
        require_positions(base.name, base.model.config, settings.max_length)
        require_choices(base.name, choices)
        self.base, self.settings, self.choices = base, settings, tuple(choices)
        self.halvings = 0
        self.step_losses: list[list[float]] = []
        self._vectors = TextVectors(base)
        tokens = [text_tokens(base.tokenizer, answer_text(choice)) for choice in choices]
        self._places = max(map(len, tokens))
        _require_room(self._places, settings.max_length)
        rows = [self._asked("", own).targets[1:-1] for own in tokens]
        self._tokens = torch.tensor(rows, device=base.device)

    def train(self, jobs: Sequence[TrainJob]) -> list[Adapter]:
        """Returns one adapter per job, in order; see `AdapterTrainer`."""
        done = train_jobs(self.base, jobs, self.learn)
        self.step_losses = [losses for _, losses in done]
        return [adapter for adapter, _ in done]

    def predict(self, jobs: Sequence[PredictJob]) -> list[list[Answer]]:
        """Returns per job one answer per example, in order; see `AdapterTrainer`."""
        return predict_jobs(self.base, jobs, self._answer)

    def embed(self, texts: Sequence[str]) -> torch.Tensor:
        """Returns the base's mean last hidden state of each text (texts x width, float32)."""
        return self._vectors.of(texts, self._whole, self._predict_tokens)

    def learn(self, job: TrainJob, weights: Sequence[torch.nn.Parameter]) -> list[float]:
        """Trains weights of the model in place as a job says; returns the steps' losses."""
        steps = [
            [self._row(job, number, place) for place in places]
            for number, places in enumerate(step_plan(job, self.settings))
        ]
        return fit(weights, steps, self._summed, self.settings, self.halvings)

    def _row(self, job: TrainJob, step: int, place: int) -> MaskedText:
        example = job.examples[place]
        if example.prompt:
            return self._masked(example)
        random = generator("mask", job.seed, job.key, step, place)
        length = self.settings.max_length
        return masked_text(self.base.tokenizer, example.response, length, random)

    def _masked(self, example: Example) -> MaskedText:
        return self._asked(example.prompt, text_tokens(self.base.tokenizer, example.response))

    def _asked(self, prompt: str, answer: Sequence[int]) -> MaskedText:
        tokenizer, length = self.base.tokenizer, self.settings.max_length
        return masked_answer(tokenizer, prompt, answer, self._places, length)

    def _whole(self, text: str) -> Encoded:
        return Encoded(whole_text(self.base.tokenizer, text, self.settings.max_length), ())

    def _answer(self, job: PredictJob) -> list[Answer]:
        rows = [self._masked(example) for example in job.examples]
        answers = in_batches(rows, self._answers, self._predict_tokens)
        return answers if job.generate else [replace(one, generated=None) for one in answers]

    def _answers(self, rows: Sequence[MaskedText]) -> list[Answer]:
        """Returns one answer per row; what is chosen does not depend on the row's targets."""
        logits, targets = self._at_masks(rows)
        logs = logits.log_softmax(-1).view(len(rows), self._places, -1)
        place = torch.arange(self._places, device=logs.device)
        own = -logs.gather(2, targets.view(len(rows), -1, 1)).mean((1, 2))
        chosen = (-logs[:, place, self._tokens].mean(2)).argmin(1)
        return [
            Answer(loss, self._places, self.choices[choice])
            for loss, choice in zip(own.tolist(), chosen.tolist(), strict=True)
        ]

    def _summed(self, rows: Sequence[MaskedText]) -> torch.Tensor:
        return cross_entropy(*self._at_masks(rows), reduction="sum")

    def _at_masks(self, rows: Sequence[MaskedText]) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns logits (masks x vocabulary) and targets (masks), row after row."""
        pad = int(self.base.tokenizer.pad_token_id)
        ids, mask, targets = masked_batch(rows, pad, self.base.device)
        places = targets != -100
        logits = self.base.model(input_ids=ids, attention_mask=mask).logits
        return logits[places].float(), targets[places]

    @property
    def _predict_tokens(self) -> int:
        return predict_tokens(self.halvings)


def require_choices(name: str, choices: Sequence[str]) -> None:
    """Raises ModelError if there are no answers for a masked language model to choose from."""
    if not choices:
        raise ModelError(
            f"base model {name!r} fills in masked tokens and cannot write text: expected a task "
            "with labels or ratings to choose from, got free text",
            remedy="Use a decoder-only base model, or a classification or rating task.",
        )


def _require_room(places: int, max_length: int) -> None:
    if places + 2 >= max_length:
        raise ModelError(
            f"expected max_length to hold a query and an answer of {places} tokens between start "
            f"and end token, got {max_length}",
            remedy="Raise training.max_length.",
        )

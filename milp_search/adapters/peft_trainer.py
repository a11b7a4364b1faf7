"""The plain trainer: one job after another, with PEFT on a frozen base."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

import torch
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import LambdaLR

from milp_search.adapters.base_model import BaseModel, require_positions
from milp_search.adapters.encoding import (
    Encoded,
    PromptEncoder,
    encode,
    generation_batch,
    training_batch,
)
from milp_search.adapters.job_by_job import in_batches, predict_jobs, predict_tokens, train_jobs
from milp_search.adapters.jobs import Adapter, Answer, Example, PredictJob, TrainJob
from milp_search.adapters.lora import generator
from milp_search.adapters.text_vectors import TextVectors
from milp_search.core.heartbeat import beat
from milp_search.core.settings import TrainingSettings


class Supervised(Protocol):
    """A row of tokens, so many of which are supervised."""

    @property
    def supervised(self) -> int:
        """The number of targets."""
        ...


R = TypeVar("R", bound=Supervised)


class PeftTrainer:
    """An `AdapterTrainer` that trains and answers job by job.

    `step_losses` holds, per adapter of the last `train`, the loss of each optimiser step.
    """

    def __init__(self, base: BaseModel, settings: TrainingSettings):
        require_positions(base.name, base.model.config, settings.max_length)
        self.base, self.settings = base, settings
        self.texts = PromptEncoder(base.tokenizer, settings)
        self.halvings = 0
        self.step_losses: list[list[float]] = []
        self._vectors = TextVectors(base)

    def train(self, jobs: Sequence[TrainJob]) -> list[Adapter]:
        """Returns one adapter per job, in order; see `AdapterTrainer`."""
        done = train_jobs(self.base, jobs, self.learn)
        self.step_losses = [losses for _, losses in done]
        return [adapter for adapter, _ in done]

    def predict(self, jobs: Sequence[PredictJob]) -> list[list[Answer]]:
        """Returns per job one answer per example, in order; see `AdapterTrainer`."""
        return predict_jobs(self.base, jobs, self._answer)

    def embed(self, texts: Sequence[str]) -> torch.Tensor:
        """Returns the base's mean last hidden state of each text (texts x width, float32).

        The end token counts as part of the text, so that an empty text has a vector too.
        """
        return self._vectors.of(texts, self._whole, self._predict_tokens)

    def learn(self, job: TrainJob, weights: Sequence[torch.nn.Parameter]) -> list[float]:
        """Trains weights of the model in place as a job says; returns the steps' losses."""
        rows = [self.texts.encode(example) for example in job.examples]
        steps = [[rows[i] for i in step] for step in step_plan(job, self.settings)]

        def summed(rows: Sequence[Encoded]) -> torch.Tensor:
            batch = training_batch(rows, self._pad, self.base.device)
            return token_losses(self.base.model, *batch).sum()

        return fit(weights, steps, summed, self.settings, self.halvings)

    def _answer(self, job: PredictJob) -> list[Answer]:
        rows = [self.texts.encode(example) for example in job.examples]
        losses = in_batches(rows, self._losses, self._predict_tokens)
        texts: list[str] | list[None] = [None] * len(rows)
        if job.generate:
            prompts = [self.texts.encode_prompt(example) for example in job.examples]
            texts = in_batches(prompts, self._generate, self._predict_tokens)
        return [
            Answer(loss, row.supervised, text)
            for loss, row, text in zip(losses, rows, texts, strict=True)
        ]

    def _losses(self, rows: Sequence[Encoded]) -> list[float]:
        ids, mask, targets = training_batch(rows, self._pad, self.base.device)
        return row_means(token_losses(self.base.model, ids, mask, targets), targets)

    def _generate(self, rows: Sequence[Encoded]) -> list[str]:
        ids, mask = generation_batch(rows, self._pad, self.base.device)
        new, ends = self.settings.max_new_tokens, self.texts.ends
        return greedy_texts(self.base, new, ends, input_ids=ids, attention_mask=mask)

    def _whole(self, text: str) -> Encoded:
        return encode(self.base.tokenizer, Example(text, ""), self.settings.max_length)

    @property
    def _predict_tokens(self) -> int:
        return predict_tokens(self.halvings)

    @property
    def _pad(self) -> int:
        return int(self.base.tokenizer.pad_token_id)


def step_plan(job: TrainJob, settings: TrainingSettings) -> list[list[int]]:
    """Returns which examples each optimiser step sees, as indices.

    With `epochs`, each pass is cut into batches; with `steps`, passes follow one another until
    the number of steps is reached. A shuffled pass has a random order keyed by seed and job.
    Without examples there are no steps.
    """
    size, count = settings.batch_size, len(job.examples)
    if count == 0:
        return []
    per_pass = -(-count // size)
    steps = job.steps if job.steps is not None else per_pass * (job.epochs or 0)
    plan: list[list[int]] = []
    for number in range(-(-steps // per_pass)):
        order = list(range(count))
        if job.shuffle:
            keyed = generator("order", job.seed, job.key, number)
            order = torch.randperm(count, generator=keyed).tolist()
        plan += [order[first : first + size] for first in range(0, count, size)]
    return plan[:steps]


def fit(
    weights: Sequence[torch.nn.Parameter],
    steps: Sequence[Sequence[R]],
    summed: Callable[[Sequence[R]], torch.Tensor],
    settings: TrainingSettings,
    halvings: int = 0,
) -> list[float]:
    """Trains the weights in place, one batch of rows per optimiser step; returns the steps' losses.

    AdamW with the settings' schedule (linear: MiLP, section 3.3); the loss is the mean over all
    supervised tokens of the step, whatever the micro-batches. `summed` gives the sum over those
    of some rows.
    """
    optimizer = torch.optim.AdamW(
        weights, lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    schedule = LambdaLR(optimizer, lambda step: rate_factor(step, len(steps), settings))
    size = max((settings.micro_batch or settings.batch_size) >> halvings, 1)
    losses = []
    for rows in steps:
        beat()
        supervised = sum(row.supervised for row in rows)
        total = torch.zeros((), device=weights[0].device)
        for first in range(0, len(rows), size):
            loss = summed(rows[first : first + size]) / max(supervised, 1)
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        losses.append(total)
    return [float(loss) for loss in losses]


def rate_factor(step: int, steps: int, settings: TrainingSettings) -> float:
    """Returns the share of the peak learning rate at a step, counted from 0."""
    warm = max(round(settings.warmup * steps), 1)
    rising = (step + 1) / warm
    if settings.schedule == "constant":
        return min(rising, 1.0)
    return min(rising, max((steps - step) / max(steps - warm + 1, 1), 0.0))


def token_losses(
    model: Any, ids: torch.Tensor, mask: torch.Tensor, targets: torch.Tensor
) -> torch.Tensor:
    """Returns each target's negative log-likelihood in nats (rows x length - 1); 0 elsewhere."""
    return target_losses(model(input_ids=ids, attention_mask=mask).logits, targets)


def target_losses(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Returns what `token_losses` does, from the logits of every token."""
    logits = logits[:, :-1].float()
    # Not over a transposed dimension: torch's sums are ten times less exact there.
    losses = cross_entropy(
        logits.flatten(0, 1), targets[:, 1:].flatten(), ignore_index=-100, reduction="none"
    )
    return losses.view(logits.shape[:2])


def row_means(losses: torch.Tensor, targets: torch.Tensor) -> list[float]:
    """Returns each row's mean over its targets; 0 for a row without any."""
    counts = (targets[:, 1:] != -100).sum(1).clamp(min=1)
    return [float(loss) for loss in (losses.sum(1) / counts).cpu()]


def greedy_texts(
    base: BaseModel, new: int, ends: Sequence[int], **prompts: torch.Tensor
) -> list[str]:
    """Returns at most `new` tokens after each prompt, as text; prompts are padded on the left.

    They are `input_ids` or `inputs_embeds`, with their `attention_mask`; any of `ends` ends one.
    """
    tokenizer = base.tokenizer
    output = base.model.generate(
        **prompts,
        do_sample=False,
        # Some models ship a penalty that forbids what the prompt says; copying is our point.
        repetition_penalty=1.0,
        no_repeat_ngram_size=0,
        max_new_tokens=new,
        pad_token_id=int(tokenizer.pad_token_id),
        eos_token_id=list(ends),
    )
    # Of prompts that are ids the output begins with them.
    given = prompts["input_ids"].shape[1] if "input_ids" in prompts else 0
    texts: list[str] = tokenizer.batch_decode(output[:, given:], skip_special_tokens=True)
    return [text.strip() for text in texts]

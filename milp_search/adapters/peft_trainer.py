"""The plain trainer: one job after another, with PEFT on a frozen base."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Any, TypeVar

import torch
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import LambdaLR

from milp_search.adapters.base_model import BaseModel, require_positions
from milp_search.adapters.chat_template import ChatFrame, chat_frame
from milp_search.adapters.encoding import (
    Encoded,
    encode,
    encode_prompt,
    generation_batch,
    training_batch,
)
from milp_search.adapters.jobs import Adapter, Answer, Example, PredictJob, TrainJob
from milp_search.adapters.lora import (
    attached,
    fresh_adapter,
    generator,
    load_weights,
    parameters,
    read_weights,
)
from milp_search.core.errors import ModelError
from milp_search.core.plan import AdapterPlan
from milp_search.core.settings import TrainingSettings

T = TypeVar("T")

_PREDICT_TOKENS = 8192  # ours: bounds one forward pass of evaluation (rows x length)


class PeftTrainer:
    """An `AdapterTrainer` that trains and answers job by job.

    `step_losses` holds, per adapter of the last `train`, the loss of each optimiser step.
    """

    def __init__(self, base: BaseModel, settings: TrainingSettings):
        require_positions(base, settings.max_length)
        self.base, self.settings = base, settings
        self.frame = chat_frame(base.tokenizer, settings.chat_template)
        _require_room(self.frame, settings)
        self.halvings = 0
        self.step_losses: list[list[float]] = []
        self._vectors: dict[str, torch.Tensor] = {}

    def train(self, jobs: Sequence[TrainJob]) -> list[Adapter]:
        """Returns one adapter per job, in order; see `AdapterTrainer`."""
        trained = []
        self.step_losses = []
        # LoRA modules are attached once for neighbours of one structure, then only reset.
        for plans, group in groupby(jobs, key=lambda job: (*active_plans(job.below), job.plan)):
            with attached(self.base, plans) as names:
                trained += [self._train_one(job, names) for job in group]
        return trained

    def predict(self, jobs: Sequence[PredictJob]) -> list[list[Answer]]:
        """Returns per job one answer per example, in order; see `AdapterTrainer`."""
        answers = []
        for plans, group in groupby(jobs, key=lambda job: active_plans(job.adapters)):
            with attached(self.base, plans) as names, torch.no_grad():
                for job in group:
                    self._load(names, job.adapters)
                    answers.append(self._answer(job))
        return answers

    def embed(self, texts: Sequence[str]) -> torch.Tensor:
        """Returns the base's mean last hidden state of each text (texts x width, float32).

        The end token counts as part of the text, so that an empty text has a vector too. Vectors
        are kept from call to call: the base is frozen, and every trial asks for the same.
        """
        missing = [text for text in dict.fromkeys(texts) if text not in self._vectors]
        self._vectors.update(zip(missing, self._embedded(missing), strict=True))
        return torch.stack([self._vectors[text] for text in texts])

    @torch.no_grad()
    def _embedded(self, texts: Sequence[str]) -> list[torch.Tensor]:
        tokenizer, length = self.base.tokenizer, self.settings.max_length
        rows = [encode(tokenizer, Example(text, ""), length) for text in texts]
        return _in_batches(rows, self._mean_states, self._predict_tokens)

    def _mean_states(self, rows: Sequence[Encoded]) -> list[torch.Tensor]:
        ids, mask, _ = training_batch(rows, self._pad, self.base.device)
        output = self.base.model(input_ids=ids, attention_mask=mask, output_hidden_states=True)
        hidden, weights = output.hidden_states[-1].float(), mask.unsqueeze(-1).float()
        return list(((hidden * weights).sum(1) / weights.sum(1)).cpu())

    def _train_one(self, job: TrainJob, names: Sequence[str]) -> Adapter:
        start = job.start or fresh_adapter(job.key, job.plan, self.base.shape, job.seed)
        if job.plan.total_rank == 0 or not job.examples:
            self.step_losses.append([])
            return Adapter(job.key, job.plan, start.tensors)
        name, model = names[-1], self.base.model
        self._load(names, (*active(job.below), start))
        weights = parameters(model, name, [*start.tensors])
        for weight in weights:
            weight.requires_grad_(True)
        rows = [self.encode(example) for example in job.examples]
        steps = [[rows[i] for i in step] for step in step_plan(job, self.settings)]
        losses = fit(model, weights, steps, self.settings, self._pad, self.halvings)
        self.step_losses.append(losses)
        for weight in weights:
            weight.requires_grad_(False)
        return read_weights(model, name, job.key, job.plan, [*start.tensors])

    def _load(self, names: Sequence[str], adapters: Sequence[Adapter]) -> None:
        for name, adapter in zip(names, active(adapters), strict=True):
            load_weights(self.base.model, name, adapter)

    def _answer(self, job: PredictJob) -> list[Answer]:
        rows = [self.encode(example) for example in job.examples]
        losses = _in_batches(rows, self._losses, self._predict_tokens)
        texts: list[str] | list[None] = [None] * len(rows)
        if job.generate:
            prompts = [self.encode_prompt(example) for example in job.examples]
            texts = _in_batches(prompts, self._generate, self._predict_tokens)
        return [
            Answer(loss, row.supervised, text)
            for loss, row, text in zip(losses, rows, texts, strict=True)
        ]

    def _losses(self, rows: Sequence[Encoded]) -> list[float]:
        ids, mask, targets = training_batch(rows, self._pad, self.base.device)
        losses = token_losses(self.base.model, ids, mask, targets)
        counts = (targets[:, 1:] != -100).sum(1).clamp(min=1)
        return [float(loss) for loss in (losses.sum(1) / counts).cpu()]

    def _generate(self, rows: Sequence[Encoded]) -> list[str]:
        tokenizer = self.base.tokenizer
        ids, mask = generation_batch(rows, self._pad, self.base.device)
        output = self.base.model.generate(
            input_ids=ids,
            attention_mask=mask,
            do_sample=False,
            # Some models ship a penalty that forbids what the prompt says; copying is our point.
            repetition_penalty=1.0,
            no_repeat_ngram_size=0,
            max_new_tokens=self.settings.max_new_tokens,
            pad_token_id=self._pad,
            eos_token_id=list(self.ends),
        )
        texts: list[str] = tokenizer.batch_decode(
            output[:, ids.shape[1] :], skip_special_tokens=True
        )
        return [text.strip() for text in texts]

    def encode(self, example: Example) -> Encoded:
        """Returns the token ids of an example."""
        return encode(self.base.tokenizer, example, self.settings.max_length, self.frame)

    def encode_prompt(self, example: Example) -> Encoded:
        """Returns the token ids of an example's prompt, to be continued."""
        room = self.settings.max_length - self.settings.max_new_tokens
        return encode_prompt(self.base.tokenizer, example.prompt, room, self.frame)

    @property
    def ends(self) -> tuple[int, ...]:
        """The tokens that end a generation: the end token and, in a chat, the end of a turn."""
        end = int(self.base.tokenizer.eos_token_id)
        return (end,) if self.frame is None else tuple(dict.fromkeys((end, self.frame.end)))

    @property
    def _predict_tokens(self) -> int:
        return _PREDICT_TOKENS >> self.halvings

    @property
    def _pad(self) -> int:
        return int(self.base.tokenizer.pad_token_id)


def _require_room(frame: ChatFrame | None, settings: TrainingSettings) -> None:
    """Raises ModelError if a chat template leaves no room for what user and assistant say."""
    length, new = settings.max_length, settings.max_new_tokens
    if frame is not None and frame.given + len(frame.after) + new >= length:
        raise ModelError(
            f"the chat template has {frame.given + len(frame.after)} tokens of its own, which "
            f"with max_new_tokens = {new} leave none of max_length = {length} for a query",
            remedy="Raise training.max_length, or set training.chat_template to none.",
        )


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
    model: Any,
    weights: Sequence[torch.nn.Parameter],
    steps: Sequence[Sequence[Encoded]],
    settings: TrainingSettings,
    pad: int,
    halvings: int = 0,
) -> list[float]:
    """Trains the weights in place, one batch of rows per optimiser step; returns the steps' losses.

    AdamW with the settings' schedule (linear: MiLP, section 3.3); the loss is the mean over all
    supervised tokens of the step, whatever the micro-batches.
    """
    optimizer = torch.optim.AdamW(
        weights, lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    schedule = LambdaLR(optimizer, lambda step: rate_factor(step, len(steps), settings))
    size = max((settings.micro_batch or settings.batch_size) >> halvings, 1)
    losses = []
    for rows in steps:
        supervised = sum(row.supervised for row in rows)
        total = torch.zeros((), device=model.device)
        for first in range(0, len(rows), size):
            batch = training_batch(rows[first : first + size], pad, model.device)
            loss = token_losses(model, *batch).sum() / max(supervised, 1)
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
    logits = model(input_ids=ids, attention_mask=mask).logits[:, :-1].float()
    # Not over a transposed dimension: torch's sums are ten times less exact there.
    losses = cross_entropy(
        logits.flatten(0, 1), targets[:, 1:].flatten(), ignore_index=-100, reduction="none"
    )
    return losses.view(logits.shape[:2])


def _in_batches(
    rows: Sequence[Encoded], answer: Callable[[Sequence[Encoded]], Sequence[T]], tokens: int
) -> list[T]:
    """Returns one answer per row, in order, however the rows are batched."""
    answers: dict[int, T] = {}
    for places in _batches(rows, tokens):
        batch = [rows[place] for place in places]
        answers.update(zip(places, answer(batch), strict=True))
    return [answers[place] for place in range(len(rows))]


def _batches(rows: Sequence[Encoded], tokens: int) -> Iterator[list[int]]:
    """Yields the rows' indices in groups of similar length, of at most `tokens` rows x length."""
    order = sorted(range(len(rows)), key=lambda place: len(rows[place]))
    batch: list[int] = []
    for place in order:
        if batch and (len(batch) + 1) * len(rows[place]) > tokens:
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch


def active(adapters: Sequence[Adapter]) -> tuple[Adapter, ...]:
    """Returns the adapters that have any rank."""
    return tuple(adapter for adapter in adapters if adapter.plan.total_rank > 0)


def active_plans(adapters: Sequence[Adapter]) -> tuple[AdapterPlan, ...]:
    """Returns their plans."""
    return tuple(adapter.plan for adapter in active(adapters))

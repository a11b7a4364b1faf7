"""The plain trainer: one job after another, with PEFT on a frozen base."""

from __future__ import annotations

<<<<<<< HEAD
from collections.abc import Callable, Iterator, Sequence, Sized
from itertools import groupby, islice
=======
from collections.abc import Callable, Sequence
>>>>>>> bases
from typing import Any, Protocol, TypeVar

import torch
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import LambdaLR

from milp_search.adapters.base_model import BaseModel, require_positions
from milp_search.adapters.chat_template import chat_frame, require_room
from milp_search.adapters.encoding import (
    Encoded,
    encode,
    encode_prompt,
    generation_batch,
    training_batch,
)
from milp_search.adapters.job_by_job import PREDICT_TOKENS, in_batches, predict_jobs, train_jobs
from milp_search.adapters.jobs import Adapter, Answer, Example, PredictJob, TrainJob
from milp_search.adapters.lora import generator
from milp_search.adapters.text_vectors import TextVectors
from milp_search.core.settings import TrainingSettings

<<<<<<< HEAD

class Supervised(Protocol):
    """A text of which some tokens are targets."""

    @property
    def supervised(self) -> int:
        """The number of targets."""
        ...


T = TypeVar("T")
Row = TypeVar("Row", bound=Supervised)
Piece = TypeVar("Piece", bound=Sized)

_PREDICT_TOKENS = 8192  # ours: bounds one forward pass of evaluation (rows x length)
_KEPT_VECTOR_BYTES = 256 * 2**20  # ours: what embeddings kept from call to call may take
=======

class Supervised(Protocol):
    """A row of tokens, so many of which are supervised."""

    @property
    def supervised(self) -> int:
        """The number of targets."""
        ...


R = TypeVar("R", bound=Supervised)
>>>>>>> bases


class PeftTrainer:
    """An `AdapterTrainer` that trains and answers job by job.

    `step_losses` holds, per adapter of the last `train`, the loss of each optimiser step.
    """

    def __init__(self, base: BaseModel, settings: TrainingSettings):
        require_positions(base.name, base.model.config, settings.max_length)
        self.base, self.settings = base, settings
        self.frame = chat_frame(base.tokenizer, settings.chat_template)
        require_room(self.frame, settings.max_length, settings.max_new_tokens)
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

<<<<<<< HEAD
        The end token counts as part of the text, so that an empty text has a vector too. Vectors
        are kept from call to call, up to a bound: the base is frozen, and every trial asks for
        the same histories, though for generations of its own.
        """
        missing = [text for text in dict.fromkeys(texts) if text not in self._vectors]
        self._vectors.update(zip(missing, self._embedded(missing), strict=True))
        found = torch.stack([self._vectors[text] for text in texts])
        over = len(self._vectors) - _KEPT_VECTOR_BYTES // found[0].nbytes
        for text in [*islice(self._vectors, max(over, 0))]:
            del self._vectors[text]
        return found

    @torch.no_grad()
    def _embedded(self, texts: Sequence[str]) -> torch.Tensor:
        rows = [self.encode(Example(text, "")) for text in texts]
        vectors = torch.zeros(len(rows), self.base.model.config.hidden_size)
        for places in _batches(rows, predict_tokens(self.halvings)):
            ids, mask, _ = training_batch([rows[i] for i in places], self._pad, self.base.device)
            output = self.base.model(input_ids=ids, attention_mask=mask, output_hidden_states=True)
            hidden, weights = output.hidden_states[-1].float(), mask.unsqueeze(-1).float()
            vectors[places] = ((hidden * weights).sum(1) / weights.sum(1)).cpu()
        return vectors

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
=======
        The end token counts as part of the text, so that an empty text has a vector too.
        """
        return self._vectors.of(texts, self._whole, self._predict_tokens)

    def learn(self, job: TrainJob, weights: Sequence[torch.nn.Parameter]) -> list[float]:
        """Trains weights of the model in place as a job says; returns the steps' losses."""
>>>>>>> bases
        rows = [self.encode(example) for example in job.examples]
        steps = [[rows[i] for i in step] for step in step_plan(job, self.settings)]

        def summed(rows: Sequence[Encoded]) -> torch.Tensor:
            batch = training_batch(rows, self._pad, self.base.device)
            return token_losses(self.base.model, *batch).sum()

        return fit(weights, steps, summed, self.settings, self.halvings)

    def _answer(self, job: PredictJob) -> list[Answer]:
        rows = [self.encode(example) for example in job.examples]
<<<<<<< HEAD
        tokens = predict_tokens(self.halvings)
        losses = in_batches(rows, self._losses, tokens)
        texts: list[str] | list[None] = [None] * len(rows)
        if job.generate:
            prompts = [self.encode_prompt(example) for example in job.examples]
            texts = in_batches(prompts, self._generate, tokens)
=======
        losses = in_batches(rows, self._losses, self._predict_tokens)
        texts: list[str] | list[None] = [None] * len(rows)
        if job.generate:
            prompts = [self.encode_prompt(example) for example in job.examples]
            texts = in_batches(prompts, self._generate, self._predict_tokens)
>>>>>>> bases
        return [
            Answer(loss, row.supervised, text)
            for loss, row, text in zip(losses, rows, texts, strict=True)
        ]

    def _losses(self, rows: Sequence[Encoded]) -> list[float]:
        ids, mask, targets = training_batch(rows, self._pad, self.base.device)
        return row_means(token_losses(self.base.model, ids, mask, targets), targets)

    def _generate(self, rows: Sequence[Encoded]) -> list[str]:
        ids, mask = generation_batch(rows, self._pad, self.base.device)
<<<<<<< HEAD
        new = self.settings.max_new_tokens
        return greedy_texts(self.base, new, input_ids=ids, attention_mask=mask)
=======
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
>>>>>>> bases

    def _whole(self, text: str) -> Encoded:
        return encode(self.base.tokenizer, Example(text, ""), self.settings.max_length)

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
<<<<<<< HEAD
=======
    def _predict_tokens(self) -> int:
        return PREDICT_TOKENS >> self.halvings

    @property
>>>>>>> bases
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

    See `descend`.
    """

    def losses(rows: Sequence[Encoded]) -> torch.Tensor:
        return token_losses(model, *training_batch(rows, pad, model.device))

    return descend(weights, steps, losses, settings, halvings)


def descend(
    weights: Sequence[torch.nn.Parameter],
    steps: Sequence[Sequence[Row]],
    losses: Callable[[Sequence[Row]], torch.Tensor],
    settings: TrainingSettings,
    halvings: int = 0,
) -> list[float]:
    """Trains the weights in place, one batch of rows per optimiser step; returns the steps' losses.

    AdamW with the settings' schedule (linear: MiLP, section 3.3); the loss is the mean over all
<<<<<<< HEAD
    supervised tokens of the step, whatever the micro-batches, each of which `losses` turns into
    the losses of its tokens.
=======
    supervised tokens of the step, whatever the micro-batches. `summed` gives the sum over those
    of some rows.
>>>>>>> bases
    """
    optimizer = torch.optim.AdamW(
        weights, lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    schedule = LambdaLR(optimizer, lambda step: rate_factor(step, len(steps), settings))
    size = max((settings.micro_batch or settings.batch_size) >> halvings, 1)
    totals = []
    for rows in steps:
        supervised = sum(row.supervised for row in rows)
        total = torch.zeros((), device=weights[0].device)
        for first in range(0, len(rows), size):
<<<<<<< HEAD
            loss = losses(rows[first : first + size]).sum() / max(supervised, 1)
=======
            loss = summed(rows[first : first + size]) / max(supervised, 1)
>>>>>>> bases
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        totals.append(total)
    return [float(total) for total in totals]


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
    """Returns each target's negative log-likelihood in nats (rows x length - 1); 0 elsewhere."""
    logits = logits[:, :-1].float()
    # Not over a transposed dimension: torch's sums are ten times less exact there.
    losses = cross_entropy(
        logits.flatten(0, 1), targets[:, 1:].flatten(), ignore_index=-100, reduction="none"
    )
    return losses.view(logits.shape[:2])
<<<<<<< HEAD


def row_means(losses: torch.Tensor, targets: torch.Tensor) -> list[float]:
    """Returns each row's mean over its targets; 0 for a row without any."""
    counts = (targets[:, 1:] != -100).sum(1).clamp(min=1)
    return [float(loss) for loss in (losses.sum(1) / counts).cpu()]


def greedy_texts(base: BaseModel, new: int, **prompts: torch.Tensor) -> list[str]:
    """Returns at most `new` tokens after each prompt, as text; prompts are padded on the left.

    They are `input_ids` or `inputs_embeds`, with their `attention_mask`.
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
        eos_token_id=tokenizer.eos_token_id,
    )
    # Of prompts that are ids the output begins with them.
    given = prompts["input_ids"].shape[1] if "input_ids" in prompts else 0
    texts: list[str] = tokenizer.batch_decode(output[:, given:], skip_special_tokens=True)
    return [text.strip() for text in texts]


def predict_tokens(halvings: int) -> int:
    """Returns the bound on one forward pass of evaluation (rows x length)."""
    return _PREDICT_TOKENS >> halvings


def in_batches(
    rows: Sequence[Piece], answer: Callable[[Sequence[Piece]], Sequence[T]], tokens: int
) -> list[T]:
    """Returns one answer per row, in order, however the rows are batched."""
    answers: dict[int, T] = {}
    for places in _batches(rows, tokens):
        batch = [rows[place] for place in places]
        answers.update(zip(places, answer(batch), strict=True))
    return [answers[place] for place in range(len(rows))]


def _batches(rows: Sequence[Sized], tokens: int) -> Iterator[list[int]]:
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
=======
>>>>>>> bases

"""One job after another, with PEFT on a frozen base: what the unpacked trainers have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence, Sized
from itertools import groupby
from typing import TypeVar

import torch

from milp_search.adapters.base_model import BaseModel
from milp_search.adapters.jobs import Adapter, Answer, PredictJob, TrainJob
from milp_search.adapters.lora import (
    attached,
    fresh_adapter,
    load_weights,
    parameters,
    read_weights,
)
from milp_search.core.heartbeat import beat
from milp_search.core.plan import AdapterPlan

_PREDICT_TOKENS = 8192  # ours: bounds one forward pass of evaluation (rows x length)

T = TypeVar("T")
S = TypeVar("S", bound=Sized)

Learn = Callable[[TrainJob, Sequence[torch.nn.Parameter]], list[float]]
"""Trains the weights of an attached adapter in place; returns the steps' losses."""


def train_jobs(
    base: BaseModel, jobs: Sequence[TrainJob], learn: Learn
) -> list[tuple[Adapter, list[float]]]:
    """Returns per job its adapter and the losses of its steps, in order."""
    trained = []
    # LoRA modules are attached once for neighbours of one structure, then only reset.
    for plans, group in groupby(jobs, key=lambda job: (*active_plans(job.below), job.plan)):
        with attached(base, plans) as names:
            trained += [_train_one(base, job, names, learn) for job in group]
    return trained


def predict_jobs(
    base: BaseModel, jobs: Sequence[PredictJob], answer: Callable[[PredictJob], list[Answer]]
) -> list[list[Answer]]:
    """Returns per job its answers, in order; each is answered with its adapters attached."""
    answers = []
    for plans, group in groupby(jobs, key=lambda job: active_plans(job.adapters)):
        with attached(base, plans) as names, torch.no_grad():
            for job in group:
                _load(base, names, job.adapters)
                answers.append(answer(job))
    return answers


def _train_one(
    base: BaseModel, job: TrainJob, names: Sequence[str], learn: Learn
) -> tuple[Adapter, list[float]]:
    start = job.start or fresh_adapter(job.key, job.plan, base.shape, job.seed)
    if job.plan.total_rank == 0 or not job.examples:
        return Adapter(job.key, job.plan, start.tensors), []
    name = names[-1]
    _load(base, names, (*active(job.below), start))
    weights = parameters(base.model, name, [*start.tensors])
    for weight in weights:
        weight.requires_grad_(True)
    losses = learn(job, weights)
    for weight in weights:
        weight.requires_grad_(False)
    return read_weights(base.model, name, job.key, job.plan, [*start.tensors]), losses


def _load(base: BaseModel, names: Sequence[str], adapters: Sequence[Adapter]) -> None:
    for name, adapter in zip(names, active(adapters), strict=True):
        load_weights(base.model, name, adapter)


def predict_tokens(halvings: int) -> int:
    """Returns the bound on one forward pass of evaluation (rows x length)."""
    return _PREDICT_TOKENS >> halvings


def in_batches(
    rows: Sequence[S], answer: Callable[[Sequence[S]], Sequence[T]], tokens: int
) -> list[T]:
    """Returns one answer per row, in order, however the rows are batched."""
    answers: dict[int, T] = {}
    for places in _batches(rows, tokens):
        beat()
        batch = [rows[place] for place in places]
        answers.update(zip(places, answer(batch), strict=True))
    return [answers[place] for place in range(len(rows))]


def _batches(rows: Sequence[S], tokens: int) -> Iterator[list[int]]:
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

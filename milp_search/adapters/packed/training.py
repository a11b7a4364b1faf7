"""Trains the adapters of many lanes side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch.optim.adamw import adamw

from milp_search.adapters.encoding import Encoded
from milp_search.adapters.jobs import Adapter
from milp_search.adapters.packed.factors import Factors, Paths, frozen, trainable
from milp_search.adapters.packed.memory import PassSize
from milp_search.adapters.packed.passes import entry_of, losses_and_gradients
from milp_search.adapters.packed.prefix import PrefixCache
from milp_search.adapters.packed.rows import Row, pack_rows
from milp_search.adapters.packed.stack import FrozenStack
from milp_search.adapters.packed.sublayers import Lanes
from milp_search.adapters.peft_trainer import rate_factor
from milp_search.core.heartbeat import beat
from milp_search.core.settings import TrainingSettings


@dataclass(frozen=True)
class LaneJob:
    """One lane's work: where it starts, what lies below, and its rows step by step."""

    start: Adapter
    below: tuple[Adapter, ...]
    steps: tuple[tuple[Encoded, ...], ...]


def train_lanes(
    stack: FrozenStack, paths: Paths, cache: PrefixCache, jobs: Sequence[LaneJob],
    settings: TrainingSettings, size: PassSize,
) -> tuple[list[Adapter], list[list[float]]]:  # fmt: skip
    """Returns the trained adapters, and the loss of each of their steps.

    Each lane has its own matrices, AdamW state, schedule and token-mean loss; a lane that is
    through leaves the batch. A pass is at most as large as `size` says (but at least one row);
    gradients of the passes of a step add up.
    """
    trained = trainable([job.start for job in jobs], paths, stack.device)
    below = frozen([job.below for job in jobs], paths, stack.device)
    lanes = Lanes(trained, below if below.groups else None)
    entry = entry_of(lanes, len(stack.blocks))
    gradients = trained.like(torch.zeros_like(trained.flat))
    optimizer = _LaneAdamW(trained, settings)
    told: list[torch.Tensor] = []
    for step in range(max(len(job.steps) for job in jobs)):
        alive = [lane for lane, job in enumerate(jobs) if step < len(job.steps)]
        rows = [row for lane in alive for row in _rows(lane, jobs[lane].steps[step])]
        sums = torch.zeros(len(jobs), device=stack.device)
        for part in passes(rows, size, settings.micro_batch):
            beat()
            packed = pack_rows(part, stack.device)
            h = cache.states([row.text for row in part], entry)
            found = losses_and_gradients(stack, packed, lanes, entry, h, gradients)
            sums.index_add_(0, packed.target_lanes, found * packed.weights)
        optimizer.step({lane: (step, len(jobs[lane].steps)) for lane in alive}, gradients)
        told.append(sums)
    adapters = [trained.read(lane, job.start) for lane, job in enumerate(jobs)]
    by_step = [sums.tolist() for sums in told]
    return adapters, [
        [by_step[step][lane] for step in range(len(job.steps))] for lane, job in enumerate(jobs)
    ]


def passes(rows: Sequence[Row], size: PassSize, most: int | None = None) -> Iterator[list[Row]]:
    """Yields the rows in parts of at most that size (but at least one row).

    Rows of a lane stay together, unless they are too many (`most`, the micro-batch) or too large:
    then they are cut, and what is cut for size shares no part with others. So what a lane's
    gradients are summed from does not depend on its neighbours.
    """
    lanes = [list(group) for _, group in groupby(rows, key=lambda row: row.lane)]
    step = most or max(map(len, lanes), default=1)
    for first in range(0, max(map(len, lanes), default=0), step):
        part: list[Row] = []
        for mine in (lane[first : first + step] for lane in lanes):
            if part and not _fits([*part, *mine], size):
                yield part
                part = []
            if _fits(mine, size):
                part += mine
            else:
                yield from _cut(mine, size)
        if part:
            yield part


def _cut(rows: Sequence[Row], size: PassSize) -> Iterator[list[Row]]:
    part: list[Row] = []
    for row in rows:
        if part and not _fits([*part, row], size):
            yield part
            part = []
        part.append(row)
    yield part


def _fits(rows: Sequence[Row], size: PassSize) -> bool:
    lengths = [len(row.text) for row in rows]
    return sum(lengths) <= size.tokens and len(rows) * max(lengths, default=0) <= size.slots


class _LaneAdamW:
    """AdamW with a state and a learning rate of its own for each lane."""

    def __init__(self, factors: Factors, settings: TrainingSettings):
        self._weights, self._settings = factors.flat, settings
        self._means, self._squares = torch.zeros_like(factors.flat), torch.zeros_like(factors.flat)
        self._steps = [torch.zeros((), device=factors.flat.device) for _ in factors.flat]

    def step(self, progress: dict[int, tuple[int, int]], gradients: Factors) -> None:
        """Updates the lanes, given the step each is at and its number of steps; clears gradients.

        Lanes that are equally far share a call.
        """
        by_rate: dict[float, list[int]] = {}
        for lane, (step, steps) in progress.items():
            rate = rate_factor(step, steps, self._settings)
            by_rate.setdefault(rate, []).append(lane)
        for rate, lanes in by_rate.items():
            adamw(
                [self._weights[lane] for lane in lanes],
                [gradients.flat[lane] for lane in lanes],
                [self._means[lane] for lane in lanes],
                [self._squares[lane] for lane in lanes],
                [],
                [self._steps[lane] for lane in lanes],
                fused=True,
                amsgrad=False,
                beta1=0.9,
                beta2=0.999,
                lr=self._settings.learning_rate * rate,
                weight_decay=self._settings.weight_decay,
                eps=1e-8,
                maximize=False,
            )
        gradients.flat.zero_()


def _rows(lane: int, texts: Sequence[Encoded]) -> list[Row]:
    supervised = max(sum(text.supervised for text in texts), 1)
    return [Row(lane, text, 1.0 / supervised) for text in texts]

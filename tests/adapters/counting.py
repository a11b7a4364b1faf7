"""A trainer that counts what it is asked to train, behind a cache."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from adapters.making import EXAMPLES
from milp_search.adapters.jobs import Adapter, Answer, PredictJob, TrainJob
from milp_search.adapters.reusing_trainer import ReusingTrainer
from milp_search.adapters.stage_cache import StageCache
from milp_search.core.plan import AdapterPlan
from milp_search.core.settings import TrainingSettings

PLAN = AdapterPlan((1, 0, 2))
SETTINGS = TrainingSettings(
    learning_rate=1e-2, batch_size=2, max_length=200, max_new_tokens=3, micro_batch=2
)


def adapter(*numbers: float, key: str = "global:a", plan: AdapterPlan = PLAN) -> Adapter:
    """Returns an adapter of one linear map that holds these numbers."""
    row = torch.tensor([numbers])
    return Adapter(key, plan, {"layer.one": (row, row.T)})


JOB = TrainJob(
    "global:a", EXAMPLES[:3], PLAN, 5, steps=4, shuffle=True,
    below=(adapter(1.0), adapter(2.0)), start=adapter(3.0), reusable=True,
)  # fmt: skip


class Counting:
    """An `AdapterTrainer` that gives every job another adapter and notes what it was asked."""

    def __init__(self, settings: TrainingSettings = SETTINGS, size: int = 1, first: int = 0):
        self.base: Any = None
        self.settings, self.halvings, self.size, self.first = settings, 0, size, first
        self.calls: list[list[TrainJob]] = []
        self.embedded: list[list[str]] = []

    def train(self, jobs: Sequence[TrainJob]) -> list[Adapter]:
        """Returns adapters that hold the number of jobs so far, from `first` on."""
        self.calls.append([*jobs])
        first = self.first + sum(map(len, self.calls)) - len(jobs)
        return [
            adapter(*[float(first + n)] * self.size, key=job.key, plan=job.plan)
            for n, job in enumerate(jobs)
        ]

    def predict(self, jobs: Sequence[PredictJob]) -> list[list[Answer]]:
        """Returns one answer per example."""
        return [[Answer(1.0, 2, None) for _ in job.examples] for job in jobs]

    def embed(self, texts: Sequence[str]) -> torch.Tensor:
        """Returns the texts' lengths."""
        self.embedded.append([*texts])
        return torch.tensor([[float(len(text))] for text in texts])


def reusing(folder: Path, inner: Counting, base: str = "base", **options: Any) -> ReusingTrainer:
    """Returns a trainer as a new process would make it."""
    return ReusingTrainer(inner, StageCache(folder), base, **options)


def trained(
    folder: Path, *jobs: TrainJob, settings: TrainingSettings = SETTINGS, base: str = "base"
) -> int:
    """Returns how many of the jobs were trained and not taken from the folder."""
    inner = Counting(settings)
    reusing(folder, inner, base).train(jobs)
    return sum(map(len, inner.calls))

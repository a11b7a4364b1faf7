"""A trainer that notes its calls, and whose results are easy to work out by hand."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from milp_search.adapters.jobs import Adapter, Answer, Example, PredictJob, TrainJob
from milp_search.core.plan import AdapterPlan
from milp_search.core.settings import TrainingSettings

PLAN = AdapterPlan((1,))


class CountingTrainer:
    """An `AdapterTrainer`; `calls` are its calls, each as the name and what was asked for.

    An adapter keeps its job's key, an answer's loss is the prompt's length, a text's vector too.
    """

    def __init__(self) -> None:
        self.base: Any = None
        self.settings, self.halvings = TrainingSettings(), 2
        self.calls: list[tuple[str, list[str]]] = []
        self.threads: set[int] = set()
        self.raises: BaseException | None = None

    def train(self, jobs: Sequence[TrainJob]) -> list[Adapter]:
        self._note("train", [job.key for job in jobs])
        return [Adapter(job.key, job.plan, {}) for job in jobs]

    def predict(self, jobs: Sequence[PredictJob]) -> list[list[Answer]]:
        self._note("predict", [example.prompt for job in jobs for example in job.examples])
        return [[Answer(float(len(one.prompt)), 1, None) for one in job.examples] for job in jobs]

    def embed(self, texts: Sequence[str]) -> torch.Tensor:
        self._note("embed", [*texts])
        return torch.tensor([[float(len(text))] for text in texts])

    def _note(self, name: str, asked: list[str]) -> None:
        self.calls.append((name, asked))
        self.threads.add(threading.get_ident())
        if self.raises is not None:
            raise self.raises


def train_job(key: str) -> TrainJob:
    """Returns a job that is told by its key."""
    return TrainJob(key, (Example("", key),), PLAN, 0)


def predict_job(*prompts: str) -> PredictJob:
    """Returns a job with one query per prompt."""
    return replace(PredictJob(()), examples=tuple(Example(prompt, "") for prompt in prompts))

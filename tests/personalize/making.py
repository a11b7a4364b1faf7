"""A small task full of canaries, and a trainer that writes down what it is asked to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from adapters.making import llama
from milp_search.adapters.jobs import Adapter, AdapterTrainer, Answer, PredictJob, TrainJob
from milp_search.core.methods import METHODS
from milp_search.core.plan import AdapterPlan, TrialPlan
from milp_search.core.records import Interaction, PersonalizationTask, UserHistory, UserTask
from milp_search.core.settings import TrainingSettings
from milp_search.personalize.method import Run

USERS = ("anna", "bert", "cleo", "dora")
SETTINGS = TrainingSettings(
    learning_rate=1e-2, batch_size=2, global_steps=5, max_length=400, max_new_tokens=3
)
RANKS = AdapterPlan((1, 0, 2))
_BASE = llama()


def item(user: str, part: str, number: int, time: float | None = None) -> Interaction:
    """Returns an exchange that names its user, its part of the split and its place."""
    mark = f"{user}{part}{number}"
    return Interaction(user, f"what of tea, q{mark}?", f"tea is fine r{mark}.", time)


def user_task(user: str, start: float, size: int = 4) -> UserTask:
    """Returns a target user; every exchange comes after the one before."""
    history = tuple(item(user, "past", n, start + 10.0 * n) for n in range(size))
    validation = (item(user, "valid", 0, start + 500), item(user, "valid", 1, start + 510))
    return UserTask(user, history, validation, (item(user, "test", 0, start + 900),))


def task() -> PersonalizationTask:
    """Returns four targets with histories of 4 to 7 exchanges, and one other user."""
    targets = tuple(user_task(user, float(n), 4 + n) for n, user in enumerate(USERS))
    other = UserHistory("zeno", tuple(item("zeno", "past", n) for n in range(4)))
    return PersonalizationTask("canaries", "text", targets, (other,))


def plan(method: str, adapter: AdapterPlan = RANKS, **changes: object) -> TrialPlan:
    """Returns the canonical plan of a method with T = 2, c = 2 and k = 1."""
    traits = METHODS[method]
    full = TrialPlan(
        traits.trains or method, adapter, time_splits=2, communities=2, retrieved_items=1
    )
    return replace(full, **changes).canonical(traits)  # type: ignore[arg-type]


def run_of(trial_plan: TrialPlan, trainer: AdapterTrainer, seed: int = 0) -> Run:
    """Returns the run of a plan on the task above."""
    return Run(task(), trial_plan, trainer, SETTINGS, seed)


class Recorder:
    """An `AdapterTrainer` that notes every job; another trainer may do the work behind it."""

    def __init__(self, behind: AdapterTrainer | None = None):
        self.settings, self.halvings, self.behind = SETTINGS, 0, behind
        # Some methods work inside the base, whatever the trainer does.
        self.base: Any = behind.base if behind else _BASE
        self.jobs: list[TrainJob] = []
        self.trained: list[Adapter] = []
        self.asked: list[PredictJob] = []
        self.embedded: list[str] = []

    def train(self, jobs: Sequence[TrainJob]) -> list[Adapter]:
        """Returns adapters without tensors, or those of the trainer behind."""
        empty = [Adapter(job.key, job.plan, {}) for job in jobs]
        adapters = self.behind.train(jobs) if self.behind else empty
        self.jobs += jobs
        self.trained += adapters
        return adapters

    def predict(self, jobs: Sequence[PredictJob]) -> list[list[Answer]]:
        """Returns empty answers, or those of the trainer behind."""
        self.asked += jobs
        if self.behind:
            return self.behind.predict(jobs)
        return [[Answer(1.0, 2, "text") for _ in job.examples] for job in jobs]

    def embed(self, texts: Sequence[str]) -> torch.Tensor:
        """Returns the counts of letters a to h, or the vectors of the trainer behind."""
        self.embedded += texts
        if self.behind:
            return self.behind.embed(texts)
        return torch.tensor(
            [[float(text.count(letter)) for letter in "abcdefgh"] for text in texts]
        )

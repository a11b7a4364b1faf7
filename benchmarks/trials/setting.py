"""What is measured on: a study with its base model and users, and the masks that are compared."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from milp_search.adapters.base_model import BaseModel, load_base_model
from milp_search.adapters.jobs import AdapterTrainer
from milp_search.core.plan import AdapterPlan, TrialPlan
from milp_search.core.records import PersonalizationTask, Predictions
from milp_search.data.load import load_task
from milp_search.personalize.method import Run
from milp_search.personalize.run import answer, train
from milp_search.study.spec import StudySpec
from milp_search.study.spec_file import load_study_spec

QUICK_START = Path(__file__).parents[2] / "experiments" / "quickstart.yaml"
RANK = 8


@dataclass(frozen=True)
class Setting:
    """A study whose trials are timed.

    Attributes:
        name: How tables call it.
        spec: The study.
        device: Where it runs.
    """

    name: str
    spec: StudySpec
    device: str

    @cached_property
    def base(self) -> BaseModel:
        """The frozen base model."""
        return load_base_model(self.spec.base_model, device=self.device)

    @cached_property
    def task(self) -> PersonalizationTask:
        """The users."""
        return load_task(self.spec.data)

    def run(self, ranks: tuple[int, ...], seed: int, trainer: AdapterTrainer) -> Run:
        """Returns a training run with LoRA of these ranks, nothing of which is kept for others."""
        plan = TrialPlan(
            "milp_logo",
            AdapterPlan(ranks, alpha_over_rank=4.0),
            time_splits=2,
            communities=2,
            retrieved_items=1,
        )
        return Run(self.task, plan, trainer, self.spec.training, seed)

    def trial(self, ranks: tuple[int, ...], seed: int, trainer: AdapterTrainer) -> Predictions:
        """Trains as a trial does and returns its validation answers, with losses."""
        run = self.run(ranks, seed, trainer)
        return answer(run, train(run), "validation", generate=True)


def quick_start(device: str) -> Setting:
    """Returns the quick-start study."""
    return Setting("quick start", load_study_spec(QUICK_START), device)


def masks(layers: int, draw: int) -> dict[str, tuple[int, ...]]:
    """Returns the ranks per layer by mask; the random mask is another one for each draw."""

    def ranks(active: Iterable[int]) -> tuple[int, ...]:
        chosen = set(active)
        return tuple(RANK if layer in chosen else 0 for layer in range(layers))

    return {
        "all layers": ranks(range(layers)),
        "upper half": ranks(range(layers // 2, layers)),
        "top quarter": ranks(range(layers - max(layers // 4, 1), layers)),
        "last layer": ranks([layers - 1]),
        "uniform random": ranks(_random_layers(layers, draw)),
    }


def _random_layers(layers: int, draw: int) -> list[int]:
    """Returns the layers of a mask that is uniform among all but the empty one."""
    bits = random.Random(draw).randrange(1, 2**layers)
    return [layer for layer in range(layers) if bits >> layer & 1]

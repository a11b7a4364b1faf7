"""What a trainer is asked to do, and the interface that every trainer fulfils.

A job is one user's or one community's data with an adapter plan and the frozen adapters below it.
Trainers take many jobs at once, so that packing them into one pass is an implementation and not a
redesign.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import torch

from milp_search.core.plan import AdapterPlan
from milp_search.core.settings import TrainingSettings

if TYPE_CHECKING:
    from milp_search.adapters.base_model import BaseModel


@dataclass(frozen=True)
class Example:
    """One text to learn from or to answer.

    Attributes:
        prompt: What comes before the supervised text; empty in memory injection.
        response: The supervised text.
    """

    prompt: str
    response: str


@dataclass(frozen=True, eq=False)
class Adapter:
    """One trained set of LoRA matrices, immutable.

    Attributes:
        key: Whose it is and from which stage (`local:USER`, `global:2`).
        plan: Placement and size.
        tensors: Per linear map, by its full module path: A (r x d_in) and B (d_out x r),
            float32 on the CPU.
    """

    key: str
    plan: AdapterPlan
    tensors: Mapping[str, tuple[torch.Tensor, torch.Tensor]] = field(repr=False)


@dataclass(frozen=True)
class TrainJob:
    """One adapter to be trained.

    Attributes:
        key: The adapter's key; with the seed it fixes initialisation and order.
        examples: What to learn from, in chronological order.
        plan: Placement and size.
        seed: Seed of the run.
        epochs: Passes over the examples; None where `steps` counts instead.
        steps: Optimiser steps, cycling over the examples; None where `epochs` counts.
        shuffle: Whether each pass goes in a random order; else in the order given.
        below: Frozen adapters that are active underneath.
        start: The adapter to start from; None starts from a fresh one (B = 0).
        reusable: Whether another trial may ask for the very same adapter, so that it is worth
            keeping; says nothing of the result.
    """

    key: str
    examples: tuple[Example, ...]
    plan: AdapterPlan
    seed: int
    epochs: int | None = None
    steps: int | None = None
    shuffle: bool = False
    below: tuple[Adapter, ...] = ()
    start: Adapter | None = None
    reusable: bool = False


@dataclass(frozen=True)
class PredictJob:
    """Queries to be answered by the base with a stack of adapters, bottom first."""

    examples: tuple[Example, ...]
    adapters: tuple[Adapter, ...] = ()
    generate: bool = True


@dataclass(frozen=True)
class Answer:
    """What came of one example.

    Attributes:
        loss: Mean negative log-likelihood of the reference, nats per response token.
        tokens: Number of response tokens, the end token included.
        generated: The greedy generation, or None where none was asked for.
    """

    loss: float
    tokens: int
    generated: str | None


class AdapterTrainer(Protocol):
    """Trains adapters on a frozen base and answers with them.

    Results depend on each job alone: neither on its neighbours nor on the order of jobs.

    Attributes:
        settings: How adapters are trained.
        halvings: How often what goes through the model in one pass is halved, for want of memory.
    """

    settings: TrainingSettings
    halvings: int

    @property
    def base(self) -> BaseModel:
        """The frozen base model, without any adapter between the calls; some methods work in it."""
        ...

    def train(self, jobs: Sequence[TrainJob]) -> list[Adapter]:
        """Returns one adapter per job, in order."""
        ...

    def predict(self, jobs: Sequence[PredictJob]) -> list[list[Answer]]:
        """Returns per job one answer per example, in order."""
        ...

    def embed(self, texts: Sequence[str]) -> torch.Tensor:
        """Returns the base's mean last hidden state of each text (texts x width, float32)."""
        ...

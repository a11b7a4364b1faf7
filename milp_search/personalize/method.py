"""What a personalisation method is given and what it returns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from milp_search.adapters.jobs import Adapter, AdapterTrainer
from milp_search.adapters.stage_cache import StageCache
from milp_search.core.plan import TrialPlan
from milp_search.core.records import PersonalizationTask
from milp_search.core.settings import TrainingSettings


@dataclass(frozen=True)
class Run:
    """One training run of a method.

    Attributes:
        task: The population; a method reads the targets' training histories only.
        plan: What to train.
        trainer: Trains and embeds.
        settings: Epochs and steps of the stages.
        seed: Seed of initialisation, order and k-means.
        cache: Where stages that other trials may ask for are kept; None keeps nothing.
        base_fingerprint: The trainer's base model in the cache's keys; where it is empty, nothing
            that depends on the base is kept here.
    """

    task: PersonalizationTask
    plan: TrialPlan
    trainer: AdapterTrainer
    settings: TrainingSettings
    seed: int
    cache: StageCache | None = None
    base_fingerprint: str = ""


Stacks = Mapping[str, tuple[Adapter, ...]]
"""Per user the adapters that answer for them, bottom first; empty is the base model."""

Method = Callable[[Run], Stacks]

"""What a personalisation method is given and what it returns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from milp_search.adapters.checkpoints import Checkpoints
from milp_search.adapters.jobs import Adapter, AdapterTrainer, Answer
from milp_search.adapters.stage_cache import StageCache
from milp_search.core.plan import TrialPlan
from milp_search.core.records import Interaction, PersonalizationTask, UserHistory, UserTask
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
        checkpoints: Where the run's own stages are kept for its next attempt; None keeps none.
    """

    task: PersonalizationTask
    plan: TrialPlan
    trainer: AdapterTrainer
    settings: TrainingSettings
    seed: int
    cache: StageCache | None = None
    base_fingerprint: str = ""
    checkpoints: Checkpoints | None = None

    def among(self, users: Sequence[UserTask]) -> Run:
        """Returns the run as if these users were the targets."""
        return replace(self, task=replace(self.task, targets=tuple(users)))


def as_targets(users: Sequence[UserHistory]) -> list[UserTask]:
    """Returns users who are no targets as if they were, without anything held out."""
    return [UserTask(user.user, user.interactions, (), ()) for user in users]


Stacks = Mapping[str, tuple[Adapter, ...]]
"""Per user the adapters that answer for them, bottom first; empty is the base model."""

Respond = Callable[[Sequence[Sequence[Interaction]], bool], list[list[Answer]]]
"""Answers each target's queries, in the task's order; the flag says whether texts are generated."""


@dataclass(frozen=True)
class Trained:
    """What a method learned.

    Attributes:
        stacks: The adapters that are kept and exported.
        respond: How it answers, where that is more than each user's stack with the plan's items
            in the prompt; None where it is just that.
    """

    stacks: Stacks
    respond: Respond | None = None


Method = Callable[[Run], Stacks | Trained]

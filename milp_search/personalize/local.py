"""The local stages: one adapter per user, from that user's training history alone."""

from __future__ import annotations

from dataclasses import replace

from milp_search.adapters.jobs import Adapter, Example, TrainJob
from milp_search.core.records import UserTask
from milp_search.personalize.method import Run, Stacks
from milp_search.personalize.retrieval import injection_examples
from milp_search.personalize.reuse import run_training_examples


def inject_memory(run: Run, below: Stacks) -> dict[str, Adapter]:
    """Returns one adapter per user, trained to predict the next tokens of the user's history.

    Source: MiLP, section 2.2 (memory injection).
    """
    jobs = [
        _job(run, user, below, injection_examples(user.history), run.settings.injection_epochs)
        for user in run.task.targets
    ]
    return _by_user(run, [replace(job, reusable=True) for job in jobs])


def tune_on_instructions(
    run: Run, below: Stacks, start: dict[str, Adapter] | None = None, *, shuffle: bool
) -> dict[str, Adapter]:
    """Returns one adapter per user, trained from query to response.

    Each lies on top of the user's frozen adapters in `below` and goes on from the user's adapter
    in `start` (None starts afresh); unless shuffled, examples go in chronological order.

    Source: MiLP, section 2.3 (instruction tuning); LoGo, Eq. 6-7 (the chronological order).
    """
    jobs = []
    for user, examples in zip(run.task.targets, run_training_examples(run), strict=True):
        job = _job(run, user, below, examples, run.settings.tuning_epochs)
        first = None if start is None else start[user.user]
        jobs.append(replace(job, start=first, shuffle=shuffle))
    return _by_user(run, jobs)


def stacked(run: Run, below: Stacks, local: dict[str, Adapter]) -> Stacks:
    """Returns each user's own adapter on top of what lies below it."""
    users = [user.user for user in run.task.targets]
    return {user: (*below.get(user, ()), local[user]) for user in users}


def _job(
    run: Run, user: UserTask, below: Stacks, examples: tuple[Example, ...], epochs: int
) -> TrainJob:
    return TrainJob(
        key=f"local:{user.user}",
        examples=examples,
        plan=run.plan.adapter,
        seed=run.seed,
        epochs=epochs,
        below=below.get(user.user, ()),
    )


def _by_user(run: Run, jobs: list[TrainJob]) -> dict[str, Adapter]:
    trained = run.trainer.train(jobs)
    return {user.user: adapter for user, adapter in zip(run.task.targets, trained, strict=True)}

"""The local stages: adapters that learn from one user's history, or from that of a group."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

from milp_search.adapters.jobs import Adapter, Example, TrainJob
from milp_search.core.records import UserTask
from milp_search.personalize.communities import pooled_order
from milp_search.personalize.method import Run, Stacks
from milp_search.personalize.retrieval import injection_examples
from milp_search.personalize.reuse import run_groups, run_training_examples

Examples = Sequence[tuple[Example, ...]]
"""Each target's training examples, in the task's order."""


def inject_memory(run: Run, below: Stacks) -> dict[str, Adapter]:
    """Returns each user's adapter, trained to predict the next tokens of the history.

    Source: MiLP, section 2.2 (memory injection).
    """
    examples = [injection_examples(user.history) for user in run.task.targets]
    jobs = _jobs(run, below, examples, run.settings.injection_epochs)
    return _by_user(run, [replace(job, reusable=True) for job in jobs])


def tune_on_instructions(
    run: Run,
    below: Stacks,
    start: dict[str, Adapter] | None = None,
    *,
    shuffle: bool,
    examples: Examples | None = None,
) -> dict[str, Adapter]:
    """Returns each user's adapter, trained from query to response.

    Each lies on top of the user's frozen adapters in `below` and goes on from the user's adapter
    in `start` (None starts afresh); unless shuffled, examples go in chronological order. The
    examples are the histories with the plan's retrieved items unless others are given.

    Source: MiLP, section 2.3 (instruction tuning); LoGo, Eq. 6-7 (the chronological order).
    """
    examples = run_training_examples(run) if examples is None else examples
    jobs = _jobs(run, below, examples, run.settings.tuning_epochs)
    members = [users[0].user for users in _members(run)]
    return _by_user(
        run,
        [
            replace(job, start=None if start is None else start[first], shuffle=shuffle)
            for job, first in zip(jobs, members, strict=True)
        ],
    )


def stacked(run: Run, below: Stacks, local: dict[str, Adapter]) -> Stacks:
    """Returns each user's adapter on top of what lies below it."""
    users = [user.user for user in run.task.targets]
    return {user: (*below.get(user, ()), local[user]) for user in users}


def _jobs(run: Run, below: Stacks, examples: Examples, epochs: int) -> list[TrainJob]:
    """Returns a job per user, or per group whose adapter the plan's scope lets its users share.

    A group learns from its members' examples in the order of time; a prompt holds its own user's
    items only. Members have the same adapters below them: groups are the communities, or all.
    """
    place = {user.user: number for number, user in enumerate(run.task.targets)}
    jobs = []
    for users in _members(run):
        own = [examples[place[user.user]] for user in users]
        order = pooled_order([user.history for user in users])
        jobs.append(
            TrainJob(
                key=_key(run, users),
                examples=tuple(own[user][item] for user, item in order),
                plan=run.plan.adapter,
                seed=run.seed,
                epochs=epochs,
                below=below.get(users[0].user, ()),
            )
        )
    return jobs


def _members(run: Run) -> list[list[UserTask]]:
    """Returns the users by group, whom one adapter serves together."""
    users = run.task.targets
    if run.plan.scope == "user":
        return [[user] for user in users]
    if run.plan.scope == "all":
        return [[*users]]
    return [[users[place] for place in group] for group in run_groups(run)]


def _key(run: Run, users: Sequence[UserTask]) -> str:
    """Returns an adapter's name: whose it is."""
    if run.plan.scope == "user":
        return f"local:{users[0].user}"
    # As JSON: users "a" and "b" are not the user "a,b".
    return "local:" + json.dumps(sorted(user.user for user in users))


def _by_user(run: Run, jobs: list[TrainJob]) -> dict[str, Adapter]:
    """Returns the trained adapters by the users whom they serve, in the task's order."""
    trained = run.trainer.train(jobs)
    found = {
        user.user: adapter
        for users, adapter in zip(_members(run), trained, strict=True)
        for user in users
    }
    return {user.user: found[user.user] for user in run.task.targets}

"""The global stage: per community, a chain of adapters over T periods."""

from __future__ import annotations

import json

from milp_search.adapters.jobs import Adapter, TrainJob
from milp_search.core.records import Interaction, UserTask
from milp_search.personalize.communities import periods
from milp_search.personalize.method import Run, Stacks
from milp_search.personalize.retrieval import training_examples
from milp_search.personalize.reuse import run_groups


def global_adapters(run: Run) -> Stacks:
    """Returns for every user the last adapter of their community's chain.

    Per community the pooled training histories are cut into T periods; each period's adapter
    starts from the one before. All communities take `global_steps` optimiser steps in all, shared
    evenly by the periods, so that neither c nor T is confounded with the length of training. The
    global stage trains without retrieved items; within a period the order is random.

    Source: LoGo, Eq. 4 and 5.
    """
    users = run.task.targets
    members = [[users[place] for place in group] for group in run_groups(run)]
    chains = [periods([user.history for user in group], run.plan.time_splits) for group in members]
    finals = _train_chains(run, members, chains)
    found = {
        user.user: (final,) for group, final in zip(members, finals, strict=True) for user in group
    }
    return {user.user: found[user.user] for user in users}


def _train_chains(
    run: Run, members: list[list[UserTask]], chains: list[list[list[Interaction]]]
) -> list[Adapter]:
    """Returns the last adapter of each chain; period t of all communities trains together."""
    current: list[Adapter | None] = [None] * len(chains)
    for period in range(max(map(len, chains))):
        alive = [place for place, chain in enumerate(chains) if period < len(chain)]
        jobs = [
            TrainJob(
                key=_key(members[place]),
                examples=training_examples(chains[place][period], 0),
                plan=run.plan.adapter,
                seed=run.seed + 7919 * period,
                steps=even_share(run.settings.global_steps, len(chains[place]), period),
                shuffle=True,
                start=current[place],
                reusable=True,
            )
            for place in alive
        ]
        for place, adapter in zip(alive, run.trainer.train(jobs), strict=True):
            current[place] = adapter
    return [adapter for adapter in current if adapter is not None]


def _key(members: list[UserTask]) -> str:
    """Returns a community's name: its members, whatever number k-means gave it."""
    # As JSON: users "a" and "b" are not the user "a,b".
    return "global:" + json.dumps(sorted(user.user for user in members))


def even_share(total: int, parts: int, part: int) -> int:
    """Returns the part's share: all shares sum to the total, none differ by more than one."""
    return total * (part + 1) // parts - total * part // parts

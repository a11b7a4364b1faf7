"""The global stage: per community, a chain of adapters over T periods."""

from __future__ import annotations

import hashlib
import json

from milp_search.adapters.jobs import Adapter, TrainJob
from milp_search.core.records import UserTask
from milp_search.personalize.communities import periods
from milp_search.personalize.method import Run, Stacks
from milp_search.personalize.retrieval import training_examples
from milp_search.personalize.reuse import run_groups


def global_adapters(run: Run) -> Stacks:
    """Returns for every user the last adapter of their community's chain.

    A community none of whose users contributes has no global adapter.

    Per community the pooled training histories are cut into T periods; each period's adapter
    starts from the one before. All communities take `global_steps` optimiser steps in all, shared
    evenly by the periods, so that neither c nor T is confounded with the length of training. The
    global stage trains without retrieved items; within a period the order is random.

    Source: LoGo, Eq. 4 and 5.
    """
    found = {
        user.user: (chain[-1],) if chain else ()
        for group, chain in global_chains(run)
        for user in group
    }
    return {user.user: found[user.user] for user in run.task.targets}


def global_chains(run: Run) -> list[tuple[list[UserTask], list[Adapter]]]:
    """Returns each community's users and its adapters `Phi_{G,1} ... Phi_{G,t}`.

    Period t of all communities trains together. The chains end after the plan's
    `global_periods`; the steps of the periods that are left out are not made up for.
    """
    users, contributors = run.task.targets, _contributors(run)
    groups = run_groups(run)
    members = [[users[place] for place in group if place in contributors] for group in groups]
    chains = [periods([user.history for user in group], run.plan.time_splits) for group in members]
    found: list[list[Adapter]] = [[] for _ in chains]
    for period in range(max(map(len, chains)))[: run.plan.global_periods]:
        alive = [place for place, chain in enumerate(chains) if period < len(chain)]
        jobs = [
            TrainJob(
                key=_key(members[place]),
                examples=training_examples(chains[place][period], 0),
                plan=run.plan.adapter,
                seed=run.seed + 7919 * period,
                steps=even_share(run.settings.global_steps, len(chains[place]), period),
                shuffle=True,
                start=found[place][-1] if found[place] else None,
                reusable=True,
            )
            for place in alive
        ]
        for place, adapter in zip(alive, run.trainer.train(jobs), strict=True):
            found[place].append(adapter)
    return [
        ([users[place] for place in group], chain)
        for group, chain in zip(groups, found, strict=True)
    ]


def _contributors(run: Run) -> set[int]:
    """Returns the places of the users whose histories the global adapters learn from."""
    users = run.task.targets
    count = run.plan.global_users
    if count is None:
        return set(range(len(users)))
    # By name, so that more contributors are these and some more.
    order = sorted(range(len(users)), key=lambda place: _draw(run.seed, users[place].user))
    return set(order[:count])


def _draw(seed: int, user: str) -> bytes:
    return hashlib.sha256(f"{seed}\0{user}".encode("utf-8", "surrogatepass")).digest()


def _key(members: list[UserTask]) -> str:
    """Returns a community's name: its members, whatever number k-means gave it."""
    # As JSON: users "a" and "b" are not the user "a,b".
    return "global:" + json.dumps(sorted(user.user for user in members))


def even_share(total: int, parts: int, part: int) -> int:
    """Returns the part's share: all shares sum to the total, none differ by more than one."""
    return total * (part + 1) // parts - total * part // parts

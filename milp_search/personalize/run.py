"""Runs a plan: trains by its method, then answers held-out queries."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from milp_search.adapters.jobs import Answer, PredictJob
from milp_search.core.errors import SpecError
from milp_search.core.records import Interaction, Prediction, Predictions, UserTask
from milp_search.personalize.base import base
from milp_search.personalize.hydra import hydra
from milp_search.personalize.logo import logo, logo_global
from milp_search.personalize.malp import malp
from milp_search.personalize.method import Method, Run, Stacks, Trained
from milp_search.personalize.milp import milp, milp_injection_only, milp_tuning_only
from milp_search.personalize.milp_logo import milp_logo
from milp_search.personalize.oppu import oppu
from milp_search.personalize.p2p import p2p
from milp_search.personalize.per_pcs import per_pcs
from milp_search.personalize.retention import retention_costs
from milp_search.personalize.reuse import run_held_out_examples, run_topics
from milp_search.personalize.topics import with_topics
from milp_search.personalize.tplp import tplp
from milp_search.personalize.uelp import uelp

Split = Literal["validation", "test"]

METHODS: dict[str, Method] = {
    "base": base,
    "tplp": tplp,
    "malp": malp,
    "oppu": oppu,
    "p2p": p2p,
    "uelp": uelp,
    "per_pcs": per_pcs,
    "hydra": hydra,
    "milp": milp,
    "milp_tuning_only": milp_tuning_only,
    "milp_injection_only": milp_injection_only,
    "logo": logo,
    "logo_global": logo_global,
    "milp_logo": milp_logo,
}


def train(run: Run) -> Trained:
    """Returns each target user's adapters, trained as the plan's method says.

    Raises SpecError if the plan names no method.
    """
    if run.plan.method not in METHODS:
        raise SpecError(
            f"unknown method {run.plan.method!r}", remedy=f"Known: {', '.join(METHODS)}"
        )
    found = METHODS[run.plan.method](run)
    return found if isinstance(found, Trained) else Trained(found)


def answer(
    run: Run,
    trained: Trained,
    split: Split,
    *,
    generate: bool,
    topics: bool = False,
    retention: bool = False,
) -> Predictions:
    """Returns what was trained answers to a split's queries, grouped by user.

    Args:
        run: What was trained.
        trained: What came of it.
        split: The queries to be answered.
        generate: Whether texts are generated, beside the losses of the true responses.
        topics: Whether generated texts are given their topics, in a task of texts.
        retention: Whether the adapters' cost on other users' texts is measured.

    Returns:
        The predictions, with what was asked for beside them.
    """
    users = run.task.targets
    queries = tuple(queries_of(user, split) for user in users)
    if trained.respond is None:
        answered = _by_stacks(run, trained.stacks, queries, generate)
    else:
        answered = trained.respond(queries, generate)
    items = [
        Prediction(
            item.user, item.query, item.response, answer.generated, answer.loss, answer.tokens
        )
        for asked, answers in zip(queries, answered, strict=True)
        for item, answer in zip(asked, answers, strict=True)
    ]
    found = Predictions(tuple(items), run.task, {user.user: user.history for user in users})
    if topics and run.task.kind == "text":
        found = with_topics(found, *run_topics(run))
    if retention:
        found = replace(found, retention=retention_costs(run, trained.stacks, queries))
    return found


def _by_stacks(
    run: Run, stacks: Stacks, queries: tuple[tuple[Interaction, ...], ...], generate: bool
) -> list[list[Answer]]:
    asked = zip(run.task.targets, run_held_out_examples(run, queries), strict=True)
    jobs = [PredictJob(examples, stacks[user.user], generate) for user, examples in asked]
    return run.trainer.predict(jobs)


def queries_of(user: UserTask, split: Split) -> tuple[Interaction, ...]:
    """Returns a user's held-out interactions of a split."""
    return user.validation if split == "validation" else user.test

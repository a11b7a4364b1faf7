"""Predictions small enough to check by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from milp_search.core.records import (
    Interaction,
    PersonalizationTask,
    Prediction,
    Predictions,
    TaskKind,
    UserTask,
)

Pair = tuple[str, str | None]


def predictions(
    users: Mapping[str, Sequence[Pair]],
    kind: TaskKind = "text",
    labels: tuple[str, ...] = (),
    histories: Mapping[str, Sequence[tuple[str, str]]] | None = None,
) -> Predictions:
    """Returns predictions of (reference, generated) pairs per user.

    The task has two topics, of which texts are about neither; adapters cost everybody 1.
    """
    return Predictions(
        items=tuple(
            Prediction(user, "query", reference, generated, 1.0, 1)
            for user, pairs in users.items()
            for reference, generated in pairs
        ),
        task=PersonalizationTask(
            "t", kind, tuple(UserTask(user, (), (), ()) for user in users), labels=labels
        ),
        histories={
            user: tuple(Interaction(user, query, response) for query, response in items)
            for user, items in (histories or {}).items()
        },
        topics=2,
        retention=dict.fromkeys(users, 1.0),
    )

"""Users' texts: what was asked, what was answered, when, and what a model made of it."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from milp_search.core.judged import PairScore

TaskKind = Literal["text", "classification", "rating"]


@dataclass(frozen=True)
class Interaction:
    """One dated exchange of a user.

    `time` is seconds since the epoch (UTC), or None where the source gives no date; histories are
    in chronological order either way (undated ones in source order).
    """

    user: str
    query: str
    response: str
    time: float | None = None


@dataclass(frozen=True)
class UserHistory:
    """All interactions of one user, oldest first."""

    user: str
    interactions: tuple[Interaction, ...]


@dataclass(frozen=True)
class UserTask:
    """A target user: the history to learn from, and held-out queries that come after it."""

    user: str
    history: tuple[Interaction, ...]
    validation: tuple[Interaction, ...]
    test: tuple[Interaction, ...]


@dataclass(frozen=True)
class PersonalizationTask:
    """A population split without leaks.

    Attributes:
        name: The data set's name.
        kind: What a response is: free text, one of `labels`, or a rating.
        targets: The users to personalise for.
        others: The users who train the base (LoGo, App. B.2); never a target.
        labels: The label set of a classification task, else empty.
        rating_range: Lowest and highest rating of a rating task.
        fingerprint: 16 hex digits over everything above.
    """

    name: str
    kind: TaskKind
    targets: tuple[UserTask, ...]
    others: tuple[UserHistory, ...] = ()
    labels: tuple[str, ...] = ()
    rating_range: tuple[float, float] = (1.0, 5.0)
    fingerprint: str = ""

    @property
    def choices(self) -> tuple[str, ...]:
        """All texts that an answer may be: the labels, or the whole ratings; none for free text."""
        if self.kind != "rating":
            return self.labels
        low, high = self.rating_range
        return tuple(str(rating) for rating in range(math.ceil(low), math.floor(high) + 1))


@dataclass(frozen=True)
class Prediction:
    """One answered query.

    Attributes:
        user: Whose query it was.
        query: The query's text, without what retrieval put before it.
        reference: The response the user saw in truth.
        generated: The greedy generation; None where no metric asked for one.
        loss: Mean negative log-likelihood of the reference, nats per response token; NaN where
            the model does not tell.
        tokens: The number of response tokens behind `loss`.
        topic: Which of the task's topics the generation is about; None where it is about none,
            or where no metric asked for topics.
        used_tokens: Tokens of the prompt and the answer, where a server counts them.
        judged: What judges said of it, by the kind of judge (`model` or `offline`).
    """

    user: str
    query: str
    reference: str
    generated: str | None
    loss: float
    tokens: int
    topic: int | None = None
    used_tokens: int | None = None
    judged: Mapping[str, PairScore] = field(default_factory=dict)


@dataclass(frozen=True)
class Predictions:
    """All predictions of one trial on one split, with what metrics need beside them.

    Attributes:
        items: The predictions, grouped by user in the task's order.
        histories: Each user's training history, for metrics that compare with it.
        task: The task they answer.
        topics: How many topics the task has; 0 where no metric asked for them.
        memory_share: A query's even share of the tokens that it took to write what prompts say of
            people; None where a server does not count.
        retention: What each user's adapters cost on other users' texts, in nats per token; empty
            where no metric asked for it.
    """

    items: tuple[Prediction, ...]
    task: PersonalizationTask
    histories: Mapping[str, tuple[Interaction, ...]] = field(default_factory=dict)
    topics: int = 0
    memory_share: float | None = 0.0
    retention: Mapping[str, float] = field(default_factory=dict)

    def of(self, users: Collection[str]) -> Predictions:
        """Returns these users' predictions and histories alone; the task stays whole."""
        wanted = frozenset(users)
        return replace(
            self,
            items=tuple(item for item in self.items if item.user in wanted),
            histories={user: own for user, own in self.histories.items() if user in wanted},
        )

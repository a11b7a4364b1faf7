"""What the LaMP and OPPU layouts have in common: a profile of items and questions about it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from milp_search.core.errors import DataError, Location
from milp_search.core.records import Interaction
from milp_search.data.fields import as_list, as_object
from milp_search.data.lamp_tasks import (
    LAMP_TASKS,
    canonical_task,
    instruction,
    labels_of,
    profile_pair,
    recognise_task,
)
from milp_search.data.population import Population, UserRecords
from milp_search.data.responses import ResponseRule
from milp_search.data.timestamps import parse_time


@dataclass(frozen=True)
class Question:
    """A question with its answer, and the profile of the user who asked it."""

    user: str
    text: str
    gold: str
    profile: Sequence[Any]
    at: Location


@dataclass
class _Entry:
    """A user's records while they are gathered; a user may have several questions."""

    at: Location
    history: list[Interaction] = field(default_factory=list)
    queries: list[Interaction] = field(default_factory=list)


def profile_of(record: dict[str, Any], at: Location) -> list[Any]:
    """Returns a record's profile.

    Raises DataError if it is missing or empty: a user without history.
    """
    profile = as_list(record, "profile", at)
    if not profile:
        raise DataError(
            "expected a user with a history, got an empty 'profile'",
            at=at,
            remedy="Remove the record, or give the user profile items.",
        )
    return profile


def build_population(questions: Sequence[Question], task_name: str | None) -> Population:
    """Returns the users of the questions; users with several questions are joined.

    Profile items whose response is no label (or rating) of the task are dropped and counted.

    Raises DataError if the task is unknown or does not fit the questions.
    """
    first = questions[0]
    name = canonical_task(task_name) if task_name else recognise_task(first.text, first.at)
    if name is None:
        raise unknown_task(task_name, first.at)
    task = LAMP_TASKS[name]
    rule = ResponseRule(task.kind, labels_of(task, first.text))
    dropped: Counter[str] = Counter()
    entries: dict[str, _Entry] = {}
    for question in questions:
        entry = entries.setdefault(question.user, _Entry(question.at))
        _add(entry, question, name, rule, dropped)
    return Population(
        name=name,
        kind=task.kind,
        users=tuple(
            UserRecords(user, tuple(entry.history), tuple(entry.queries), entry.at)
            for user, entry in entries.items()
        ),
        labels=tuple(rule.labels),
        rating_range=rule.rating_range,
        dropped=dropped,
    )


def unknown_task(name: str | None, at: Location | None) -> DataError:
    """Returns the error for a task that is not in the table."""
    return DataError(
        f"expected a LaMP task ({', '.join(LAMP_TASKS)}), got {name!r}",
        at=at,
        remedy="Correct `data.task`.",
    )


def _add(
    entry: _Entry, question: Question, name: str, rule: ResponseRule, dropped: Counter[str]
) -> None:
    task = LAMP_TASKS[name]
    prefix = instruction(task, question.text, question.at)
    for item in question.profile:
        query, response = profile_pair(task, prefix, item, question.at)
        accepted = rule.accept(response)
        if accepted is None:
            dropped[f"response that is no {rule.kind} of the task"] += 1
            continue
        time = parse_time(as_object(item, question.at).get("date"), question.at)
        entry.history.append(Interaction(question.user, query, accepted, time))
    # An instruction without a text is an empty query, which cleaning drops.
    text = question.text if question.text != prefix.rstrip() else ""
    gold = rule.require(question.gold, question.at)
    entry.queries.append(Interaction(question.user, text, gold))

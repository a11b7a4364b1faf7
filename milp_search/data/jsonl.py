"""Plain JSON Lines: one `{user_id, query, response, timestamp}` per line, other keys ignored.

`timestamp` may be missing. The task says what a response is: `text` (the default), `rating`
(a number from 1 to 5) or `classification` (the labels are the distinct responses, sorted; those
that differ in case alone are one label, spelled as it first occurs).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import get_args

from milp_search.core.errors import DataError, Location
from milp_search.core.records import Interaction, TaskKind
from milp_search.core.settings import DataSettings
from milp_search.data.fields import as_object, as_text
from milp_search.data.hub import hub_records
from milp_search.data.population import Population, UserRecords
from milp_search.data.read_json import Located, json_lines
from milp_search.data.responses import ResponseRule
from milp_search.data.source import Source, name_of
from milp_search.data.timestamps import parse_time

KINDS: tuple[TaskKind, ...] = get_args(TaskKind)


def read_jsonl(source: Source, settings: DataSettings) -> Population:
    """Returns the users of the file, in the order in which they first occur.

    Records without a user are dropped and counted.

    Raises DataError if the file or a record cannot be used, or the task is none of the three.
    """
    kind = _kind(settings.task)
    dropped: Counter[str] = Counter()
    histories: dict[str, list[Interaction]] = {}
    first: dict[str, Location] = {}
    spellings: dict[str, str] = {}
    for at, value in _records(source):
        item = _interaction(value, ResponseRule(kind), at)
        if kind == "classification":
            spelling = spellings.setdefault(item.response.casefold(), item.response)
            item = replace(item, response=spelling)
        if not item.user:
            dropped["no user"] += 1
            continue
        first.setdefault(item.user, at)
        histories.setdefault(item.user, []).append(item)
    if not histories:
        raise _empty(source)
    users = tuple(UserRecords(u, tuple(items), at=first[u]) for u, items in histories.items())
    return Population(_name(source), kind, users, _labels(kind, users), dropped=dropped)


def _kind(task: str | None) -> TaskKind:
    for kind in KINDS:
        if task in (kind, None):
            return kind
    raise DataError(
        f"expected the task {', '.join(KINDS)} for JSON Lines, got {task!r}",
        remedy="Correct `data.task`.",
    )


def _records(source: Source) -> Iterator[Located]:
    if source.hub is not None:
        yield from hub_records(source.hub)
    for file in source.files:
        yield from json_lines(file)


def _interaction(value: object, rule: ResponseRule, at: Location) -> Interaction:
    record = as_object(value, at)
    response = as_text(record, "response", at)
    return Interaction(
        user=as_text(record, "user_id", at),
        query=as_text(record, "query", at),
        response=rule.require(response, at) if response else "",
        time=parse_time(record.get("timestamp"), at),
    )


def _labels(kind: TaskKind, users: tuple[UserRecords, ...]) -> tuple[str, ...]:
    if kind != "classification":
        return ()
    return tuple(sorted({item.response for user in users for item in user.history} - {""}))


def _name(source: Source) -> str:
    return source.hub if source.hub is not None else name_of(source.files[0])


def _empty(source: Source) -> DataError:
    where = Location(source.hub) if source.hub is not None else Location(source.files[0], 1, 1)
    return DataError(
        "expected at least one record with a user, got none",
        at=where,
        remedy="Each line holds user_id, query, response and, if known, timestamp.",
    )

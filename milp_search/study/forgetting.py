"""What forgetting a user does to a study's events."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from milp_search.core.errors import StudyError
from milp_search.core.forgotten import salt_of
from milp_search.core.trial import Measurement
from milp_search.study.events import (
    Abandoned,
    Completed,
    Event,
    Failed,
    FinalTest,
    Finished,
    Forgotten,
    Measurements,
    Payload,
    Started,
)
from milp_search.study.replay import StudyState
from milp_search.study.store import EventStore

LEFT_OUT = "left out: it named a user who was forgotten"

Names = Callable[[str], bool]
"""Whether a text names the user."""


@dataclass(frozen=True)
class LeftOut:
    """What a store held of single users.

    Attributes:
        values: Values of single users, which are left out.
        means_of_one: Means over one user only, which stay as all means do.
    """

    values: int
    means_of_one: int


def forget_in_store(path: Path, names: Names, forgotten: Forgotten) -> LeftOut:
    """Rewrites a store without the users' own values and returns what these were.

    Means and standard errors stay as they are. The values of all users go, and not only the one's:
    n times the mean, less the others' values, is the value of the one who is missing.

    Args:
        path: The store; the driver's lock is held, and nobody of this process has it open.
        names: Whether a text names the user: reasons that do are left out.
        forgotten: The event that comes last.

    Returns:
        How much of single users there was.

    Raises:
        StudyError: The store is damaged or cannot be written; it is as it was.
    """
    store = EventStore.open(path, read_only=True)
    try:
        events = store.read()
    finally:
        store.close()
    kept = [without_traces(event, names) for event in events]
    EventStore.rewrite(path, [*kept, Event(forgotten, at=time.time())])
    return _left_out(events)


def check_marks(state: StudyState, marks: Iterable[str]) -> None:
    """Refuses a study file that has lost the mark of a user who was forgotten.

    Args:
        state: The study.
        marks: The marks in its study file.

    Raises:
        StudyError: A mark is missing: the user would be trained on again.
    """
    missing = set(state.forgotten) - {salt_of(mark) for mark in marks}
    if missing:
        raise StudyError(
            f"expected the marks of {len(state.forgotten)} forgotten users in the study file, "
            f"{len(missing)} are missing",
            remedy="Restore `data.forgotten` of the study.yaml in the study's folder.",
        )


def without_traces(event: Event, names: Names) -> Event:
    """Returns the event without values per user, and without reasons that name the user."""
    return replace(event, payload=_without_reason(_without_values(event.payload), names))


def aggregates(measurements: Measurements) -> dict[str, Measurement]:
    """Returns the measurements without values per user."""
    return {name: replace(value, per_user=()) for name, value in measurements.items()}


def _left_out(events: Iterable[Event]) -> LeftOut:
    sizes = [
        len(value.per_user)
        for event in events
        if isinstance(event.payload, Completed | FinalTest)
        for value in event.payload.measurements.values()
    ]
    return LeftOut(sum(sizes), sizes.count(1))


def _without_values(payload: Payload) -> Payload:
    if not isinstance(payload, Completed | FinalTest):
        return payload
    return replace(payload, measurements=aggregates(payload.measurements))


def _without_reason(payload: Payload, names: Names) -> Payload:
    """Returns the payload without a reason that names the user, as somebody's own words may."""
    if isinstance(payload, Failed) and names(payload.failure.reason):
        return replace(payload, failure=replace(payload.failure, reason=LEFT_OUT))
    if isinstance(payload, Started) and payload.after and names(payload.after.reason):
        return replace(payload, after=replace(payload.after, reason=LEFT_OUT))
    if isinstance(payload, Abandoned | Finished) and names(payload.reason):
        return replace(payload, reason=LEFT_OUT)
    return payload

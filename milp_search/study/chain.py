"""Events as rows of the store, each digest chained over the one before."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from dataclasses import dataclass

from milp_search.study.events import KINDS, Event, kind_of
from milp_search.study.reasons import one_line

Row = tuple[int, str, int | None, int | None, str, float, float | None, str]

COLUMNS = "seq, kind, trial, attempt, payload, at, elapsed_s, digest"


@dataclass(frozen=True)
class Scan:
    """What a store holds.

    Attributes:
        events: The events up to the first that is damaged.
        digests: Theirs, one each.
        damage: What is wrong with what follows them, or with the file; None where all is well.
    """

    events: tuple[Event, ...]
    digests: tuple[str, ...]
    damage: str | Exception | None = None

    @property
    def head(self) -> str:
        """The digest of the last event, empty where there is none."""
        return self.digests[-1] if self.digests else ""


def scan(connection: sqlite3.Connection) -> Scan:
    """Returns all events whose digests are right, from the first on without a gap.

    Args:
        connection: A connection to a store; what it sees of other processes stays the same
            meanwhile.

    Returns:
        The events, and why there are no more.

    Raises:
        sqlite3.ProgrammingError: The connection is closed, or of another thread.
    """
    events: list[Event] = []
    digests: list[str] = []
    try:
        with connection:
            connection.execute("BEGIN DEFERRED")
            for row in connection.execute(_select(connection)):
                events.append(event_of(row, len(events) + 1, digests[-1] if digests else ""))
                digests.append(row[-1])
            # The chain cannot miss what was cut off its end; the b-tree's own accounts do.
            verdict = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
    except sqlite3.ProgrammingError:
        raise  # the connection is closed or of another thread: that says nothing of the store
    except (sqlite3.Error, ValueError, LookupError, TypeError) as error:
        return Scan(tuple(events), tuple(digests), error)
    return Scan(tuple(events), tuple(digests), None if verdict == "ok" else one_line(verdict))


def _select(connection: sqlite3.Connection) -> str:
    found = {row[1] for row in connection.execute("PRAGMA table_info(events)")}
    # Version 1 had no such column.
    columns = COLUMNS if "elapsed_s" in found else COLUMNS.replace("elapsed_s", "NULL")
    return f"SELECT {columns} FROM events ORDER BY seq"


def row_of(seq: int, event: Event, head: str) -> Row:
    """Returns an event as a row.

    Args:
        seq: Its number, from 1.
        event: The event.
        head: The digest of the event before, empty before the first.

    Returns:
        The row, with its digest.
    """
    payload = json.dumps(event.payload.as_dict(), allow_nan=False)
    fields = (seq, kind_of(event.payload), event.trial, event.attempt, payload, event.at)
    return (*fields, event.elapsed_s, _digest(head, (*fields, event.elapsed_s)))


def event_of(row: Row, seq: int, head: str) -> Event:
    """Returns the event of a row.

    Args:
        row: The row.
        seq: The number that it must have.
        head: The digest of the event before.

    Returns:
        The event.

    Raises:
        ValueError: The row is another one, or was changed.
    """
    _, kind, trial, attempt, payload, at, elapsed_s, digest = row
    if row[0] != seq:
        raise ValueError(f"event {seq} is missing")
    if digest != _digest(head, row[:-1]):
        raise ValueError(f"event {seq} does not match its digest")
    return Event(KINDS[kind].from_dict(json.loads(payload)), trial, attempt, at, elapsed_s)


def _digest(head: str, fields: tuple[object, ...]) -> str:
    # Events of version 1 have no `elapsed_s`, and digests over what they have.
    known = fields if fields[-1] is not None else fields[:-1]
    return hashlib.sha256(json.dumps([head, *known]).encode()).hexdigest()

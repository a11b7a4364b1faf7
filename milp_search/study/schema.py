"""How the store's file is laid out, in which versions, and how it is opened."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from urllib.parse import quote

APPLICATION_ID = 0x6D696C70  # "milp": `file` and we tell the store from other databases
SCHEMA_VERSION = 2

# ours: how long one process waits for another's transaction.
PATIENCE_S = 30.0

# What takes a store from each version to the next; a new one begins at 0 and goes the same way.
_STEPS = (
    (
        "CREATE TABLE events (seq INTEGER PRIMARY KEY, kind TEXT NOT NULL, trial INTEGER, "
        "attempt INTEGER, payload TEXT NOT NULL, at REAL NOT NULL, digest TEXT NOT NULL)",
        f"PRAGMA application_id = {APPLICATION_ID}",
    ),
    # Its events may also be of the kinds `looked` and `remembered`, which version 1 began without.
    ("ALTER TABLE events ADD COLUMN elapsed_s REAL",),
)

_TRIGGERS = (
    "CREATE TRIGGER IF NOT EXISTS events_never_change BEFORE UPDATE ON events "
    "BEGIN SELECT RAISE(ABORT, 'events are append-only'); END",
    "CREATE TRIGGER IF NOT EXISTS events_never_go BEFORE DELETE ON events "
    "BEGIN SELECT RAISE(ABORT, 'events are append-only'); END",
)


def connect(path: Path, *, read_only: bool) -> sqlite3.Connection:
    """Returns a connection to a store that exists; nothing is read or written yet.

    Args:
        path: The store.
        read_only: Nothing can be written through it.

    Returns:
        The connection, which begins transactions only where told. As a `with` block it commits
        or undoes them, in one step of SQLite's module that no interrupt can cut short.
    """
    query = _reading(path) if read_only else "mode=rw"
    connection = sqlite3.connect(_uri(path, query), uri=True, isolation_level=None)
    # Text that is damaged is read nevertheless, and then found not to match its digest.
    connection.text_factory = lambda text: text.decode(errors="replace")
    set_patience(connection, PATIENCE_S)
    # The file may come from someone else: what stands in it is never run, and read with suspicion.
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.execute("PRAGMA cell_size_check = ON")
    if not read_only:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
    return connection


def set_patience(connection: sqlite3.Connection, seconds: float) -> None:
    """Decides how long a connection waits for those of other processes."""
    connection.execute(f"PRAGMA busy_timeout = {round(1000 * seconds)}")


def side_files(path: Path) -> list[Path]:
    """Returns where SQLite keeps what belongs to a database, there or not."""
    return [path.with_name(path.name + suffix) for suffix in ("-wal", "-shm", "-journal")]


def _reading(path: Path) -> str:
    # A folder that cannot be written to has no place for SQLite's side files.
    frozen = not os.access(path.parent, os.W_OK) and not side_files(path)[0].exists()
    return "mode=ro&immutable=1" if frozen else "mode=ro"


def _uri(path: Path, query: str) -> str:
    return f"file:{quote(os.fsencode(path.absolute()))}?{query}"


def pragma(connection: sqlite3.Connection, name: str) -> int:
    """Returns a number that SQLite keeps in a database."""
    value: int = connection.execute(f"PRAGMA {name}").fetchone()[0]
    return value


def bring_up_to_date(connection: sqlite3.Connection) -> None:
    """Lays an empty store out, takes an earlier version to this one, puts lost triggers back."""
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        version = pragma(connection, "user_version")
        for step in _STEPS[version:]:
            for statement in step:
                connection.execute(statement)
        for trigger in _TRIGGERS:
            connection.execute(trigger)
        if version < SCHEMA_VERSION:
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

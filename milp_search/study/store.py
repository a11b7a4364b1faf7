"""The events of a study in SQLite: append-only, each digest chained over the one before."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self, final
from urllib.parse import quote

from milp_search.core.errors import StudyError
from milp_search.study.events import KINDS, Event, kind_of
from milp_search.study.whole_file import sync_folder

APPLICATION_ID = 0x6D696C70  # "milp": `file` and we tell the store from other databases
SCHEMA_VERSION = 1

_SCHEMA = f"""
BEGIN IMMEDIATE;
CREATE TABLE events (
    seq INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    trial INTEGER,
    attempt INTEGER,
    payload TEXT NOT NULL,
    at REAL NOT NULL,
    digest TEXT NOT NULL
);
CREATE TRIGGER events_never_change BEFORE UPDATE ON events
BEGIN SELECT RAISE(ABORT, 'events are append-only'); END;
CREATE TRIGGER events_never_go BEFORE DELETE ON events
BEGIN SELECT RAISE(ABORT, 'events are append-only'); END;
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {SCHEMA_VERSION};
COMMIT;
"""

# ours: how long one process waits for another's transaction.
_PATIENCE_S = 30.0

# ours: how long an event that is on disk, in the log, waits for readers before it is there alone.
_READER_S = 0.5

_INSERT = "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?)"
_SELECT = "SELECT seq, kind, trial, attempt, payload, at, digest FROM events ORDER BY seq"

_Row = tuple[int, str, int | None, int | None, str, float, str]


@final
class EventStore:
    """An open store; `head` is the digest of its last event, empty where there is none."""

    def __init__(self, path: Path, connection: sqlite3.Connection, *, read_only: bool):
        self.path, self.read_only = path, read_only
        self._connection = connection
        self._seq, self.head = 0, ""

    @classmethod
    def create(cls, path: Path) -> Self:
        """Makes an empty store that only its owner can read.

        Args:
            path: Where; a store without events there is taken over.

        Returns:
            The store, open for writing.

        Raises:
            StudyError: There is a store with events at `path`, or none can be made.
        """
        with _explained(path, "to make a store"):
            # SQLite gives its side files the permissions of the main one.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600))
            connection = _connect(path, read_only=False)
            if _pragma(connection, "user_version") == 0 and not _tables(connection):
                connection.executescript(_SCHEMA)
        store = cls(path, connection, read_only=False)
        try:
            _check_version(store.path, connection)
            if store.read():
                raise StudyError(
                    f"expected a new folder, got {path.parent}, which holds a study already",
                    remedy=f"Choose another folder, or go on with `milp-search resume "
                    f"{path.parent}`.",
                )
        except StudyError:
            store.close()
            raise
        return store

    @classmethod
    def open(cls, path: Path, *, read_only: bool = False) -> Self:
        """Opens a store that exists; `read` must come before `append`.

        Args:
            path: The store.
            read_only: Opens it so that nothing can be written.

        Returns:
            The store.

        Raises:
            StudyError: There is none, or it is no store of ours or of another version.
        """
        if not path.is_file():
            raise StudyError(
                f"expected a study in {path.parent}, found no {path.name}",
                remedy="Check the folder's name, or start a study with `milp-search run`.",
            )
        with _explained(path, "a study's store"):
            connection = _connect(path, read_only=read_only)
        try:
            _check_version(path, connection)
        except StudyError:
            connection.close()
            raise
        return cls(path, connection, read_only=read_only)

    @classmethod
    def rewrite(cls, path: Path, events: Sequence[Event]) -> None:
        """Replaces a store by one of these events: on disk there is the old one or the new.

        Call it under the driver's lock, with no connection of one's own to the store open. A
        reader that has the old store open goes on reading that.

        Args:
            path: A store that can be read.
            events: All events of the new one, whose digests are chained anew.

        Raises:
            StudyError: It cannot be done; the store is as it was.
        """
        new = path.with_name(path.name + ".new")
        _remove(new)
        store = cls.create(new)
        try:
            store.append(events)
            store.read()
        finally:
            store.close()
        try:
            _empty_log(path)
            replace_store(path, new)
        except StudyError:
            _remove(new)
            raise

    def read(self) -> list[Event]:
        """Returns all events, after their digests and the file's structure were checked.

        Returns:
            The events in their order.

        Raises:
            StudyError: The store is damaged; the message names the first event concerned.
        """
        events: list[Event] = []
        head = ""
        try:
            for row in self._connection.execute(_SELECT):
                events.append(_event(row, len(events) + 1, head))
                head = row[6]
            # The chain cannot miss what was cut off its end; the b-tree's own accounts do.
            verdict = self._connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
        except (sqlite3.Error, ValueError, LookupError, TypeError) as error:
            raise _damaged(self.path, len(events), error) from error
        if verdict != "ok":
            raise _damaged(self.path, len(events), verdict)
        self._seq, self.head = len(events), head
        return events

    def append(self, events: Sequence[Event]) -> None:
        """Commits events to disk, all or none.

        Args:
            events: The events, which come after those there are.

        Raises:
            StudyError: Another process wrote since the last read, or the disk takes no more.
        """
        with _explained(self.path, "to write to the store"), self._transaction():
            self._refuse_strangers()
            head = self.head
            for seq, event in enumerate(events, self._seq + 1):
                row = _row(seq, event, head)
                self._connection.execute(_INSERT, row)
                head = row[6]
        self._seq, self.head = self._seq + len(events), head
        # The write-ahead log goes into the main file at once: a lost log then loses no event.
        self._empty_log(_READER_S)

    def close(self) -> None:
        """Closes the file; a second call does nothing."""
        self._connection.close()

    def _empty_log(self, patience_s: float) -> bool:
        """Brings the write-ahead log into the main file; returns whether all of it went."""
        self._connection.execute(f"PRAGMA busy_timeout = {round(1000 * patience_s)}")
        busy = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        self._connection.execute(f"PRAGMA busy_timeout = {round(1000 * _PATIENCE_S)}")
        return not busy

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    def _refuse_strangers(self) -> None:
        # The file lock keeps others out; where it fails (some network file systems), this does.
        query = "SELECT seq, digest FROM events ORDER BY seq DESC LIMIT 1"
        last = self._connection.execute(query).fetchone() or (0, "")
        if last != (self._seq, self.head):
            raise StudyError(
                f"{self.path} was written to by another process: expected event {self._seq} to be "
                f"the last, got {last[0]}",
                remedy="End the other driver, then resume the study.",
            )


def replace_store(path: Path, new: Path) -> None:
    """Puts a store that is closed in another one's place.

    Args:
        path: The store that goes; what is in its write-ahead log is lost.
        new: The store that comes, in the same folder.

    Raises:
        StudyError: The folder cannot be written to.
    """
    with _explained(path, "to replace the store"):
        # First, since SQLite would take the old log for one of the new file.
        for side in _side_files(path):
            side.unlink(missing_ok=True)
        os.replace(new, path)
        sync_folder(path.parent)


def _side_files(path: Path) -> list[Path]:
    return [path.with_name(path.name + suffix) for suffix in ("-wal", "-shm", "-journal")]


def _remove(path: Path) -> None:
    with _explained(path, "to remove what an interrupted rewriting left"):
        for file in (*_side_files(path), path):
            file.unlink(missing_ok=True)


def _empty_log(path: Path) -> None:
    """Brings what is in a store's write-ahead log into its main file."""
    store = EventStore.open(path)
    try:
        with _explained(path, "to write to the store"):
            emptied = store._empty_log(_PATIENCE_S)
    finally:
        store.close()
    if not emptied:
        raise StudyError(
            f"expected nobody to read {path} for {_PATIENCE_S:g} s, got one who stays",
            remedy="End it, then try again.",
        )


def _row(seq: int, event: Event, head: str) -> _Row:
    payload = json.dumps(event.payload.as_dict(), allow_nan=False)
    fields = (seq, kind_of(event.payload), event.trial, event.attempt, payload, event.at)
    return (*fields, _digest(head, fields))


def _digest(head: str, fields: tuple[object, ...]) -> str:
    return hashlib.sha256(json.dumps([head, *fields]).encode()).hexdigest()


def _event(row: _Row, seq: int, head: str) -> Event:
    _, kind, trial, attempt, payload, at, digest = row
    if row[0] != seq:
        raise ValueError(f"event {seq} is missing")
    if digest != _digest(head, row[:6]):
        raise ValueError(f"event {seq} does not match its digest")
    return Event(KINDS[kind].from_dict(json.loads(payload)), trial, attempt, at)


def _connect(path: Path, *, read_only: bool) -> sqlite3.Connection:
    if read_only:
        return _connect_to_read(path)
    connection = sqlite3.connect(
        _uri(path, "mode=rw"), uri=True, isolation_level=None, timeout=_PATIENCE_S
    )
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    return connection


def _connect_to_read(path: Path) -> sqlite3.Connection:
    # A folder that cannot be written to has no place for SQLite's side files.
    log = path.with_name(path.name + "-wal")
    frozen = not os.access(path.parent, os.W_OK) and not log.exists()
    query = "mode=ro&immutable=1" if frozen else "mode=ro"
    return sqlite3.connect(_uri(path, query), uri=True, isolation_level=None, timeout=_PATIENCE_S)


def _uri(path: Path, query: str) -> str:
    return f"file:{quote(os.fsencode(path.absolute()))}?{query}"


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    value: int = connection.execute(f"PRAGMA {name}").fetchone()[0]
    return value


def _tables(connection: sqlite3.Connection) -> int:
    count: int = connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0]
    return count


def _check_version(path: Path, connection: sqlite3.Connection) -> None:
    with _explained(path, "a study's store"):
        application = _pragma(connection, "application_id")
        version = _pragma(connection, "user_version")
    if application != APPLICATION_ID:
        raise StudyError(f"expected a study's store, got another kind of database: {path}")
    if version != SCHEMA_VERSION:
        raise StudyError(
            f"expected a store of schema version {SCHEMA_VERSION}, got version {version}: {path}",
            remedy="Use the release of milp-search that wrote it.",
        )


@contextmanager
def _explained(path: Path, expected: str) -> Iterator[None]:
    try:
        yield
    # Python fails to decode SQLite's own message where that quotes damaged text.
    except (sqlite3.Error, OSError, UnicodeDecodeError) as error:
        raise StudyError(
            f"expected {expected}, got: {error} ({path}); nothing was changed",
            remedy="Check the folder's permissions and free space.",
        ) from error


def _damaged(path: Path, whole: int, cause: object) -> StudyError:
    which = f"the first {whole} events are whole" if whole else "no event could be read"
    return StudyError(
        f"the study's store is damaged at event {whole + 1} ({cause}); {which}: {path}",
        remedy="Restore the file from a copy; it is refused rather than read with errors.",
    )

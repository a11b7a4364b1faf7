"""The events of a study in SQLite: append-only, each digest chained over the one before."""

from __future__ import annotations

import logging
import os
import sqlite3
import stat
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Self, final

from milp_search.core.errors import DiskFullError, StudyError
from milp_search.core.whole_file import sync_folder
from milp_search.study.chain import COLUMNS, Scan, row_of, scan
from milp_search.study.disk_space import lacks_space
from milp_search.study.events import Event
from milp_search.study.high_water import HighWater, mark_path, read_mark, write_mark
from milp_search.study.schema import (
    APPLICATION_ID,
    PATIENCE_S,
    SCHEMA_VERSION,
    bring_up_to_date,
    connect,
    pragma,
    set_patience,
    side_files,
)

# ours: how long an event that is on disk, in the log, waits for readers before it is there alone.
_READER_S = 0.5

_INSERT = f"INSERT INTO events ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"

# Number and digest of the last event where there is none.
_NO_EVENT = (0, "")

# A file that is damaged or was never a database, rather than one that cannot be reached.
_CORRUPT = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)

_logger = logging.getLogger(__name__)


def begun(path: Path) -> bool:
    """Returns whether a study lies there, or anything else that a new one must not replace.

    A driver that was killed at once leaves a store without events, or an empty file: no study.
    """
    if not path.exists() or not path.stat().st_size:
        return False
    try:
        with closing(connect(path, read_only=True)) as connection:
            return bool(_tables(connection)) and _holds_events(connection)
    except sqlite3.Error:
        return True


@final
class EventStore:
    """An open store, which knows the number and the digest of its last event."""

    def __init__(self, path: Path, connection: sqlite3.Connection, *, read_only: bool):
        self.path, self.read_only = path, read_only
        self._connection = connection
        # They differ from before a commit until it is known of.
        self._last = self._next = _NO_EVENT

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
        mark = read_mark(path)
        if mark is not None and not (path.exists() and path.stat().st_size):
            raise _cut(path, 0, mark)
        store = cls(path, _laid_out(path), read_only=False)
        try:
            _check_version(path, store._connection)
            if store.read():
                raise StudyError(
                    f"expected a new folder, got {path.parent}, which holds a study already",
                    remedy="Choose another folder, or go on with that study: by `Study.open`, or, "
                    f"where it has a study.yaml, `milp-search resume {path.parent}`.",
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
            The store; one of an earlier version can be read, and written to after `upgrade`.

        Raises:
            StudyError: There is none, or it is no store of ours or of a later version.
        """
        check_file(path)
        with explained(path, "a study's store"):
            connection = connect(path, read_only=read_only)
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
        new = cls.write_beside(path, events)
        try:
            _empty_log(path)
            replace_store(path, new)
        except StudyError:
            _remove(new)
            raise

    @classmethod
    def write_beside(cls, path: Path, events: Sequence[Event]) -> Path:
        """Writes another store of these events and returns where, ready for `replace_store`.

        Args:
            path: The store beside which.
            events: All its events.

        Returns:
            The new store, closed; one that was left there is gone.

        Raises:
            StudyError: It cannot be written.
        """
        new = path.with_name(path.name + ".new")
        _remove(new)
        store = cls.create(new)
        try:
            store.append(events)
            store.read()
        except StudyError:
            store.close()
            _remove(new)
            raise
        store.close()
        return new

    def upgrade(self) -> None:
        """Takes the store to this version of the schema; only its driver may.

        Raises:
            StudyError: It cannot be written to; it is as it was.
        """
        with explained(self.path, "to write to the store"):
            bring_up_to_date(self._connection)

    def read(self) -> list[Event]:
        """Returns all events, after their digests and the file's structure were checked.

        Returns:
            The events in their order.

        Raises:
            StudyError: The store is damaged, or its end is missing; the message names the first
                event concerned.
        """
        # Before the events, to which others may add.
        mark = read_mark(self.path)
        with explained(self.path, "to read the store"):
            found = scan(self._connection)
        if found.damage is not None:
            raise _damaged(self.path, len(found.events), found.damage)
        _check_end(self.path, found, mark)
        self._last = self._next = (len(found.events), found.head)
        return list(found.events)

    def append(self, events: Sequence[Event]) -> None:
        """Commits events to disk, all or none.

        Args:
            events: The events, which come after those there are.

        Raises:
            StudyError: Another process wrote since the last read, or the disk takes no more.
        """
        with explained(self.path, "to write to the store"), self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            self._refuse_strangers()
            before, head = self._last
            for seq, event in enumerate(events, before + 1):
                row = row_of(seq, event, head)
                self._connection.execute(_INSERT, row)
                head = row[-1]
            self._next = (before + len(events), head)
        self._last = self._next
        # The write-ahead log goes into the main file at once: a lost log then loses no event.
        self._empty_log(_READER_S)
        write_mark(self.path, HighWater(*self._last))

    def settled(self) -> int:
        """Returns how many events are on disk, those of others left out.

        An exception can come between a commit and the moment at which `append` knows of it; the
        disk is then asked, and again where that is cut short too.

        Returns:
            The number of the last event that was read or written.

        Raises:
            StudyError: The disk cannot be asked.
        """
        # What an open transaction writes is not on disk yet.
        if self._next != self._last and not self._connection.in_transaction:
            with explained(self.path, "to read the store"):
                reached = self._on_disk() == self._next
            self._last = self._next = self._next if reached else self._last
        return self._last[0]

    def close(self) -> None:
        """Closes the file; a second call does nothing."""
        self._connection.close()

    def close_unused(self) -> None:
        """Closes a new store and, where no event is in it, removes it."""
        self.close()
        if self._last == _NO_EVENT:
            _remove(self.path)

    def _empty_log(self, patience_s: float) -> bool:
        """Brings the write-ahead log into the main file; returns whether all of it went."""
        set_patience(self._connection, patience_s)
        try:
            busy = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        except sqlite3.Error as error:
            # The events are safe in the log, and the next checkpoint takes them along.
            _logger.info("the store's write-ahead log stays for now: %s", error)
            return False
        finally:
            set_patience(self._connection, PATIENCE_S)
        return not busy

    def _refuse_strangers(self) -> None:
        # The file lock keeps others out; where it fails (some network file systems), this does.
        found = self._on_disk()
        if found != self._last:
            raise StudyError(
                f"{self.path} was written to by another process: expected event {self._last[0]} "
                f"to be the last, got {found[0]}",
                remedy="End the other driver, then resume the study.",
            )

    def _on_disk(self) -> tuple[int, str]:
        query = "SELECT seq, digest FROM events ORDER BY seq DESC LIMIT 1"
        return self._connection.execute(query).fetchone() or _NO_EVENT


def _laid_out(path: Path) -> sqlite3.Connection:
    """Returns a connection to a store at a path: what there is, or a new one without events."""
    with explained(path, "to make a store"), ExitStack() as undo:
        if not path.exists():
            undo.callback(_remove, path)
        # SQLite gives its side files the permissions of the main one.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600))
        connection = connect(path, read_only=False)
        undo.callback(connection.close)
        if pragma(connection, "user_version") == 0 and not _tables(connection):
            bring_up_to_date(connection)
        undo.pop_all()
        return connection


def replace_store(path: Path, new: Path) -> None:
    """Puts a store that is closed in another one's place.

    Args:
        path: The store that goes; what is in its write-ahead log is lost.
        new: The store that comes, in the same folder.

    Raises:
        StudyError: The folder cannot be written to.
    """
    with explained(path, "to replace the store"):
        # First, since SQLite would take the old log, and we the old mark, for the new file's.
        for side in (*side_files(path), mark_path(path)):
            side.unlink(missing_ok=True)
        sync_folder(path.parent)
        os.replace(new, path)
        if mark_path(new).exists():
            os.replace(mark_path(new), mark_path(path))
        sync_folder(path.parent)


def _remove(path: Path) -> None:
    with explained(path, "to remove an unfinished store"):
        for file in (*side_files(path), mark_path(path), path):
            file.unlink(missing_ok=True)


def _empty_log(path: Path) -> None:
    """Brings what is in a store's write-ahead log into its main file."""
    store = EventStore.open(path)
    try:
        emptied = store._empty_log(PATIENCE_S)
    finally:
        store.close()
    if not emptied:
        raise StudyError(
            f"expected nobody to read {path} for {PATIENCE_S:g} s, got one who stays",
            remedy="End it, then try again.",
        )


def check_file(path: Path) -> None:
    """Refuses what cannot be a study's store, before it is opened.

    Args:
        path: Where the store should be.

    Raises:
        StudyError: Nothing is there, a link, a folder or an empty file.
    """
    try:
        found = path.lstat()
    except OSError:
        found = None
    if found is not None and stat.S_ISLNK(found.st_mode):
        raise StudyError(
            f"expected a study's store, got a link: {path}",
            remedy="Name the folder in which the file itself lies.",
        )
    if found is None or not stat.S_ISREG(found.st_mode):
        raise StudyError(
            f"expected a study in {path.parent}, found no {path.name}",
            remedy="Check the folder's name, or start a study with `milp-search run`.",
        )
    if found.st_size == 0:
        raise _cut(path, 0, read_mark(path))


def _tables(connection: sqlite3.Connection) -> int:
    count: int = connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0]
    return count


def _holds_events(connection: sqlite3.Connection) -> bool:
    return bool(connection.execute("SELECT EXISTS (SELECT 1 FROM events)").fetchone()[0])


def _check_version(path: Path, connection: sqlite3.Connection) -> None:
    with explained(path, "a study's store"):
        application = pragma(connection, "application_id")
        version = pragma(connection, "user_version")
    if application != APPLICATION_ID:
        raise StudyError(f"expected a study's store, got another kind of database: {path}")
    if not 1 <= version <= SCHEMA_VERSION:
        raise StudyError(
            f"expected a store of schema version {SCHEMA_VERSION} or before, got version "
            f"{version}: {path}",
            remedy="Use the release of milp-search that wrote it, or a later one.",
        )


def _check_end(path: Path, found: Scan, mark: HighWater | None) -> None:
    if mark is None:
        return
    if mark.events > len(found.digests):
        raise _cut(path, len(found.digests), mark)
    if found.digests[mark.events - 1] != mark.digest:
        raise StudyError(
            f"expected the store that this study was kept in, got another one, whose event "
            f"{mark.events} is not the one that was written: {path}",
            remedy=restoring(path),
        )


@contextmanager
def explained(path: Path, expected: str) -> Iterator[None]:
    """Makes errors of the system and of SQLite a `StudyError` that names what was expected."""
    try:
        yield
    # Python fails to decode SQLite's own message where that quotes damaged text.
    except (sqlite3.Error, OSError, UnicodeDecodeError) as error:
        raise _explanation(path, expected, error) from error


def _explanation(path: Path, expected: str, error: Exception) -> StudyError:
    if isinstance(error, sqlite3.ProgrammingError):
        return StudyError(
            f"expected {expected}, got one that is closed or of another thread: {path} ({error})",
            remedy="Open the study again, in the thread that uses it.",
        )
    got = f"expected {expected}, got: {error} ({path}); nothing was changed"
    if lacks_space(error, path.parent):
        return DiskFullError(got, remedy="Make space, then try again.")
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK) & 0xFF
    if code in _CORRUPT or isinstance(error, UnicodeDecodeError):
        return StudyError(got, remedy=restoring(path))
    return StudyError(got, remedy="Check the folder's permissions.")


def restoring(path: Path) -> str:
    """Returns what to do about a store that is damaged."""
    return (
        f"Restore the file from a copy, or keep what is whole of it with "
        f"`milp-search repair {path.parent}`."
    )


def _damaged(path: Path, whole: int, cause: object) -> StudyError:
    which = f"the first {whole} events are whole" if whole else "no event could be read"
    return StudyError(
        f"the study's store is damaged at event {whole + 1} ({cause}); {which}: {path}",
        remedy=restoring(path),
    )


def _cut(path: Path, there: int, mark: HighWater | None) -> StudyError:
    written = "" if mark is None else f", and {mark.events} or more were written"
    return StudyError(
        f"the study's store ends after event {there}{written}: {path}",
        remedy=restoring(path)
        if there
        else "Restore the file from a copy; where no trial had begun, delete the folder.",
    )

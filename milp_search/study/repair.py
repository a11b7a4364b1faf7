"""Goes on from what is whole of a damaged store; what was there is kept beside it."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from milp_search.core.errors import StudyError
from milp_search.core.whole_file import sync_folder
from milp_search.study.chain import Scan, scan
from milp_search.study.events import Event
from milp_search.study.lock import LOCK_NAME, DriverLock
from milp_search.study.replay import StudyState, replay, replay_longest
from milp_search.study.schema import SCHEMA_VERSION, connect, pragma, side_files
from milp_search.study.store import EventStore, check_file, explained, replace_store
from milp_search.study.study import STORE_NAME


@dataclass(frozen=True)
class Repair:
    """What a repair found and did.

    Attributes:
        folder: The study's folder.
        events: How many events the study has now.
        state: The study as it is now.
        damage: What was wrong; None where nothing was, and nothing was done.
        copy: Where the damaged store lies now.
    """

    folder: Path
    events: int
    state: StudyState
    damage: str | None = None
    copy: Path | None = None

    def __str__(self) -> str:
        counts = Counter(trial.status.value for trial in self.state.trials)
        trials = ", ".join(f"{number} {status}" for status, number in sorted(counts.items()))
        if self.damage is None or self.copy is None:
            return f"Nothing to repair: {self.events} events ({trials or 'no trial yet'})."
        return (
            f"Found: {self.damage}\n"
            f"Kept events 1 to {self.events} ({trials or 'no trial yet'}); what came after is not "
            f"in the study any more.\n"
            f"The damaged file is {self.copy.name}. Go on with: milp-search resume {self.folder}"
        )


def repair_study(folder: Path) -> Repair:
    """Makes a study of the whole events at the beginning of its store, if it is damaged.

    Events that cannot follow those before them count as damaged, as all that come after.

    Results that workers left in the folder are taken over when the study is resumed.

    Args:
        folder: The study's folder.

    Returns:
        What was found and done.

    Raises:
        StudyError: Nothing is whole, the store is of a later version, a driver runs the study, or
            the folder cannot be written to; the store is as it was.
    """
    path = folder / STORE_NAME
    check_file(path)
    lock = DriverLock.acquire(folder / LOCK_NAME)
    try:
        events = _read(path)
        return Repair(folder, len(events), replay(events))
    except StudyError as damage:
        return _repaired(path, damage)
    finally:
        lock.release()


def _read(path: Path) -> list[Event]:
    with closing(EventStore.open(path, read_only=True)) as store:
        return store.read()


def _repaired(path: Path, damage: StudyError) -> Repair:
    with explained(path, "to copy the damaged store"):
        copy = _copied(path)
        found = _salvaged(copy).events
        state, whole = replay_longest(found)
        if not whole:
            for file in (copy, *side_files(copy)):
                file.unlink(missing_ok=True)
            raise damage
    replace_store(path, EventStore.write_beside(path, found[:whole]))
    return Repair(path.parent, whole, state, damage.message, copy)


def _copied(path: Path) -> Path:
    """Copies a store with its write-ahead log, to stay, and returns where."""
    names = (path.with_name(f"{path.name}.damaged-{number}") for number in count(1))
    copy = next(name for name in names if not name.exists())
    for source, target in zip((path, *side_files(path)), (copy, *side_files(copy)), strict=True):
        # The index of the log is of no use: SQLite makes it anew.
        if source.exists() and not source.name.endswith("-shm"):
            shutil.copy(source, target)
            with open(target, "rb") as file:
                os.fsync(file.fileno())
    sync_folder(path.parent)
    return copy


def _salvaged(copy: Path) -> Scan:
    """Returns what is whole at the beginning, nothing where the store is of a later version."""
    log = side_files(copy)[0]
    logged = log.exists()
    with closing(connect(copy, read_only=True)) as connection:
        try:
            # Lets SQLite read what is there of a file that is shorter than it says.
            connection.execute("PRAGMA writable_schema = ON")
            if pragma(connection, "user_version") > SCHEMA_VERSION:
                return Scan((), ())
        except sqlite3.Error as error:
            return Scan((), (), error)
        found = scan(connection)
    if not logged:
        log.unlink(missing_ok=True)
    side_files(copy)[1].unlink(missing_ok=True)
    return found

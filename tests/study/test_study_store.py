"""The store: what is written is read, and what was changed is refused."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import sqlite3
import stat
import time
from contextlib import closing
from pathlib import Path

import pytest

from milp_search.core.arm import Arm
from milp_search.core.errors import StudyError
from milp_search.core.trial import Failure, Measurement, Objective
from milp_search.study.events import (
    Asked,
    Completed,
    Created,
    Event,
    Failed,
    Finished,
    Opened,
    Referenced,
    Started,
)
from milp_search.study.store import EventStore, begun

GOAL = Objective("loss", "minimize", 3.0)

EVENTS = [
    Event(Created({"name": "s"}, (GOAL,), 0, 1, "random", "default", "milp"), at=0.1),
    Event(Opened(1, "here", 7), at=1.5, elapsed_s=0.5),
    Event(Asked(Arm({"lora_rank": 8}), None, "random", 0), trial=0, at=2.25),
    Event(Started(Failure("lost_worker", "gone")), trial=0, attempt=1, at=3.0),
    Event(Completed({"loss": Measurement(1 / 3, 0.1, (0.2, 0.4))}, 7.5), 0, 1, at=4.0),
    Event(Asked(Arm({"lora_rank": 4}), None, "random", 0, 1), trial=1, at=5.0),
    Event(Failed(Failure("told", "naïve ✓")), trial=1, at=6.0),
    Event(Referenced((GOAL,)), at=7.0),
    Event(Finished("budget spent"), at=8.0),
]


def written(path: Path, events: list[Event] = EVENTS) -> Path:
    store = EventStore.create(path)
    store.append(events)
    store.close()
    return path


def read(path: Path, *, read_only: bool = False) -> list[Event]:
    store = EventStore.open(path, read_only=read_only)
    try:
        return store.read()
    finally:
        store.close()


def tampered(path: Path, *statements: str) -> Path:
    with sqlite3.connect(path) as connection:
        connection.execute("DROP TRIGGER events_never_change")
        connection.execute("DROP TRIGGER events_never_go")
        for statement in statements:
            connection.execute(statement)
    connection.close()
    return path


def staying_reader(path: Path) -> sqlite3.Connection:
    reader = sqlite3.connect(path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM events").fetchall()
    return reader


@pytest.mark.parametrize("name", ["store", "a b", "Größe ☃", "50% off?x=#1"])
@pytest.mark.parametrize("read_only", [False, True])
def test_events_come_back_as_they_were_written(tmp_path: Path, name: str, read_only: bool) -> None:
    folder = tmp_path / name
    folder.mkdir()
    assert read(written(folder / "s.sqlite3"), read_only=read_only) == EVENTS


def test_each_digest_covers_its_row_and_the_digest_before(tmp_path: Path) -> None:
    connection = sqlite3.connect(written(tmp_path / "s"))
    head = ""
    columns = "seq, kind, trial, attempt, payload, at, elapsed_s, digest"
    rows = connection.execute(f"SELECT {columns} FROM events ORDER BY seq").fetchall()
    connection.close()
    assert rows[1][6] == 0.5
    for *row, digest in rows:
        if row[-1] is None:
            row.pop()
        head = hashlib.sha256(json.dumps([head, *row]).encode()).hexdigest()
        assert digest == head
    assert len(rows) == len(EVENTS)


def test_the_store_is_its_owners_alone(tmp_path: Path) -> None:
    assert stat.S_IMODE(written(tmp_path / "s").stat().st_mode) == 0o600


@pytest.mark.parametrize("statement", ["UPDATE events SET at = 0", "DELETE FROM events"])
def test_the_database_itself_refuses_changes(tmp_path: Path, statement: str) -> None:
    connection = sqlite3.connect(written(tmp_path / "s"))
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        connection.execute(statement)
    connection.close()


@pytest.mark.parametrize(
    ("statement", "event"),
    [
        ("UPDATE events SET payload = '{}' WHERE seq = 5", 5),
        ("UPDATE events SET at = 0 WHERE seq = 1", 1),
        ("UPDATE events SET trial = 1 WHERE seq = 3", 3),
        ("DELETE FROM events WHERE seq = 4", 4),
        ("UPDATE events SET kind = 'other' WHERE seq = 9", 9),
        ("UPDATE events SET payload = x'ff' WHERE seq = 2", 2),
    ],
)
def test_a_changed_row_is_refused_by_its_number(tmp_path: Path, statement: str, event: int) -> None:
    path = tampered(written(tmp_path / "s"), statement)
    with pytest.raises(StudyError, match=rf"damaged at event {event} "):
        read(path)


def test_a_row_of_unknown_kind_is_refused(tmp_path: Path) -> None:
    row = (10, "visited", None, None, "{}", 9.0)
    path = written(tmp_path / "s")
    connection = sqlite3.connect(path)
    head = connection.execute("SELECT digest FROM events WHERE seq = 9").fetchone()[0]
    digest = hashlib.sha256(json.dumps([head, *row]).encode()).hexdigest()
    connection.execute("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, NULL)", (*row, digest))
    connection.commit()
    connection.close()
    with pytest.raises(StudyError, match=r"damaged at event 10 .*visited"):
        read(path)


def test_no_flipped_bit_gives_a_wrong_event(tmp_path: Path) -> None:
    whole = written(tmp_path / "s").read_bytes()
    rng, refused = random.Random(0), 0
    for _ in range(300):
        place = rng.randrange(len(whole) * 8)
        flipped = bytearray(whole)
        flipped[place // 8] ^= 1 << place % 8
        (tmp_path / "f").write_bytes(flipped)
        try:
            assert read(tmp_path / "f", read_only=True) == EVENTS
        except StudyError:
            refused += 1
        for left in tmp_path.glob("f-*"):
            left.unlink()
    assert refused > 30


def test_a_schema_that_is_no_longer_text_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "s")
    # The name beside the SQL text, so that SQLite finds the two at odds and quotes it.
    path.write_bytes(path.read_bytes().replace(b"events_never_go", b"events_neve\xf2_go", 1))
    with pytest.raises(StudyError, match="can't decode"):
        read(path)


def test_no_truncation_gives_a_wrong_event(tmp_path: Path) -> None:
    whole = written(tmp_path / "s").read_bytes()
    for length in [*range(0, len(whole), 97), *range(0, len(whole), 4096)]:
        (tmp_path / "f").write_bytes(whole[:length])
        with pytest.raises(StudyError):
            read(tmp_path / "f", read_only=True)


def test_a_lost_write_ahead_log_loses_no_event(tmp_path: Path) -> None:
    store = EventStore.create(tmp_path / "s")
    store.append(EVENTS)
    shutil.copy(tmp_path / "s", tmp_path / "copy")  # without the -wal file beside it
    store.close()
    assert read(tmp_path / "copy") == EVENTS


def test_an_open_reader_does_not_keep_the_writer_from_writing(tmp_path: Path) -> None:
    store = EventStore.create(tmp_path / "s")
    store.append(EVENTS[:1])
    reader = EventStore.open(tmp_path / "s", read_only=True)
    assert reader.read() == EVENTS[:1]
    store.append(EVENTS[1:])
    assert reader.read() == EVENTS
    reader.close()
    store.close()


def test_a_reader_that_stays_keeps_the_writer_waiting_a_moment_only(tmp_path: Path) -> None:
    store = EventStore.create(tmp_path / "s")
    store.append(EVENTS[:1])
    reader = staying_reader(tmp_path / "s")
    begun = time.monotonic()
    store.append(EVENTS[1:])
    assert time.monotonic() - begun < 10
    reader.close()
    assert store.read() == EVENTS
    store.close()


def test_events_are_committed_together_or_not_at_all(tmp_path: Path) -> None:
    store = EventStore.create(tmp_path / "s")
    store.append(EVENTS[:1])
    bad = Event(Completed({}, float("nan")), 0)
    with pytest.raises(ValueError, match="JSON compliant"):
        store.append([EVENTS[1], bad])
    assert store.read() == EVENTS[:1]
    store.close()


def test_a_full_disk_changes_nothing_and_writing_goes_on_after(tmp_path: Path) -> None:
    store = EventStore.create(tmp_path / "s")
    store.append(EVENTS[:1])
    store._connection.execute("PRAGMA max_page_count = 2")
    large = Event(Finished("x" * 100_000))
    with pytest.raises(StudyError, match=r"disk is full.*nothing was changed"):
        store.append([large])
    store._connection.execute("PRAGMA max_page_count = 1000")
    store.append(EVENTS[1:])
    assert store.read() == EVENTS
    store.close()


def test_a_second_writer_is_found_out(tmp_path: Path) -> None:
    written(tmp_path / "s", EVENTS[:1])
    first, second = EventStore.open(tmp_path / "s"), EventStore.open(tmp_path / "s")
    first.read()
    second.read()
    first.append(EVENTS[1:2])
    with pytest.raises(StudyError, match="another process"):
        second.append(EVENTS[1:2])
    assert second.read() == EVENTS[:2]
    first.close()
    second.close()


def test_a_store_with_events_is_not_created_again(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="holds a study already"):
        EventStore.create(written(tmp_path / "s"))


def test_a_store_without_events_is_taken_over(tmp_path: Path) -> None:
    EventStore.create(tmp_path / "s").close()
    written(tmp_path / "s")
    assert read(tmp_path / "s") == EVENTS


def test_a_store_cannot_be_made_where_a_folder_is(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="to make a store"):
        EventStore.create(tmp_path)


def test_a_store_that_is_not_there_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"found no s\.sqlite3"):
        EventStore.open(tmp_path / "s.sqlite3")


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("something else entirely" * 100)
    with pytest.raises(StudyError, match="not a database"):
        EventStore.open(tmp_path / "s")


@pytest.mark.parametrize(
    ("pragma", "message"),
    [("application_id = 1", "another kind"), ("user_version = 99", "version 99")],
)
def test_a_store_of_another_kind_or_version_is_refused(
    tmp_path: Path, pragma: str, message: str
) -> None:
    connection = sqlite3.connect(written(tmp_path / "s"))
    connection.execute(f"PRAGMA {pragma}")
    connection.close()
    with pytest.raises(StudyError, match=message):
        EventStore.open(tmp_path / "s")
    with pytest.raises(StudyError, match=message):
        EventStore.create(tmp_path / "s")


def test_a_folder_that_cannot_be_written_can_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As root every folder can be written to, hence the pretence.
    path = written(tmp_path / "s")
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert read(path, read_only=True) == EVENTS
    assert sorted(file.name for file in tmp_path.iterdir()) == ["s", "s.mark"]


def test_a_rewritten_store_has_the_new_events_and_none_of_the_old(tmp_path: Path) -> None:
    path = written(tmp_path / "s")
    EventStore.rewrite(path, EVENTS[:4])
    assert read(path) == EVENTS[:4]
    assert b"budget spent" not in path.read_bytes()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert sorted(file.name for file in tmp_path.iterdir()) == ["s", "s.mark"]


def test_a_rewritten_store_takes_nothing_from_the_old_ones_log(tmp_path: Path) -> None:
    store = EventStore.create(tmp_path / "s")
    store.append(EVENTS[:1])
    reader = EventStore.open(tmp_path / "s", read_only=True)
    assert reader.read() == EVENTS[:1]
    store.append(EVENTS[1:])
    store.close()  # the reader keeps the side files there
    assert (tmp_path / "s-wal").exists()
    EventStore.rewrite(tmp_path / "s", EVENTS[:3])
    assert read(tmp_path / "s") == EVENTS[:3]
    assert reader.read() == EVENTS
    reader.close()
    assert read(tmp_path / "s") == EVENTS[:3]


def test_a_rewriting_that_was_killed_is_begun_anew(tmp_path: Path) -> None:
    path = written(tmp_path / "s")
    written(tmp_path / "s.new", EVENTS[:2])
    (tmp_path / "s.new-wal").write_bytes(b"left")
    EventStore.rewrite(path, EVENTS[:4])
    assert read(path) == EVENTS[:4]


@pytest.mark.parametrize("step", ["append", "read"])
def test_a_rewriting_that_fails_leaves_the_store_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def refuse(*_: object) -> None:
        raise StudyError("no space")

    path = written(tmp_path / "s")
    with monkeypatch.context() as patch:
        patch.setattr(EventStore, step, refuse)
        with pytest.raises(StudyError, match="no space"):
            EventStore.rewrite(path, EVENTS[:4])
    assert read(path) == EVENTS


def test_a_store_is_not_rewritten_under_a_reader_that_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = EventStore.create(tmp_path / "s")
    store.append(EVENTS[:1])
    reader = staying_reader(tmp_path / "s")
    store.append(EVENTS[1:])
    store.close()
    monkeypatch.setattr("milp_search.study.store.PATIENCE_S", 0.1)
    with pytest.raises(StudyError, match="nobody to read"):
        EventStore.rewrite(tmp_path / "s", EVENTS[:3])
    reader.close()
    assert read(tmp_path / "s") == EVENTS
    assert sorted(file.name for file in tmp_path.iterdir()) == ["s", "s.mark"]


def test_nothing_an_empty_file_and_a_store_without_events_are_no_study(tmp_path: Path) -> None:
    assert not begun(tmp_path / "none")
    (tmp_path / "empty").touch()
    assert not begun(tmp_path / "empty")
    EventStore.create(tmp_path / "new").close()
    assert not begun(tmp_path / "new")
    assert begun(written(tmp_path / "study"))


def test_what_cannot_be_read_is_not_taken_for_nothing(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("somebody's")
    assert begun(tmp_path / "text")
    with closing(sqlite3.connect(tmp_path / "other")) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    assert begun(tmp_path / "other")

"""Forgetting leaves a store its aggregates, no user's own values, and no trace of the old file."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from milp_search.core.arm import Arm
from milp_search.core.errors import StudyError
from milp_search.core.forgotten import new_mark, salt_of
from milp_search.core.trial import Failure, Measurement, Objective
from milp_search.study.events import (
    Abandoned,
    Asked,
    Completed,
    Created,
    Event,
    Failed,
    FinalTest,
    Finished,
    Forgotten,
    Opened,
    Started,
)
from milp_search.study.forgetting import LEFT_OUT, LeftOut, check_marks, forget_in_store
from milp_search.study.replay import StudyState, replay
from milp_search.study.store import EventStore

GOAL = Objective("loss", "minimize", 3.0)
ARM = Asked(Arm({"lora_rank": 8}), None, "random", 0)
LOSS = Measurement(0.3, 0.1, (0.123456789, 0.2, 0.4))

EVENTS = [
    Event(Created({"name": "s"}, (GOAL,), 0, 1, "random", "default", "milp"), at=0.5),
    Event(Opened(1, "here", 7), at=1.0),
    Event(ARM, 0, at=2.0),
    Event(Started(Failure("lost_worker", "u1 was there")), 0, 1, at=3.0),
    Event(Completed({"loss": LOSS, "loss@cvar": Measurement(0.4, None, (0.4,))}, 7.5), 0, 1, 4.0),
    Event(FinalTest(7, {"loss": LOSS}), 0, at=5.0),
    Event(ARM, 1, at=6.0),
    Event(Failed(Failure("told", "no data of u1")), 1, at=7.0),
    Event(ARM, 2, at=8.0),
    Event(Abandoned("no data of u10"), 2, at=9.0),
    Event(Finished("as u1 wished"), at=10.0),
]
FORGOTTEN = Forgotten(salt_of(new_mark("u1")), kept_shared=False)


def names(text: str) -> bool:
    return "u1" in text.split()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    store = EventStore.create(tmp_path / "study.sqlite3")
    store.append(EVENTS)
    store.close()
    return tmp_path / "study.sqlite3"


def read(path: Path) -> list[Event]:
    store = EventStore.open(path, read_only=True)
    try:
        return store.read()
    finally:
        store.close()


def test_means_and_errors_stay_and_all_users_values_go(path: Path) -> None:
    assert forget_in_store(path, names, FORGOTTEN) == LeftOut(values=7, means_of_one=1)
    after = read(path)
    bare = replace(LOSS, per_user=())
    assert [event.payload for event in after[4:6]] == [
        Completed({"loss": bare, "loss@cvar": Measurement(0.4)}, 7.5), FinalTest(7, {"loss": bare}),
    ]  # fmt: skip
    assert (bare.mean, bare.sem) == (0.3, 0.1)


def test_of_one_missing_value_the_mean_and_the_others_would_tell() -> None:
    values = (0.5, 0.25, 0.75, 0.1)
    mean, others = sum(values) / 4, values[:-1]
    assert 4 * mean - sum(others) == pytest.approx(values[-1])


def test_reasons_that_name_the_user_are_left_out_and_others_stay(path: Path) -> None:
    forget_in_store(path, names, FORGOTTEN)
    after = [event.payload for event in read(path)]
    assert after[3] == Started(Failure("lost_worker", LEFT_OUT))
    assert after[7] == Failed(Failure("told", LEFT_OUT))
    assert after[9] == Abandoned("no data of u10")
    assert after[10] == Finished(LEFT_OUT)


def test_everything_else_is_as_it_was_and_the_event_comes_last(path: Path) -> None:
    forget_in_store(path, names, FORGOTTEN)
    after = read(path)
    for place in (0, 1, 2, 6, 8, 9):
        assert after[place] == EVENTS[place]
    assert [(e.trial, e.attempt, e.at) for e in after[:-1]] == [
        (e.trial, e.attempt, e.at) for e in EVENTS
    ]
    assert after[-1].payload == FORGOTTEN
    assert replay(after).forgotten == (FORGOTTEN.mark,)


def test_the_old_values_stand_in_no_file(path: Path) -> None:
    assert any(b"0.123456789" in file.read_bytes() for file in path.parent.iterdir())
    forget_in_store(path, names, FORGOTTEN)
    assert not any(b"0.123456789" in file.read_bytes() for file in path.parent.iterdir())
    assert not any(b"wished" in file.read_bytes() for file in path.parent.iterdir())
    with sqlite3.connect(path) as database:
        assert database.execute("PRAGMA freelist_count").fetchone() == (0,)


def test_a_store_that_is_damaged_is_left_as_it_is(path: Path) -> None:
    content = bytearray(path.read_bytes())
    place = content.index(b"no data of u10")
    content[place] ^= 1
    path.write_bytes(content)
    with pytest.raises(StudyError, match="damaged"):
        forget_in_store(path, names, FORGOTTEN)
    assert path.read_bytes() == content


def test_a_study_file_without_the_mark_of_a_forgotten_user_is_refused() -> None:
    mark = new_mark("u1")
    state = StudyState(forgotten=(salt_of(mark),))
    check_marks(state, [new_mark("u2"), mark])
    check_marks(StudyState(), [])
    with pytest.raises(StudyError, match="1 are missing"):
        check_marks(state, [new_mark("u1")])

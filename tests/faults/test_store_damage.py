"""Random damage to a day's store: the same events come back, or a message that says where.

The short form runs always; MILP_SOAK=1 runs a thousand of each.
"""

from __future__ import annotations

import random
import re
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from faults.conftest import SOAK
from faults.store_making import day_old_study, live_through, read, with_live_log
from milp_search.core.errors import StudyError
from milp_search.study.events import Completed, Event, Finished
from milp_search.study.repair import repair_study
from milp_search.study.schema import SCHEMA_VERSION
from milp_search.study.store import EventStore
from milp_search.study.study import STORE_NAME, Study

TIMES = 1000 if SOAK else 60

pytestmark = pytest.mark.timeout(7200 if SOAK else 300)

Harm = Callable[[bytes, random.Random], bytes]

VERSION_1 = Path(__file__).parents[1] / "study" / "version_1" / STORE_NAME


def cut(content: bytes, chance: random.Random) -> bytes:
    return content[: chance.randrange(len(content))]


def flip(content: bytes, chance: random.Random) -> bytes:
    flipped = bytearray(content)
    flipped[chance.randrange(len(flipped))] ^= 1 << chance.randrange(8)
    return bytes(flipped)


@dataclass(frozen=True)
class Kept:
    """Studies that tests copy before they damage them."""

    folder: Path
    events: list[Event]
    logged: Path
    logged_events: list[Event]


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Kept:
    place = tmp_path_factory.mktemp("kept")
    events = day_old_study(place / "study")
    shutil.copytree(place / "study", place / "live")
    logged = with_live_log(place / "live", place / "logged")
    assert (place / "logged" / f"{STORE_NAME}-wal").stat().st_size
    return Kept(place / "study", events, place / "logged", logged)


def outcome(path: Path, events: list[Event], *, read_only: bool) -> str:
    """Returns what a damaged store came to: its events, a message, or what must not be."""
    try:
        found = read(path, read_only=read_only)
    except StudyError as error:
        return "refused" if str(path) in str(error) else f"does not say where: {error}"
    return "whole" if found == events else "other events"


@pytest.mark.parametrize("harm", [cut, flip])
@pytest.mark.parametrize("damaged", ["", "-wal", "alone", ".mark"])
def test_damage_gives_the_same_events_or_a_message(
    tmp_path: Path, kept: Kept, damaged: str, harm: Harm
) -> None:
    alone = damaged == "alone"
    source, events = (kept.folder, kept.events) if alone else (kept.logged, kept.logged_events)
    chance, counts = random.Random(0), Counter[str]()
    for number in range(TIMES):
        folder = tmp_path / "study"
        shutil.copytree(source, folder)
        file = folder / (STORE_NAME if alone else f"{STORE_NAME}{damaged}")
        file.write_bytes(harm(file.read_bytes(), chance))
        counts[outcome(folder / STORE_NAME, events, read_only=number % 2 == 0)] += 1
        shutil.rmtree(folder)
    print(f"\n{harm.__name__} {damaged or 'beside a log'}: {dict(counts)}")
    assert {*counts} <= {"whole", "refused"}
    if damaged == ".mark":
        assert counts == {"whole": TIMES}
    elif harm is cut:
        assert counts["refused"] > TIMES // 2


def test_a_lost_log_is_noticed(tmp_path: Path, kept: Kept) -> None:
    shutil.copytree(kept.logged, tmp_path / "study")
    (tmp_path / "study" / f"{STORE_NAME}-wal").unlink()
    with pytest.raises(StudyError, match=rf"and {len(kept.logged_events)} or more were written"):
        read(tmp_path / "study" / STORE_NAME)


def test_a_store_without_a_log_is_whole(kept: Kept) -> None:
    assert not (kept.folder / f"{STORE_NAME}-wal").exists()
    assert read(kept.folder / STORE_NAME) == kept.events


def test_a_folder_in_the_stores_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / STORE_NAME).mkdir()
    with pytest.raises(StudyError, match=f"found no {re.escape(STORE_NAME)}"):
        Study.open(tmp_path)


def test_a_link_in_the_stores_place_is_refused(tmp_path: Path, kept: Kept) -> None:
    (tmp_path / STORE_NAME).symlink_to(kept.folder / STORE_NAME)
    with pytest.raises(StudyError, match="expected a study's store, got a link"):
        Study.open(tmp_path)


def test_a_store_that_was_put_in_place_of_another_is_refused(tmp_path: Path, kept: Kept) -> None:
    shutil.copytree(kept.folder, tmp_path / "study")
    day_old_study(tmp_path / "other", trials=41)
    shutil.copy(tmp_path / "other" / STORE_NAME, tmp_path / "study" / STORE_NAME)
    with pytest.raises(StudyError, match="got another one"):
        Study.open(tmp_path / "study")


def test_a_store_whose_file_is_gone_or_empty_is_not_begun_anew(tmp_path: Path, kept: Kept) -> None:
    shutil.copytree(kept.folder, tmp_path / "study")
    (tmp_path / "study" / STORE_NAME).unlink()
    with pytest.raises(StudyError, match="ends after event 0"):
        day_old_study(tmp_path / "study")
    (tmp_path / "study" / STORE_NAME).touch()
    with pytest.raises(StudyError, match="ends after event 0"):
        Study.open(tmp_path / "study")


def version(path: Path) -> int:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        found: int = connection.execute("PRAGMA user_version").fetchone()[0]
        return found


def test_a_store_of_version_1_is_read_as_it_is_and_taken_over_by_its_driver(
    tmp_path: Path,
) -> None:
    path = Path(shutil.copy(VERSION_1, tmp_path / STORE_NAME))
    before = path.read_bytes()
    with Study.open(tmp_path, read_only=True) as study:
        events = study.events()
    assert (version(path), path.read_bytes()) == (1, before)
    with Study.open(tmp_path) as study:
        trial = study.ask()
        assert study.events()[: len(events)] == events
    assert version(path) == SCHEMA_VERSION == 2
    with Study.open(tmp_path, read_only=True) as study:
        assert study.trials[-1] == trial


@pytest.mark.parametrize("read_only", [True, False])
def test_a_store_of_a_later_version_is_refused_and_left(
    tmp_path: Path, kept: Kept, read_only: bool
) -> None:
    folder = shutil.copytree(kept.folder, tmp_path / "study")
    with closing(sqlite3.connect(folder / STORE_NAME)) as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
        connection.commit()
    with pytest.raises(StudyError, match=f"got version {SCHEMA_VERSION + 1}"):
        Study.open(folder, read_only=read_only)
    with pytest.raises(StudyError, match=f"got version {SCHEMA_VERSION + 1}"):
        repair_study(folder)
    assert version(folder / STORE_NAME) == SCHEMA_VERSION + 1
    assert not [*folder.glob("*.damaged-*")]


def changed(folder: Path, event: int) -> None:
    with closing(sqlite3.connect(folder / STORE_NAME)) as connection:
        connection.execute("DROP TRIGGER events_never_change")
        connection.execute("UPDATE events SET at = at + 1 WHERE seq = ?", (event,))
        connection.commit()


def test_a_repair_keeps_all_before_the_damage_and_the_study_goes_on(
    tmp_path: Path, kept: Kept
) -> None:
    folder = shutil.copytree(kept.folder, tmp_path / "study")
    changed(folder, 60)
    harmed = (folder / STORE_NAME).read_bytes()
    done = repair_study(folder)
    assert done.events == 59
    assert done.copy is not None
    assert done.copy.read_bytes() == harmed
    assert "damaged at event 60" in str(done)
    assert read(folder / STORE_NAME) == kept.events[:59]
    with Study.open(folder) as study:
        live_through(study, 0)
        assert study.events()[:59] == kept.events[:59]


def test_a_repair_of_a_cut_file_keeps_a_beginning_or_leaves_it(tmp_path: Path, kept: Kept) -> None:
    content = (kept.folder / STORE_NAME).read_bytes()
    kept_events = []
    for part in (0.1, 0.5, 0.9):
        folder = shutil.copytree(kept.folder, tmp_path / f"study {part}")
        (folder / STORE_NAME).write_bytes(content[: int(part * len(content))])
        try:
            kept_events.append(repair_study(folder).events)
        except StudyError:
            assert (folder / STORE_NAME).stat().st_size == int(part * len(content))
            continue
        assert read(folder / STORE_NAME) == kept.events[: kept_events[-1]]
    assert kept_events
    assert kept_events[-1] > 0


def test_there_is_nothing_to_repair_of_a_whole_study(tmp_path: Path, kept: Kept) -> None:
    folder = shutil.copytree(kept.folder, tmp_path / "study")
    before = (folder / STORE_NAME).read_bytes()
    done = repair_study(folder)
    assert str(done).startswith(f"Nothing to repair: {len(kept.events)} events (")
    assert (folder / STORE_NAME).read_bytes() == before


def test_a_study_that_runs_is_not_repaired(tmp_path: Path, kept: Kept) -> None:
    folder = shutil.copytree(kept.folder, tmp_path / "study")
    with Study.open(folder), pytest.raises(StudyError, match="another driver runs this study"):
        repair_study(folder)


def test_events_that_cannot_follow_those_before_are_cut_off(tmp_path: Path) -> None:
    """Earlier versions could write a trial's end twice, where an interrupt was caught."""
    events = day_old_study(tmp_path / "study", trials=3)
    path = tmp_path / "study" / STORE_NAME
    with closing(EventStore.open(path)) as store:
        end = next(one for one in store.read() if isinstance(one.payload, Completed))
        store.append([end, Event(Finished("budget spent"))])
    last = len(events) + 1
    with pytest.raises(StudyError, match=rf"(?s)event {last} \(trial .* completed already.*repair"):
        Study.open(path.parent, read_only=True)
    done = repair_study(path.parent)
    assert "completed already" in str(done)
    assert done.events == len(events)
    assert read(path) == events
    with Study.open(path.parent) as study:
        assert (study.trials, study.finished) == (done.state.trials, None)

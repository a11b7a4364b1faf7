"""A full disk, on a file system of one MiB, and what waits for it."""

from __future__ import annotations

import errno
import sqlite3
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from milp_search.core.errors import DiskFullError
from milp_search.core.heartbeat import heard_by
from milp_search.space.search_space import SearchSpace
from milp_search.study import disk_space
from milp_search.study.disk_space import (
    give_up,
    lacks_space,
    unless_full,
    until_there_is_space,
    wait_again,
)
from milp_search.study.study import Study
from study.making import GOALS


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m,mode=0700", "none", str(place)]
    with suppress(OSError):
        if subprocess.run(mount, capture_output=True).returncode == 0:
            yield place
            subprocess.run(["umount", "-l", str(place)], check=True)
            return
    pytest.skip("needs the right to mount a file system")


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(disk_space, "_POLL_S", 0.05)
    yield
    wait_again()


def fill(place: Path) -> Path:
    filler = place / "filler"
    for size in (1 << 16, 1):
        with suppress(OSError), filler.open("ab", buffering=0) as file:
            while True:
                file.write(bytes(size))
    return filler


def write(place: Path) -> None:
    (place / "more").write_bytes(bytes(4096))


def test_a_full_disk_is_told_by_its_number_by_sqlite_and_by_its_words(small_disk: Path) -> None:
    with closing(sqlite3.connect(small_disk / "store", isolation_level=None)) as store:
        store.execute("CREATE TABLE numbers (number)")
        fill(small_disk)
        with pytest.raises(sqlite3.OperationalError) as full:
            store.execute("INSERT INTO numbers VALUES (zeroblob(100000))")
    assert lacks_space(full.value, small_disk)
    assert lacks_space(OSError(errno.EDQUOT, "quota"), small_disk)
    assert lacks_space(RuntimeError("I/O error: No space left on device (os error 28)"), small_disk)
    assert not lacks_space(OSError(errno.EACCES, "denied"), small_disk)


def test_a_failing_disk_with_space_is_not_a_full_one(tmp_path: Path) -> None:
    broken = sqlite3.OperationalError("disk I/O error")
    broken.sqlite_errorcode = sqlite3.SQLITE_IOERR_WRITE
    assert not lacks_space(broken, tmp_path)


def test_a_quota_that_sqlite_takes_for_a_broken_disk_is_found_by_writing(small_disk: Path) -> None:
    fill(small_disk)
    broken = sqlite3.OperationalError("disk I/O error")
    broken.sqlite_errorcode = sqlite3.SQLITE_IOERR_WRITE
    assert lacks_space(broken, small_disk)


def test_writing_waits_until_there_is_space_and_gives_signs_of_life(small_disk: Path) -> None:
    filler, beats = fill(small_disk), []

    def heard() -> None:
        beats.append(1)
        if len(beats) == 3:
            filler.unlink()

    with heard_by(heard):
        until_there_is_space(lambda: write(small_disk), "it", small_disk)
    assert len(beats) == 3
    assert (small_disk / "more").stat().st_size == 4096


def test_giving_up_ends_the_waiting_with_what_is_not_stored(small_disk: Path) -> None:
    fill(small_disk)
    with heard_by(give_up), pytest.raises(DiskFullError, match="the last number is not stored"):
        until_there_is_space(lambda: write(small_disk), "the last number", small_disk)


def test_other_errors_are_not_waited_out(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        until_there_is_space(lambda: write(tmp_path / "file"), "it", tmp_path)


def test_what_can_be_done_without_is_left_out_on_a_full_disk_only(small_disk: Path) -> None:
    fill(small_disk)
    unless_full(lambda: write(small_disk), "it", small_disk)
    with pytest.raises(FileNotFoundError):
        unless_full(lambda: write(small_disk / "nowhere"), "it", small_disk)


def test_a_study_stores_what_it_is_told_once_there_is_space(
    small_disk: Path, space: SearchSpace
) -> None:
    with Study.create(
        small_disk / "study", space=space, objectives=GOALS, proposer="random"
    ) as study:
        trial = study.ask()
        study.start(trial.index)
        filler = fill(small_disk)
        later = threading.Timer(0.5, filler.unlink)
        later.start()
        study.tell(trial.index, {"loss": 1.0, "rouge_l": 0.5}, 1.0)
        later.join()
    with Study.open(small_disk / "study", read_only=True) as study:
        ends = [one.payload for one in study.events() if type(one.payload).__name__ == "Completed"]
    assert len(ends) == 1

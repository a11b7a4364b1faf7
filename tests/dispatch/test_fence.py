"""Workers of a driver that was killed, and the driver that comes after it."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from milp_search.core.errors import StudyError
from milp_search.dispatch.fence import at_work, wait_for_workers

WORKER = """
import sys, time
from pathlib import Path
from milp_search.dispatch.fence import at_work
with at_work(Path(sys.argv[1]), 1):
    print("at work", flush=True)
    time.sleep(60)
"""


def nothing() -> None:
    """Takes no notice."""


def driver(folder: Path, epoch: int) -> None:
    (folder / "study.lock").write_text(json.dumps({"host": "h", "pid": 1, "epoch": epoch}))


def test_the_next_driver_waits_until_the_worker_has_ended(tmp_path: Path) -> None:
    ended = threading.Event()
    entered = threading.Event()

    def work() -> None:
        with at_work(tmp_path, 1):
            entered.set()
            time.sleep(0.5)
            ended.set()

    thread = threading.Thread(target=work)
    thread.start()
    entered.wait()
    wait_for_workers(tmp_path, nothing)
    assert ended.is_set()
    thread.join()


def test_a_killed_worker_holds_nobody_up(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WORKER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "at work\n"
        told: list[str] = []
        with pytest.raises(StudyError, match="still trains"):
            wait_for_workers(tmp_path, lambda: told.append("waiting"), patience_s=2.5)
        assert told == ["waiting"]
        worker.kill()
        wait_for_workers(tmp_path, nothing)


def test_workers_work_side_by_side(tmp_path: Path) -> None:
    with at_work(tmp_path, 1), at_work(tmp_path, 1):
        pass


def test_a_worker_of_a_driver_that_was_superseded_does_not_work(tmp_path: Path) -> None:
    driver(tmp_path, epoch=2)
    with pytest.raises(StudyError, match="got driver 2"), at_work(tmp_path, 1):
        raise AssertionError("it worked")
    with at_work(tmp_path, 2), at_work(tmp_path, None):
        pass


def test_a_torn_lock_file_stops_nobody(tmp_path: Path) -> None:
    (tmp_path / "study.lock").write_text('{"ho')
    with at_work(tmp_path, 1):
        pass

"""A disk that is full for a while, for real: a file system of 8 MiB, and a local study on it."""

from __future__ import annotations

import importlib
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

kills: Any = importlib.import_module("kills")
places: Any = importlib.import_module("places")
process: Any = importlib.import_module("process")
study_run: Any = importlib.import_module("study_run")
subjects: Any = importlib.import_module("subjects")
verdict: Any = importlib.import_module("verdict")

pytestmark = pytest.mark.slow

SIZE = study_run.Size(trials=6, seconds=0.2)
LOCAL = subjects.SUBJECTS["milp_search_local"]


@pytest.fixture
def run() -> Iterator[Any]:
    with study_run.study_run(LOCAL, SIZE) as run:
        try:
            with places.small_disk(run.folder):
                yield run
                run.tidy()
        except subprocess.CalledProcessError:
            pytest.skip("needs the right to mount a file system")


def stuck_driver(run: Any) -> Any:
    """Returns a driver that waits for space, after it had begun three trials."""
    driver = run.start()
    assert driver.wait_for_trials(3)
    places.fill(run.folder / "filler")
    assert process.wait_until(lambda: "waiting to store" in driver.text, 100.0), driver.text
    return driver


def troubles(found: Any) -> dict[str, tuple[int, ...]]:
    kinds = ("lost", "twice", "stuck", "differing", "failed", "left")
    return {kind: getattr(found, kind) for kind in kinds if getattr(found, kind)}


def test_trials_that_end_on_a_full_disk_complete_once_there_is_space(run: Any) -> None:
    driver = stuck_driver(run)
    (run.folder / "filler").unlink()
    found = verdict.judge(run, driver.ending(100.0), kills.undisturbed(LOCAL, SIZE))
    assert (troubles(found), found.code) == ({}, 0)
    assert {*range(6)} <= {*found.shown["completed"]}
    assert "there is space again" in driver.text


def test_a_waiting_driver_that_is_stopped_says_what_is_not_stored(run: Any) -> None:
    driver = stuck_driver(run)
    for _ in range(2):
        process.kill(driver.pid, signal.SIGTERM)
        if process.wait_until(lambda: not driver.alive(), 10.0):
            break
    ended = driver.ending(60.0)
    assert ended.code == 143, ended.text
    assert "is not stored in" in ended.text
    assert ended.last_line.startswith("Stopped. Go on with: milp-search resume ")
    run.kills.append(time.monotonic())
    (run.folder / "filler").unlink()
    found = verdict.judge(run, run.finish(), kills.undisturbed(LOCAL, SIZE))
    # The one that ended on the full disk could be stored nowhere.
    assert len(found.twice + found.twice_at_kill) <= 1
    assert (troubles(replace(found, twice=())), found.code) == ({}, 0)

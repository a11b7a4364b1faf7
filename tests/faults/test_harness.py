"""The harness itself: how it starts drivers, ends what is left of them and sets their clock."""

from __future__ import annotations

import importlib
import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

clocks: Any = importlib.import_module("clocks")
nursery: Any = importlib.import_module("nursery")
process: Any = importlib.import_module("process")
study_run: Any = importlib.import_module("study_run")
damage: Any = importlib.import_module("damage")

RUN = Path(__file__).parents[2] / "benchmarks" / "faults" / "run.py"

SCRIPT = """\
import os, sys, time
if __name__ == "__main__":
    print(os.environ["SAID"], sys.argv[1:], os.getsid(0) == os.getpid(), flush=True)
    if sys.argv[1] == "text":
        sys.exit("no more")
    if sys.argv[1] == "wait":
        time.sleep(600)
    sys.exit(int(sys.argv[1]))
"""


def started(folder: Path, argument: str) -> Any:
    script = folder / "script.py"
    script.write_text(SCRIPT)
    drivers = nursery.nursery_of(str(script), ("json",))
    return drivers.start([argument], {"SAID": "hello"}, str(folder / "out"))


@pytest.mark.parametrize(
    ("argument", "code", "text"),
    [("3", 3, "hello ['3'] True\n"), ("text", 1, "hello ['text'] True\nno more\n")],
)
def test_a_forked_driver_is_a_script_of_its_own(
    tmp_path: Path, argument: str, code: int, text: str
) -> None:
    assert started(tmp_path, argument).wait(60) == code
    assert (tmp_path / "out").read_text() == text


def test_a_killed_driver_tells_the_signal(tmp_path: Path) -> None:
    driver = started(tmp_path, "wait")
    with pytest.raises(subprocess.TimeoutExpired):
        driver.wait(0.1)
    driver.kill()
    assert driver.wait(60) == -9


def test_a_process_that_is_left_is_named_and_ended() -> None:
    waiting = [sys.executable, "-c", "import time; time.sleep(600)"]
    left = subprocess.Popen(waiting, env=os.environ | {process.MARK: "left-in-test"})
    assert process.wait_until(lambda: process.marked("left-in-test") == [left.pid], 30)
    (name,) = process.end_all("left-in-test", 0.0)
    assert "time.sleep(600)" in name
    assert left.wait(30) == -9


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_the_wall_clock_is_set_for_one_process_and_no_other_clock_is(tmp_path: Path) -> None:
    (tmp_path / "clock").write_text("-3600")
    shim = str(clocks.built(tmp_path))
    told = subprocess.run(
        [sys.executable, "-c", "import time; print(time.time(), time.monotonic())"],
        env=os.environ | {"LD_PRELOAD": shim, "FAULTS_CLOCK": str(tmp_path / "clock")},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    off, passed = time.time() - float(told[0]), time.monotonic() - float(told[1])
    assert 3600 <= off < 3660
    assert 0 <= passed < 60


def test_the_last_word_of_a_driver_is_what_was_wrong_and_not_the_remedy() -> None:
    text = "1/2 trials\nmilp-search: no room\n  Make some.\n\n"
    assert study_run.last_line(text) == "milp-search: no room"
    assert study_run.last_line("") == ""


def test_a_turned_bit_is_one_bit_and_a_cut_leaves_a_beginning() -> None:
    chance = random.Random(0)
    for _ in range(50):
        turned = damage.turn_a_bit(b"\x00" * 9, chance)
        assert sum(byte.bit_count() for byte in turned) == 1
        assert b"abcdef".startswith(damage.cut_anywhere(b"abcdef", chance))


def test_the_table_is_made_of_the_cells_that_there_are(tmp_path: Path) -> None:
    cell: dict[str, Any] = {
        "studies": 2,
        "kills": 9,
        "trials": 6,
        "ended": 6,
        "lost": 1,
        "twice": 0,
    }
    cell |= {
        "twice_at_kill": 0,
        "stuck": 0,
        "differing": 0,
        "over": 0,
        "failed": 0,
        "codes": {"1": 2},
    }
    cells = {"kill-driver ray_tune": cell | {"message": "said | that", "left": ["raylet"]}}
    machine = {"processor": "chip", "cores": 2, "system": "Linux", "python": "3", "versions": {}}
    out = tmp_path / "faults"
    out.with_suffix(".json").write_text(json.dumps({"cells": cells, "machine": machine}))
    subprocess.run([sys.executable, RUN, "--table", "--out", out], check=True)
    page = out.with_suffix(".md").read_text()
    row = "| driver SIGKILL | **1 lost**, 0 twice, 0 stuck of 6, 9 kills in 2 studies; exit 1 |"
    assert row in page
    assert "Ray Tune (restore): `said / that`; left behind: 1 (raylet)" in page

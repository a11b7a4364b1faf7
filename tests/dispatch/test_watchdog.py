"""What becomes of packs that hang; the processes are real."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from milp_search.core.heartbeat import beat
from milp_search.core.plan import AdapterPlan, TrialPlan
from milp_search.core.trial import Failure
from milp_search.dispatch.jobs import Job
from milp_search.dispatch.watchdog import hung, left_watches, watched

JOBS = (
    Job("search", 3, 1, TrialPlan("logo", AdapterPlan((8, 0))), 7),
    Job("search", 4, 0, TrialPlan("logo", AdapterPlan((0, 8))), 7),
)

SCRIPT = """
import sys, time
from pathlib import Path
from milp_search.core.heartbeat import beat
from milp_search.core.plan import AdapterPlan, TrialPlan
from milp_search.dispatch import watchdog
from milp_search.dispatch.jobs import Job
watchdog._GRACE_S = 0.2
pack = tuple(
    Job("search", trial, attempt, TrialPlan("logo", AdapterPlan((8, 0))), 7)
    for trial, attempt in ((3, 1), (4, 0))
)

def spin():
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        {body}

with watchdog.watched(Path(sys.argv[1]), pack, {hang}, {limit}):
    spin()
print("came to its end")
"""


def run(folder: Path, body: str, hang: float | None, limit: float | None) -> str:
    """Runs a pack whose loop does `body` for ever and returns what the process wrote to stderr."""
    script = textwrap.dedent(SCRIPT).format(body=body, hang=hang, limit=limit)
    process = subprocess.run(
        [sys.executable, "-c", script, folder], capture_output=True, text=True, timeout=50
    )
    assert (process.stdout, process.returncode) == ("", 1), process.stderr
    return process.stderr


def test_a_silent_process_ends_itself_and_leaves_word_of_where_it_stood(tmp_path: Path) -> None:
    told = run(tmp_path, "time.sleep(0.01)", 0.5, None)
    reason = "no sign of life for 0.5 s (hang_after_s)"
    assert told == f"milp-search: a trial hangs, {reason}; this process ends\n"
    ((path, watch),) = left_watches(tmp_path)
    assert path.name == "search-00003-1.watch"
    assert path.stat().st_mode & 0o777 == 0o600
    assert watch.hung == Failure("hang", reason)
    assert [job.name for job in watch.pack] == ["search-00003-1", "search-00004-0"]
    assert "in spin" in watch.stacks


def test_beats_keep_a_process_alive_until_its_time_is_up(tmp_path: Path) -> None:
    # Two jobs of half a second.
    told = run(tmp_path, "time.sleep(0.01); beat()", 30.0, 0.5)
    assert "still training after 1 s (time_limit_s)" in told


def test_a_process_that_holds_the_interpreter_ends_too(tmp_path: Path) -> None:
    # A regular expression that backtracks for ages without giving the interpreter away.
    told = run(tmp_path, 'import re; re.match(r"(a+)+$", "a" * 60 + "b")', 0.5, None)
    assert told == ""
    ((_, watch),) = left_watches(tmp_path)
    assert watch.hung is not None
    assert watch.hung.reason.startswith("Timeout")


@pytest.mark.parametrize("limits", [(0.3, None), (None, 0.6), (None, None)])
def test_a_pack_that_ends_in_time_leaves_nothing(
    tmp_path: Path, limits: tuple[float | None, float | None]
) -> None:
    with watched(tmp_path, JOBS, *limits):
        assert len(left_watches(tmp_path)) == 1
        for _ in range(5):
            time.sleep(0.1)
            beat()
    assert left_watches(tmp_path) == []


def test_a_pack_that_is_left_by_an_exception_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), watched(tmp_path, JOBS, 60.0, None):
        raise KeyboardInterrupt
    assert left_watches(tmp_path) == []


def test_a_watch_that_did_not_fire_tells_of_no_hang(tmp_path: Path) -> None:
    with watched(tmp_path, JOBS, 60.0, None):
        assert hung(tmp_path, JOBS[0]) is None


def test_a_folder_that_cannot_be_written_to_is_trained_in_without_a_watch(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "search-00003-1.watch").mkdir()
    with watched(tmp_path, JOBS, 60.0, None):
        pass
    assert "no watch over search-00003-1" in caplog.text


def test_torn_watch_files_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "a.watch").write_text('[{"kind": "sea')
    (tmp_path / "results" / "b.watch").write_text("")
    assert left_watches(tmp_path) == []

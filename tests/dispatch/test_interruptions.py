"""What a user's terminal may do to the command: end it early, go away, or see a trial hang."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dispatch.small_study import small_study
from milp_search.study.study import Study

pytestmark = pytest.mark.slow

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
COMMAND = [sys.executable, "-m", "milp_search"]

# The third training of the process never comes back.
HANGS = """
import sys, time
from milp_search.dispatch import worker
train, calls = worker.train, []

def hanging(run):
    calls.append(run)
    if len(calls) == 3:
        time.sleep(600)
    return train(run)

worker.train = hanging
from milp_search.cli import main
main()
"""


def local_study(folder: Path, extra: str = "") -> Path:
    file = small_study(folder)
    file.write_text(file.read_text().replace("device: cpu", f"device: cpu, local: true{extra}"))
    return file


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_command_that_is_interrupted_before_its_study_began_just_leaves(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    # Opening a pipe that nobody writes to takes for ever.
    os.mkfifo(tmp_path / "study.yaml")
    command = [*COMMAND, "validate", str(tmp_path / "study.yaml")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        status = Path(f"/proc/{process.pid}/wchan")
        deadline = time.monotonic() + 60
        # Until then the handlers may not be there yet.
        while time.monotonic() < deadline and not waits_for_a_writer(status.read_text()):
            time.sleep(0.05)
        process.send_signal(number)
        _, told = process.communicate(timeout=60)
    assert (process.returncode, told) == (code, "")


def waits_for_a_writer(channel: str) -> bool:
    """Whether a process is in the kernel's function that opens a named pipe, or the one inside."""
    return "fifo" in channel or channel == "wait_for_partner"


def test_a_study_outlives_the_reader_of_its_output(tmp_path: Path) -> None:
    file, out = local_study(tmp_path), tmp_path / "run"
    command = [*COMMAND, "run", str(file), "--out", str(out)]
    with subprocess.Popen(
        command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        told = process.stderr.read()
    assert (process.returncode, told) == (0, "")
    assert (out / "report.html").exists()


def test_a_local_study_whose_trial_hangs_ends_says_so_and_goes_on_when_resumed(
    tmp_path: Path,
) -> None:
    file, out = local_study(tmp_path, ", pack: 1, hang_after_s: 8"), tmp_path / "run"
    first = subprocess.run(
        [sys.executable, "-c", HANGS, "run", file, "--out", out],
        env=ENVIRONMENT, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert first.returncode == 1
    assert "a trial hangs, no sign of life for 8 s (hang_after_s)" in first.stderr
    resumed = subprocess.run(
        [*COMMAND, "resume", out], env=ENVIRONMENT, capture_output=True, text=True, timeout=120
    )
    assert resumed.returncode == 0, resumed.stderr
    with Study.open(out, read_only=True) as study:
        assert [trial.status for trial in study.trials] == ["completed"] * 3
        assert study.state.lost == {2: ("hang",)}
    assert "in hanging" in (out / "log.txt").read_text()

"""The lock: one driver, however it ends."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from milp_search.core.errors import StudyError
from milp_search.study.lock import DriverLock

HOLD = """
import sys, time
from pathlib import Path
from milp_search.study.lock import DriverLock
lock = DriverLock.acquire(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""


def test_a_second_driver_is_told_who_the_first_is(tmp_path: Path) -> None:
    lock = DriverLock.acquire(tmp_path / "l")
    expected = f"host {socket.gethostname()}, process {os.getpid()}"
    with pytest.raises(StudyError, match=expected):
        DriverLock.acquire(tmp_path / "l")
    lock.release()


def test_the_lock_dies_with_a_killed_process(tmp_path: Path) -> None:
    path = tmp_path / "l"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(StudyError, match=f"process {holder.pid}"):
            DriverLock.acquire(path)
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    lock = DriverLock.acquire(path)
    assert lock.epoch == 2
    lock.release()


FORK = """
import os, sys
from pathlib import Path
from milp_search.study.lock import DriverLock
path = Path(sys.argv[1])
lock = DriverLock.acquire(path)
ready, go = os.pipe(), os.pipe()
if os.fork() == 0:
    os.close(go[1])
    lock.release()  # the parent's, not the child's
    os.write(ready[1], b".")
    os.read(go[0], 1)
    os._exit(0)
os.read(ready[0], 1)
try:
    DriverLock.acquire(path)
except ValueError:
    print("held")
if os.fork() == 0:
    os.close(go[1])
    os.read(go[0], 1)
    os._exit(0)
lock.release()
print("again", DriverLock.acquire(path).epoch)
"""


def test_the_lock_is_the_drivers_to_give_back_whatever_it_forked(tmp_path: Path) -> None:
    """One child gives its copy back while the driver holds it, one keeps it when it does not."""
    command = [sys.executable, "-c", FORK, str(tmp_path / "l")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "held\nagain 2\n"


def test_the_epoch_rises_with_every_driver(tmp_path: Path) -> None:
    for epoch in (1, 2, 3):
        lock = DriverLock.acquire(tmp_path / "l")
        assert lock.epoch == epoch
        lock.release()
        lock.release()
    assert json.loads((tmp_path / "l").read_text())["epoch"] == 3
    assert stat.S_IMODE((tmp_path / "l").stat().st_mode) == 0o600


def test_the_epoch_rises_above_one_known_from_elsewhere(tmp_path: Path) -> None:
    lock = DriverLock.acquire(tmp_path / "l")
    lock.rise_above(7)
    assert lock.epoch == 8
    lock.rise_above(7)
    assert lock.epoch == 8
    lock.release()
    assert json.loads((tmp_path / "l").read_text())["epoch"] == 8


@pytest.mark.parametrize("text", ["", '{"host": "a', "[1]", '{"epoch": "two"}', "\xff"])
def test_a_torn_lock_file_does_no_harm(tmp_path: Path, text: str) -> None:
    (tmp_path / "l").write_text(text, encoding="latin-1")
    lock = DriverLock.acquire(tmp_path / "l")
    assert lock.epoch == 1
    lock.release()


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="expected to write"):
        DriverLock.acquire(tmp_path)


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "l").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StudyError, match="expected to write"):
        DriverLock.acquire(tmp_path / "l")


def test_a_file_system_without_locks_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(StudyError, match="No locks available"):
        DriverLock.acquire(tmp_path / "l")

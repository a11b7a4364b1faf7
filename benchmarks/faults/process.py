"""Processes of a study, found by a mark in their environment, whoever started them."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

MARK = "FAULTS_RUN"
POLL_S = 0.02


def marked(mark: str) -> list[int]:
    """Returns the live processes that were started with the mark in their environment."""
    wanted = f"{MARK}={mark}".encode()
    return [
        int(path.name)
        for path in Path("/proc").iterdir()
        if path.name.isdecimal() and wanted in _environment(path) and not _is_zombie(path)
    ]


def name_of(pid: int) -> str:
    """Returns a process' program and arguments, in short; empty where it has gone."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return ""
    text = b" ".join([os.path.basename(words[0]), *words[1:]])
    return text[:80].decode(errors="replace").strip()


def kill(pid: int, number: int = signal.SIGKILL) -> bool:
    """Sends a signal and returns whether the process was there."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def kill_group(pid: int, number: int) -> None:
    """Sends a signal to a process' group, as a terminal does."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, number)


def wait_until(condition: Callable[[], bool], timeout_s: float) -> bool:
    """Returns whether the condition came true in time."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(POLL_S)
    return condition()


def end_all(mark: str, patience_s: float) -> list[str]:
    """Ends what still carries the mark; returns what had not gone by itself in that time."""
    wait_until(lambda: not marked(mark), patience_s)
    left = marked(mark)
    names = [name_of(pid) for pid in left]
    for pid in left:
        kill(pid)
    wait_until(lambda: not marked(mark), 30.0)
    return names


def _environment(path: Path) -> bytes:
    try:
        return (path / "environ").read_bytes()
    except OSError:
        return b""


def _is_zombie(path: Path) -> bool:
    try:
        return (path / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True

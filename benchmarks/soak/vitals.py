"""What a process holds, read from /proc (Linux)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Vitals:
    """One look at a process.

    Attributes:
        resident_mib: Memory that it holds for itself: resident, without files and shared memory.
        descriptors: Open file descriptors.
        threads: Threads.
    """

    resident_mib: float
    descriptors: int
    threads: int


def vitals(pid: int) -> Vitals | None:
    """Returns a process's vitals, None where it is gone."""
    folder = Path("/proc") / str(pid)
    try:
        lines = (folder / "status").read_text().splitlines()
        status = dict(line.split(":", 1) for line in lines if ":" in line)
        anonymous = int(status["RssAnon"].split()[0]) / 1024
        return Vitals(anonymous, len(os.listdir(folder / "fd")), int(status["Threads"]))
    except (OSError, KeyError):  # gone, or about to be
        return None


def descendants(pid: int) -> list[int]:
    """Returns the processes below a process."""
    parents = {int(path.name): _parent(path) for path in Path("/proc").glob("[0-9]*")}
    found, front = [], {pid}
    while front:
        front = {child for child, parent in parents.items() if parent in front}
        found += sorted(front)
    return found


def folder_mib(folder: Path) -> float:
    """Returns what the files below a folder take."""
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(root, name)).st_size
            except OSError:
                continue
    return total / 2**20


def _parent(folder: Path) -> int:
    try:
        return int((folder / "stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, IndexError):
        return -1

"""What trials say of themselves: the truth that a system's own state is held against."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal


@dataclass(frozen=True)
class Entry:
    """One line of a ledger.

    Attributes:
        trial: The trial's number in its study, from 0.
        event: `begin` when it starts to work, `end` when it has its value.
        pid: The process that it runs in.
        t: `time.monotonic()`.
        attempt: Which try of the trial it is, where the system tells.
    """

    trial: int
    event: Literal["begin", "end"]
    pid: int
    t: float
    attempt: int | None = None


def write_entry(
    path: Path, trial: int, event: Literal["begin", "end"], attempt: int | None = None
) -> None:
    """Appends a line; it is on disk when this returns.

    Args:
        path: The ledger, made where it is missing.
        trial: The trial's number in its study.
        event: What has happened to it.
        attempt: Which try it is.
    """
    values = {
        "trial": trial,
        "event": event,
        "pid": os.getpid(),
        "t": time.monotonic(),
        "attempt": attempt,
    }
    # A line that a killed writer tore must not swallow the next one.
    text = f"\n{json.dumps(values)}\n"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(descriptor, text.encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def ledgered(path: Path, trial: int, attempt: int | None = None) -> Iterator[None]:
    """Writes `begin` before the block and `end` after it, unless it raises."""
    write_entry(path, trial, "begin", attempt)
    yield
    write_entry(path, trial, "end", attempt)


def read_ledger(path: Path) -> list[Entry]:
    """Returns the lines in their order; none of a missing file, and no torn ones."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    return [Entry(**values) for line in lines if (values := _parsed(line)) is not None]


def _parsed(line: str) -> dict[str, Any] | None:
    try:
        values = json.loads(line)
    except ValueError:
        return None
    return values if isinstance(values, dict) else None


def ended(entries: list[Entry]) -> dict[int, int]:
    """Returns how often each trial came to its end, of those that ever did."""
    counts: dict[int, int] = {}
    for entry in entries:
        if entry.event == "end":
            counts[entry.trial] = counts.get(entry.trial, 0) + 1
    return counts


def begun(entries: list[Entry]) -> dict[int, int]:
    """Returns how often each trial began."""
    counts: dict[int, int] = {}
    for entry in entries:
        if entry.event == "begin":
            counts[entry.trial] = counts.get(entry.trial, 0) + 1
    return counts

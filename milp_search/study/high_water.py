"""How many events a store had at least, noted beside it: whether some were cut off its end.

A chain of digests shows every change but one: that its end is missing. The mark is written after
the events are on disk, so that it can be behind the store and never ahead of it.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class HighWater:
    """A number of events, and the digest of the last of them."""

    events: int
    digest: str


def mark_path(store: Path) -> Path:
    """Returns where a store's mark lies."""
    return store.with_name(store.name + ".mark")


def read_mark(store: Path) -> HighWater | None:
    """Returns a store's mark, None where there is none or it was damaged itself."""
    try:
        descriptor = os.open(mark_path(store), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        values = json.loads(os.pread(descriptor, 4096, 0))
        mark = HighWater(values["events"], values["digest"])
        return mark if values["check"] == _check(mark) else None
    except (OSError, ValueError, LookupError, TypeError):
        return None
    finally:
        os.close(descriptor)


def write_mark(store: Path, mark: HighWater) -> None:
    """Writes a store's mark; where that fails the one before stays true, so it is no error."""
    values = {"events": mark.events, "digest": mark.digest, "check": _check(mark)}
    # Always as long, so that it is overwritten in place: that takes no space on a full disk.
    text = f"{json.dumps(values):255}\n"
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open(mark_path(store), flags, 0o600)
    except OSError:
        return
    try:
        os.pwrite(descriptor, text.encode(), 0)
    except OSError:
        return
    finally:
        os.close(descriptor)


def _check(mark: HighWater) -> str:
    return hashlib.sha256(json.dumps([mark.events, mark.digest]).encode()).hexdigest()

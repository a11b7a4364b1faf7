"""Temporary folders that go with their process, or with the next one if it was killed."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_PREFIX = "milp-"
_ALIVE = "alive"


@contextmanager
def temporary_folder(parent: str) -> Iterator[Path]:
    """Yields a new folder in another, which only this user can read; it goes with the block.

    Folders that killed processes of this user left there are removed first.
    """
    _sweep(Path(parent))
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
    # Under its name only once it is locked, or it could be taken for one that was left.
    unlocked = folder / f"{_ALIVE}.new"
    alive = os.open(unlocked, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        # The kernel drops the lock when the process ends, however it ends.
        fcntl.flock(alive, fcntl.LOCK_EX)
        unlocked.rename(folder / _ALIVE)
        yield folder
    finally:
        # What used the folder may still be writing its last lines.
        shutil.rmtree(folder, ignore_errors=True)
        os.close(alive)


def _sweep(parent: Path) -> None:
    for file in parent.glob(f"{_PREFIX}*/{_ALIVE}"):
        with suppress(OSError):
            if file.parent.lstat().st_uid == os.getuid() and not file.parent.is_symlink():
                _remove_if_left(file)


def _remove_if_left(file: Path) -> None:
    descriptor = os.open(file, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(file.parent, ignore_errors=True)
    finally:
        os.close(descriptor)

"""Keeps the workers of a driver that was killed from working beside those of the next.

A worker holds a shared lock on `workers.lock` while it runs a pack, and runs it only while its
driver is the study's latest. A driver that takes a study over has a later epoch first, and then
waits for the lock: by then every pack of the driver before has ended, and left its results, or died
with its process.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from milp_search.core.errors import StudyError
from milp_search.study.lock import LOCK_NAME, epoch_of

WORKERS_LOCK = "workers.lock"

# ours: Ray ends the workers of a driver that died within seconds.
_TELL_AFTER_S = 2.0
_POLL_S = 0.1


@contextmanager
def at_work(folder: Path, epoch: int | None) -> Iterator[None]:
    """Holds the workers' lock while the block runs a pack.

    Args:
        folder: The study's folder.
        epoch: The epoch of the worker's driver; None where it has none.

    Raises:
        StudyError: A later driver runs the study.
    """
    descriptor = _open(folder)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        latest = epoch_of(folder / LOCK_NAME)
        if epoch is not None and latest > epoch:
            raise StudyError(
                f"expected to work for driver {epoch} of {folder}, got driver {latest}, which "
                f"has taken the study over"
            )
        yield
    finally:
        os.close(descriptor)


def wait_for_workers(folder: Path, tell: Callable[[], None], patience_s: float = 600.0) -> None:
    """Returns once no worker of an earlier driver is at work.

    Args:
        folder: The study's folder.
        tell: Called once if this takes longer than a moment.
        patience_s: How long to wait.

    Raises:
        StudyError: A worker is still at work after that time.
    """
    descriptor = _open(folder)
    start, told = time.monotonic(), False
    try:
        while not _taken(descriptor):
            waited_s = time.monotonic() - start
            if waited_s > patience_s:
                raise StudyError(
                    f"a worker of an earlier driver still trains in {folder}, after "
                    f"{patience_s:g} s",
                    remedy="End the job that started it, then resume the study.",
                )
            if waited_s > _TELL_AFTER_S and not told:
                told = True
                tell()
            time.sleep(_POLL_S)
    finally:
        os.close(descriptor)


def _open(folder: Path) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    return os.open(folder / WORKERS_LOCK, flags, 0o600)


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True

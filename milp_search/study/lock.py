"""One driver per study: a file lock that lives and dies with its process."""

from __future__ import annotations

import fcntl
import json
import os
import socket
from pathlib import Path
from typing import Self, final

from milp_search.core.errors import StudyError

LOCK_NAME = "study.lock"


@final
class DriverLock:
    """The right to write to a study.

    The kernel drops the lock when the process ends, however it ends, and with it those that were
    forked from it meanwhile and did not become another program. The file names the holder's
    `host` and `pid`, and an `epoch` that rises with every driver.
    """

    def __init__(self, descriptor: int, epoch: int):
        self._descriptor: int | None = descriptor
        self.epoch, self.host, self.pid = epoch, socket.gethostname(), os.getpid()

    @classmethod
    def acquire(cls, path: Path) -> Self:
        """Takes the lock.

        Args:
            path: The lock file; it stays when `release` gives the lock back.

        Returns:
            The lock, held.

        Raises:
            StudyError: Another driver holds it, or the file cannot be written.
        """
        descriptor = _open(path)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            lock = cls(descriptor, _epoch(descriptor) + 1)
            lock._write()
        except OSError as error:
            holder = _holder(descriptor)
            os.close(descriptor)
            raise _refusal(path, holder, error) from error
        return lock

    def rise_above(self, epoch: int) -> None:
        """Makes the epoch newer than one known from elsewhere, should the file have been lost."""
        if self.epoch <= epoch:
            self.epoch = epoch + 1
            self._write()

    def release(self) -> None:
        """Gives the lock back; a second call does nothing."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is None:
            return
        try:
            # Children forked meanwhile have it open too; what they close is still the parent's.
            if os.getpid() == self.pid:
                fcntl.flock(descriptor, fcntl.LOCK_UN)
        finally:
            os.close(descriptor)

    def _write(self) -> None:
        assert self._descriptor is not None
        text = json.dumps({"host": self.host, "pid": self.pid, "epoch": self.epoch})
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, text.encode(), 0)
        os.fsync(self._descriptor)


def epoch_of(path: Path) -> int:
    """Returns the epoch of the latest driver, as the lock file names it; 0 where it names none."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return 0
    try:
        return _epoch(descriptor)
    finally:
        os.close(descriptor)


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise StudyError(
            f"expected to write {path}, got: {error.strerror}",
            remedy="Give yourself write access to the study's folder, or open it read-only.",
        ) from error


def _holder(descriptor: int) -> dict[str, object]:
    # A driver killed while it wrote leaves a torn text, which is as good as none.
    try:
        values = json.loads(os.pread(descriptor, 4096, 0))
    except (ValueError, OSError):
        return {}
    return values if isinstance(values, dict) else {}


def _epoch(descriptor: int) -> int:
    epoch = _holder(descriptor).get("epoch")
    return epoch if isinstance(epoch, int) else 0


def _refusal(path: Path, holder: dict[str, object], error: OSError) -> StudyError:
    if not isinstance(error, BlockingIOError):
        return StudyError(f"expected to lock {path}, got: {error.strerror}")
    host, pid = holder.get("host", "unknown"), holder.get("pid", "unknown")
    return StudyError(
        f"another driver runs this study: host {host}, process {pid}",
        remedy=f"Wait for it or end it; `milp-search status {path.parent}` works meanwhile.",
    )

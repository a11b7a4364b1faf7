"""Ends a process whose pack has hung, and leaves word of it.

A trial may hang where no exception reaches it: in a kernel, in a lock, in a file system. What is
watched is that training goes on: it beats with every step, on the monotonic clock. A process that
is silent for too long, or works on a pack for too long, ends itself. The pack's watch file, beside
its results, then holds where every thread stood, and tells the driver, this one or a later, that
the attempt hung. A watch file without such word is of a process that was killed.
"""

from __future__ import annotations

import faulthandler
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import final

from milp_search.core.heartbeat import heard_by
from milp_search.core.trial import Failure
from milp_search.dispatch.folders import RESULTS
from milp_search.dispatch.jobs import Job, Pack, job_from_dict

# ours: so long the thread that watches may be late before the C library's ends the process; it is
# late for ever where code outside Python holds the interpreter.
_GRACE_S = 10.0
_REARM_S = 1.0

_logger = logging.getLogger(__name__)


@contextmanager
def watched(
    folder: Path, pack: Pack, hang_after_s: float | None, time_limit_s: float | None
) -> Iterator[None]:
    """Watches over a pack while the block runs it.

    Args:
        folder: The study's folder.
        pack: What is run.
        hang_after_s: So long may pass without a beat; None for ever.
        time_limit_s: So long each job of the pack may take; None for ever.
    """
    path = _watch_file(folder, pack)
    limit_s = None if time_limit_s is None else time_limit_s * len(pack)
    try:
        descriptor = _begun(path, pack)
    except OSError as error:
        # A full disk; what a trial is worth is in its result.
        _logger.warning("no watch over %s: %s", pack[0].name, error.strerror)
        yield
        return
    try:
        with _Watch(descriptor, hang_after_s, limit_s).on():
            yield
    finally:
        os.close(descriptor)
        path.unlink(missing_ok=True)


@dataclass(frozen=True)
class Watched:
    """What a watch file says.

    Attributes:
        pack: The jobs that were run.
        hung: Why the process ended itself; None where it was killed, or still runs.
        stacks: Where its threads stood; names of files and functions only.
    """

    pack: Pack
    hung: Failure | None
    stacks: str


def left_watches(folder: Path) -> list[tuple[Path, Watched]]:
    """Returns the watch files of packs that did not end, in order of name."""
    found = []
    for path in sorted((folder / RESULTS).glob("*.watch")):
        with suppress(OSError, ValueError, KeyError, TypeError):
            found.append((path, _read(path)))
    return found


def hung(folder: Path, job: Job) -> Failure | None:
    """Returns why the process that ran a job ended itself, None where it did not."""
    for _, watch in left_watches(folder):
        if watch.hung is not None and job.name in (one.name for one in watch.pack):
            _logger.info("%s %s:\n%s", job.name, watch.hung.reason, watch.stacks)
            return watch.hung
    return None


@final
class _Watch:
    """The time that a pack still has."""

    def __init__(self, descriptor: int, silence_s: float | None, limit_s: float | None):
        self._file, self._silence_s, self._limit_s = descriptor, silence_s, limit_s
        self._start = self._heard = self._armed = time.monotonic()
        self._over = threading.Event()

    @contextmanager
    def on(self) -> Iterator[None]:
        """Watches while the block runs."""
        if self._silence_s is None and self._limit_s is None:
            yield
            return
        thread = threading.Thread(target=self._wait, name="watchdog", daemon=True)
        self._arm()
        thread.start()
        try:
            with heard_by(self.beat):
                yield
        finally:
            self._over.set()
            thread.join()
            faulthandler.cancel_dump_traceback_later()

    def beat(self) -> None:
        """Notes that work goes on."""
        self._heard = time.monotonic()
        if self._heard - self._armed > _REARM_S:
            self._arm()

    def _arm(self) -> None:
        # In the C library's own thread: it needs nothing of the interpreter.
        self._armed = time.monotonic()
        left_s, _ = self._left()
        faulthandler.dump_traceback_later(max(left_s, 0.0) + _GRACE_S, exit=True, file=self._file)

    def _left(self) -> tuple[float, str]:
        """Returns the seconds that are left, and what is to be said when there are none."""
        now = time.monotonic()
        ends = [
            (self._heard + s - now, f"no sign of life for {s:g} s (hang_after_s)")
            for s in [self._silence_s]
            if s is not None
        ] + [
            (self._start + s - now, f"still training after {s:g} s (time_limit_s)")
            for s in [self._limit_s]
            if s is not None
        ]
        return min(ends)

    def _wait(self) -> None:
        left_s, reason = self._left()
        while left_s > 0:
            if self._over.wait(left_s):
                return
            left_s, reason = self._left()
        os.write(self._file, f"{reason}\n".encode())
        faulthandler.dump_traceback(self._file)
        os.fsync(self._file)
        sys.stderr.write(f"milp-search: a trial hangs, {reason}; this process ends\n")
        sys.stderr.flush()
        # Nothing gentler ends a process that hangs; what it had finished is on disk.
        os._exit(1)


def _watch_file(folder: Path, pack: Pack) -> Path:
    return folder / RESULTS / f"{pack[0].name}.watch"


def _begun(path: Path, pack: Pack) -> int:
    path.parent.mkdir(mode=0o700, exist_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o600)
    try:
        os.write(descriptor, (json.dumps([job.as_dict() for job in pack]) + "\n").encode())
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _read(path: Path) -> Watched:
    jobs, _, rest = path.read_text(encoding="utf-8", errors="replace").partition("\n")
    reason, _, stacks = rest.partition("\n")
    pack = tuple(job_from_dict(values) for values in json.loads(jobs))
    return Watched(pack, Failure("hang", reason) if reason else None, stacks)

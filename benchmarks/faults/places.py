"""Where a study lies: a full disk, a folder that cannot be written, a path of any characters."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from cell import Amount
from kills import undisturbed
from process import wait_until
from study_run import Ending, study_run
from subjects import Subject
from verdict import Verdict, judge

SMALL_DISK = "8m"
# ours: many times what a study of the matrix takes; a driver that lives on waits for space.
WAITS_S = 20.0
ODD_NAME = "eine Studie ü 研究"


def odd_path(subject: Subject, amount: Amount) -> Iterator[Verdict]:
    """Yields what became of a study at an odd path whose driver was killed once."""
    reference = undisturbed(subject, amount.size)
    with study_run(subject, amount.size, name=ODD_NAME) as run:
        driver = run.start()
        driver.wait_for_trials(3)
        driver.kill()
        yield judge(run, run.finish(), reference)


def read_only_folder(subject: Subject, amount: Amount) -> Iterator[Verdict]:
    """Yields what became of a study that a driver met read-only once; code and message are its."""
    with study_run(subject, amount.size) as run:
        driver = run.start()
        driver.wait_for_trials(3)
        driver.kill()
        run.tidy()
        mount = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec "$@"'
        run.prefix = ("unshare", "-m", "sh", "-c", mount, str(run.folder))
        run.fresh = True
        refused = run.finish(amount.patience_s)
        run.prefix, run.fresh = (), False
        verdict = judge(run, run.finish())
        yield replace(verdict, code=refused.code, message=_without(refused, run.folder))


def full_disk(subject: Subject, amount: Amount) -> Iterator[Verdict]:
    """Yields what became of a study whose disk was full for a while.

    Code and message are those of the driver that met it, which may end or wait for space.
    """
    reference = undisturbed(subject, amount.size)
    with study_run(subject, amount.size) as run, small_disk(run.folder):
        driver = run.start()
        driver.wait_for_trials(3)
        fill(run.folder / "filler")
        ended = wait_until(lambda: not driver.alive(), WAITS_S)
        run.kills.append(time.monotonic())
        if ended:
            run.tidy()
        (run.folder / "filler").unlink()
        full = driver.ending(amount.patience_s)
        verdict = judge(run, run.finish() if ended else full, reference)
        said = verdict.shown.get("error") or _without(full, run.folder)
        yield replace(verdict, code=full.code, message=said)


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """Makes a folder that holds a few MiB, for the time of the block; needs root."""
    folder.mkdir()
    options = ["-t", "tmpfs", "-o", f"size={SMALL_DISK},mode=0700", "none"]
    subprocess.run(["mount", *options, str(folder)], check=True)
    try:
        yield
    finally:
        wait_until(lambda: subprocess.run(["umount", str(folder)]).returncode == 0, 30.0)


def fill(file: Path) -> None:
    """Writes until the disk takes no more."""
    with file.open("wb", buffering=0) as full, contextlib.suppress(OSError):
        for chunk in (1 << 16, 1):
            with contextlib.suppress(OSError):
                while True:
                    full.write(b"\0" * chunk)


def _without(ending: Ending, folder: Path) -> str:
    return ending.last_line.replace(str(folder), "DIR")

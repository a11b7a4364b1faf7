"""SIGINT and SIGTERM: once and twice, to the driver and to its whole group as a terminal does."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from cell import Amount
from kills import undisturbed
from process import kill, kill_group
from study_run import Driver, study_run
from subjects import Subject
from verdict import Verdict, judge

# ours: what lies between two strokes of an impatient hand.
BETWEEN_S = 0.7


def stopped(
    number: signal.Signals, *, times: int = 1, group: bool = False
) -> Callable[[Subject, Amount], Iterator[Verdict]]:
    """Returns a function that yields what became of a study that was stopped and resumed.

    Args:
        number: The signal.
        times: How often it comes.
        group: To the whole process group; else to the driver alone.

    Returns:
        The function; the verdict's exit code and message are those of the stopped driver.
    """

    def inflicted(subject: Subject, amount: Amount) -> Iterator[Verdict]:
        reference = undisturbed(subject, amount.size)
        with study_run(subject, amount.size) as run:
            driver = run.start()
            driver.wait_for_trials(2)
            for _ in range(times):
                (kill_group if group else kill)(driver.pid, number)
                run.kills.append(time.monotonic())
                time.sleep(BETWEEN_S)
            first = driver.ending(amount.patience_s)
            verdict = judge(run, run.finish(), reference)
            yield replace(verdict, code=first.code, message=_last_word(driver, first.last_line))

    return inflicted


def _last_word(driver: Driver, last_line: str) -> str:
    """Returns the line that tells how to go on, or the last one."""
    folder = str(driver.run.folder)
    told = [line for line in driver.text.splitlines() if "resume" in line and folder in line]
    return (told or [last_line])[-1].replace(folder, "DIR")

"""Several drivers on one folder at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from cell import Amount
from kills import undisturbed
from study_run import Ending, StudyRun, study_run
from subjects import Subject
from verdict import Verdict, judge

OVERLAP_S = 4.0


def second_driver(subject: Subject, amount: Amount) -> Iterator[Verdict]:
    """Yields what became of a study that two drivers ran; code and message are the second's."""
    # The first must still be at work when the second has started.
    size = replace(amount.size, seconds=max(amount.size.seconds, OVERLAP_S))
    reference = undisturbed(subject, amount.size)
    with study_run(subject, size) as run:
        first = run.start()
        first.wait_for_trials(1)
        second = run.finish(amount.patience_s)
        ending = first.ending(amount.patience_s)
        verdict = judge(run, ending, reference)
        yield replace(verdict, code=second.code, message=_told(run, second))


def many_drivers(count: int) -> Callable[[Subject, Amount], Iterator[Verdict]]:
    """Returns a function that yields what became of a folder that so many drivers begin on.

    Args:
        count: How many are started at once.

    Returns:
        The function; the message tells how many drivers ended with which code.
    """

    def inflicted(subject: Subject, amount: Amount) -> Iterator[Verdict]:
        reference = undisturbed(subject, amount.size)
        with study_run(subject, amount.size) as run:
            drivers = [run.start() for _ in range(count)]
            end = time.monotonic() + amount.patience_s
            endings = [driver.ending(max(end - time.monotonic(), 0.1)) for driver in drivers]
            codes = sorted(str(ending.code) for ending in endings)
            told = ", ".join(f"{codes.count(code)} x {code}" for code in dict.fromkeys(codes))
            worst = next((one for one in endings if one.code is None), endings[0])
            yield replace(judge(run, worst, reference), message=f"exit codes: {told}")

    return inflicted


def _told(run: StudyRun, ending: Ending) -> str:
    """Returns the line that names the other driver, or the last one."""
    lines = [line for line in ending.text.splitlines() if "another driver" in line]
    return (lines or [ending.last_line])[-1].replace(str(run.folder), "DIR")

"""Faults inside a trial: what becomes of it, and of the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from cell import Amount
from kills import undisturbed
from study_run import study_run
from subjects import Subject
from verdict import Verdict, judge

# The trial that meets the fault: neither the first nor the last of a study.
STRUCK = 2


def trial_fault(kind: str, *, always: bool = False) -> Callable[[Subject, Amount], Iterator[Verdict]]:
    """Returns a function that yields what became of a study with a fault in one trial.

    Args:
        kind: The fault, as `inflict` names it.
        always: At every attempt; else at the first.

    Returns:
        The function; it resumes the study if the driver dies of the fault.
    """

    def inflicted(subject: Subject, amount: Amount) -> Iterator[Verdict]:
        size = replace(amount.size, faults=(f"{kind}@{STRUCK}{'!' if always else ''}",))
        reference = undisturbed(subject, amount.size)
        with study_run(subject, size) as run:
            ending = run.finish(amount.patience_s)
            # A study that runs in the process that died goes on, as its user would have it.
            if ending.code is not None and ending.code > 128:
                ending = run.finish(amount.patience_s)
            yield judge(run, ending, reference)

    return inflicted

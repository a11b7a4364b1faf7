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
# ours: more than any system tries a trial again.
RESUMES = 5


def trial_fault(
    kind: str, *, always: bool = False
) -> Callable[[Subject, Amount], Iterator[Verdict]]:
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
            first = ending = run.finish(amount.patience_s)
            # Where the driver ends with its trial its user resumes it, as often as it takes.
            for _ in range(RESUMES):
                if ending.code in (0, None):
                    break
                ending = run.finish(amount.patience_s)
            verdict = judge(run, ending, reference)
            yield replace(verdict, code=first.code, message=first.last_line)

    return inflicted

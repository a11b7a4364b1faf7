"""What a study lost, ran twice or left hanging: its own state held against the ledger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from inflict import VALUES, parse_faults
from ledger import Entry, ended
from milp_search_study import FINAL_TEST
from study_run import Ending, ShowError, StudyRun

# ours: a trial that ended so shortly before a kill may not have come to its system's disk yet. If
# it is run again, it is counted apart; the same for every system.
AT_KILL_S = 0.25


@dataclass(frozen=True)
class Verdict:
    """What became of a study.

    Attributes:
        trials: How many the study was to have.
        ended: How many of them came to their end, by the ledger.
        lost: Those that the study's state does not have as completed.
        twice: Those that came to their end more than once.
        twice_at_kill: Those of them whose earlier end was within AT_KILL_S of a kill, left out of
            `twice`.
        stuck: Those that are still running or waiting when all is over, and those never begun.
        differing: Completed trials whose values are not those of an undisturbed study.
        accepted: Completed trials whose value is NaN or infinity.
        over: Completed trials beyond those that the study was to have.
        code: The last driver's exit code; None where it had to be ended.
        message: The last line that it printed.
        left: Processes and temporary files that it left behind.
        failed: Trials that its state has as failed.
        kills: How many signals it was sent.
        shown: All that its state tells.
    """

    trials: int
    ended: int
    lost: tuple[int, ...] = ()
    twice: tuple[int, ...] = ()
    twice_at_kill: tuple[int, ...] = ()
    stuck: tuple[int, ...] = ()
    differing: tuple[int, ...] = ()
    accepted: tuple[int, ...] = ()
    over: int = 0
    code: int | None = 0
    message: str = ""
    left: tuple[str, ...] = ()
    failed: tuple[int, ...] = ()
    kills: int = 0
    shown: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def clean(self) -> bool:
        """Whether the study is as it would have been, but for trials that failed."""
        return not (
            self.lost or self.twice or self.stuck or self.differing or self.over or self.accepted
        )


def judge(run: StudyRun, ending: Ending, reference: Mapping[str, Any] | None = None) -> Verdict:
    """Returns what became of a study, and ends what is left of its processes.

    Args:
        run: The study, whose last driver has ended.
        ending: How that ended.
        reference: The values of an undisturbed study, where they are known.

    Returns:
        The verdict; where the subject cannot show the study, all that ended is lost.
    """
    processes, files = run.tidy()
    entries = run.entries()
    try:
        shown = run.show()
    except ShowError as error:
        shown = {"completed": [], "failed": [], "running": [], "values": {}, "error": str(error)}
    valueless = _valueless(run)
    whole = {t: count for t, count in ended(entries).items() if t not in valueless}
    twice = sorted(trial for trial, count in whole.items() if count > 1)
    at_kill = {trial for trial in twice if _near(entries, trial, run.kills)}
    return Verdict(
        trials=run.size.trials,
        ended=len(whole),
        lost=tuple(sorted({*whole} - {*shown["completed"]})),
        twice=tuple(trial for trial in twice if trial not in at_kill),
        twice_at_kill=tuple(sorted(at_kill)),
        stuck=_stuck(run.size.trials, shown, ending),
        differing=_differing(shown["values"], reference),
        accepted=tuple(sorted(valueless & {*shown["completed"]})),
        over=_over(run.size.trials, shown),
        code=ending.code,
        message=shown.get("error", ending.last_line).replace(str(run.place), "PLACE"),
        left=(*processes, *files),
        failed=tuple(shown["failed"]),
        kills=len(run.kills),
        shown=shown,
    )


def _valueless(run: StudyRun) -> set[int]:
    """Returns the trials that end with NaN or infinity, which is no value."""
    faults = parse_faults(run.size.faults)
    return {trial for trial, fault in faults.items() if fault.kind in VALUES}


def _near(entries: Sequence[Entry], trial: int, kills: Sequence[float]) -> bool:
    """Returns whether each end of a trial but its last came just before a kill."""
    ends = [entry.t for entry in entries if (entry.trial, entry.event) == (trial, "end")]
    return all(any(-0.05 <= kill - end <= AT_KILL_S for kill in kills) for end in ends[:-1])


def _stuck(trials: int, shown: Mapping[str, Any], ending: Ending) -> tuple[int, ...]:
    over = {*shown["completed"], *shown["failed"]}
    hanging = {*shown["running"]} - over
    never = {*range(trials)} - over if ending.code is None else set()
    return tuple(sorted(hanging | never))


def _over(trials: int, shown: Mapping[str, Any]) -> int:
    searched = [trial for trial in shown["completed"] if trial < FINAL_TEST]
    return max(len(searched) - trials, 0)


def _differing(values: Mapping[str, Any], reference: Mapping[str, Any] | None) -> tuple[int, ...]:
    if reference is None:
        return ()
    return tuple(int(trial) for trial in values if values[trial] != reference.get(trial))

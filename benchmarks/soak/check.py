"""Whether the store agrees with the ledger that the trials wrote themselves."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

from luck import formula

from milp_search.core.trial import Trial, TrialStatus
from milp_search.study.events import Abandoned, Completed, Failed
from milp_search.study.study import Study


@dataclass(frozen=True)
class Verdict:
    """What was compared, and every fault that was found.

    Attributes:
        trials: The trials that were asked.
        completed: Those that completed.
        failed: Those that failed for good.
        attempts: The attempts that the ledger holds, by their fate.
        workers: The worker processes.
        faults: What does not agree, in words; empty is consistent.
    """

    trials: int
    completed: int
    failed: int
    attempts: dict[str, int]
    workers: int
    faults: list[str]


def compared(folder: Path, ledger: Path, expected: int) -> Verdict:
    """Returns how a study's store agrees with the ledger; opening it verifies the chain.

    Args:
        folder: The study's.
        ledger: What the workers wrote.
        expected: How many trials the study was to have.

    Returns:
        The verdict.
    """
    files = [*ledger.iterdir()]
    lines = [line for file in files for line in file.read_text().splitlines() if line != "made"]
    fates = [line.split() for line in lines]
    with Study.open(folder, read_only=True) as study:
        trials, events = study.trials, study.events()
        ends = Counter(
            event.trial
            for event in events
            if isinstance(event.payload, Completed | Failed | Abandoned)
        )
        faults = [f"{expected} trials expected, {len(trials)} asked"] * (len(trials) != expected)
        faults += _ended_once(trials, ends)
        faults += _run_once(Counter(name for name, _ in fates))
        faults += _as_the_ledger_says(study, _by_trial(fates))
    status = Counter(trial.status for trial in trials)
    return Verdict(
        len(trials),
        status[TrialStatus.COMPLETED],
        status[TrialStatus.FAILED],
        dict(Counter(fate for _, fate in fates)),
        len(files),
        faults,
    )


def _by_trial(fates: list[list[str]]) -> dict[int, dict[int, str]]:
    found: dict[int, dict[int, str]] = defaultdict(dict)
    for name, fate in fates:
        _, trial, attempt = name.split("-")
        found[int(trial)][int(attempt)] = fate
    return found


def _ended_once(trials: tuple[Trial, ...], ends: Counter[int | None]) -> list[str]:
    return [
        f"trial {trial.index} has {ends[trial.index]} ends"
        for trial in trials
        if ends[trial.index] != 1
    ]


def _run_once(runs: Counter[str]) -> list[str]:
    return [f"{name} ran {count} times" for name, count in runs.items() if count != 1]


def _as_the_ledger_says(study: Study, ledger: dict[int, dict[int, str]]) -> list[str]:
    faults = []
    for trial in study.trials:
        attempts, last = ledger.get(trial.index, {}), study.attempt(trial.index)
        fates = [attempts[number] for number in sorted(attempts)]
        if last is None or [*sorted(attempts)] != [*range(last + 1)]:
            faults.append(f"trial {trial.index}: attempts {sorted(attempts)}, last {last}")
        end = "completed" if trial.failure is None else trial.failure.kind
        if fates[-1:] != [end] or "completed" in fates[:-1]:
            faults.append(f"trial {trial.index}: {end} in the store, {fates} in the ledger")
        if _measured(trial) != (formula(trial.index) if end == "completed" else {}):
            faults.append(f"trial {trial.index}: {_measured(trial)} is not what it measured")
    return faults


def _measured(trial: Trial) -> dict[str, float]:
    return {name: trial.measurements[name].mean for name in trial.measurements}

"""One line on how a search stands: a live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.console import Console

from milp_search.core.trial import Objective, Trial, TrialStatus
from milp_search.study.study import Study


class Progress:
    """Shows trials done, best values, hypervolume and the time left."""

    def __init__(self, study: Study, budget: int, console: Console):
        self._study, self._budget, self._console = study, budget, console
        self._start = time.monotonic()
        self._before = ended(study.trials)
        self._last = ""

    def show(self) -> None:
        """Prints the line where it has changed."""
        line = progress_line(self._study, self._budget, self._seconds_left())
        if line == self._last:
            return
        self._last = line
        if self._console.is_terminal:
            width = self._console.width - 1
            self._console.print(line[:width].ljust(width), end="\r", markup=False)
        else:
            self._console.print(line, soft_wrap=True, markup=False, highlight=False)

    def close(self) -> None:
        """Ends the live line."""
        if self._console.is_terminal:
            self._console.print()

    def _seconds_left(self) -> float | None:
        done = ended(self._study.trials)
        new = done - self._before
        if new <= 0 or done >= self._budget:
            return None
        return (time.monotonic() - self._start) / new * (self._budget - done)


def progress_line(study: Study, budget: int | None, seconds_left: float | None) -> str:
    """Returns the state of a search in a line; without the budget where that is not known."""
    trials = study.trials
    parts = [f"{ended(trials)}{'' if budget is None else f'/{budget}'} trials"]
    failed = sum(trial.status == TrialStatus.FAILED for trial in trials)
    parts += [f"{failed} failed"] if failed else []
    eligible = study.eligible()
    breaking = sum(trial.status == TrialStatus.COMPLETED for trial in trials) - len(eligible)
    parts += [f"{breaking} breaking a constraint"] if breaking else []
    parts += [best for objective in study.objectives if (best := _best(eligible, objective))]
    hypervolume = study.hypervolume()
    parts += [f"hypervolume {hypervolume:.4g}"] if hypervolume is not None else []
    tested = sum(bool(study.tests(trial.index)) for trial in trials)
    parts += [f"{tested} of the front tested"] if tested else []
    parts += [f"{clock(seconds_left)} left"] if seconds_left is not None else []
    return " | ".join(parts)


def ended(trials: Sequence[Trial]) -> int:
    """Returns the number of trials that have ended."""
    return sum(trial.status.terminal for trial in trials)


def clock(seconds: float) -> str:
    """Returns a duration as m:ss or h:mm:ss."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _best(trials: Sequence[Trial], objective: Objective) -> str:
    values = [
        trial.measurements[objective.metric].mean
        for trial in trials
        if objective.metric in trial.measurements
    ]
    if not values:
        return ""
    best = min(values) if objective.direction == "minimize" else max(values)
    return f"best {objective.metric} {best:.4g}"

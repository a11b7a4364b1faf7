"""How busy a study's workers were, from its events."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise

from milp_search.study.events import Abandoned, Completed, Event, Failed, Opened, Started


def busy_share(events: Sequence[Event], workers: int, initial_trials: int) -> float | None:
    """Returns the share of the workers' time in which they trained, after the initial design.

    The time goes from the start of the first trial after the initial design to the last end of
    a search trial. Trials that were trained together count as one. None where there is no such
    time. While no driver ran the study, time stands still.

    Args:
        events: The study's events, in order.
        workers: How many could train side by side.
        initial_trials: The size of the initial design.

    Returns:
        The share, 1 at most.
    """
    spans = _spans(events)
    first = min((start for trial, start, _, _ in spans if trial >= initial_trials), default=None)
    if first is None:
        return None
    last = max(end for _, _, end, _ in spans)
    busy = sum(max(end - max(start, first), 0.0) / pack for _, start, end, pack in spans)
    return min(busy / (workers * (last - first)), 1.0) if last > first else None


def _spans(events: Sequence[Event]) -> list[tuple[int, float, float, int]]:
    """Returns trial, start, end and pack of each attempt that ended a trial."""
    started: dict[int, float] = {}
    spans = []
    for event, now in zip(events, _times(events), strict=True):
        if event.trial is None:
            continue
        if isinstance(event.payload, Started):
            started[event.trial] = now
        elif isinstance(event.payload, Completed | Failed | Abandoned) and event.trial in started:
            pack = event.payload.pack if isinstance(event.payload, Completed) else 1
            spans.append((event.trial, started[event.trial], now, pack))
    return spans


def _times(events: Sequence[Event]) -> list[float]:
    """Returns when each event happened, in seconds of drivers' time, which only grows."""
    steps = [_step(before, event) for before, event in pairwise(events)]
    return list(accumulate(steps, initial=0.0))[: len(events)]


def _step(before: Event, event: Event) -> float:
    if isinstance(event.payload, Opened):
        return 0.0
    if before.elapsed_s is not None and event.elapsed_s is not None:
        return max(event.elapsed_s - before.elapsed_s, 0.0)
    # Studies of earlier versions know the wall's clock only, which may have been set back.
    return max(event.at - before.at, 0.0)

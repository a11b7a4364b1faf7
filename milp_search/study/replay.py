"""A study's state as a pure function of its events."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from types import MappingProxyType
from typing import Any, SupportsIndex

from milp_search.core.errors import StudyError
from milp_search.core.trial import Objective, Trial, TrialStatus
from milp_search.study.events import (
    Abandoned,
    Asked,
    Completed,
    Created,
    Event,
    Failed,
    FinalTest,
    Finished,
    Forgotten,
    Looked,
    Measurements,
    Opened,
    Referenced,
    Remembered,
    Started,
    kind_of,
)


@dataclass(frozen=True)
class StudyState:
    """All there is to know of a study.

    Attributes:
        created: What was asked for; None before the first event.
        created_at: When, in wall-clock seconds since the epoch.
        objectives: The objectives; their references are set once inferred.
        trials: The trials in the order of their indices, which count from 0.
        attempts: Trial index to its latest attempt, for trials that were started.
        lost: Trial index to the kinds of failure that attempts of it were lost by, in order.
        tests: Trial index to test seed to test measurements.
        epoch: The number of drivers so far.
        finished: Why the search ended; None while it goes on.
        memory: What the proposer left for its next proposals, if anything.
        forgotten: The salts of the marks of users who were forgotten.
    """

    created: Created | None = None
    created_at: float = 0.0
    objectives: tuple[Objective, ...] = ()
    trials: tuple[Trial, ...] = ()
    attempts: Mapping[int, int] = field(default_factory=dict)
    lost: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    tests: Mapping[int, Mapping[int, Measurements]] = field(default_factory=dict)
    epoch: int = 0
    finished: str | None = None
    memory: Mapping[str, Any] | None = None
    forgotten: tuple[str, ...] = ()

    @property
    def referenced(self) -> bool:
        """Whether every objective has its reference value."""
        return all(objective.reference is not None for objective in self.objectives)


def replay(events: Iterable[Event]) -> StudyState:
    """Returns the state after some events.

    Args:
        events: The events from the first on, in their order.

    Returns:
        The state.

    Raises:
        StudyError: An event cannot follow the ones before it.
    """
    return reduce(apply, events, StudyState())


def replay_longest(events: Sequence[Event]) -> tuple[StudyState, int]:
    """Returns the state after as many events as can follow one another, and their number."""
    state = StudyState()
    for number, event in enumerate(events):
        try:
            state = apply(state, event)
        except StudyError:
            return state, number
    return state, len(events)


def apply(state: StudyState, event: Event) -> StudyState:
    """Returns the state after one more event; the rules of a trial's life are all here.

    Args:
        state: The state before.
        event: What happened.

    Returns:
        The state after; the one before is unchanged.

    Raises:
        StudyError: The event cannot happen in this state.
    """
    if (state.created is None) != isinstance(event.payload, Created):
        raise StudyError(
            f"expected exactly one 'created' event, at the beginning; "
            f"got {kind_of(event.payload)!r} {'before' if state.created is None else 'after'} it"
        )
    return _RULES[type(event.payload)](state, event, event.payload)


def _created(state: StudyState, event: Event, payload: Created) -> StudyState:
    return replace(state, created=payload, created_at=event.at, objectives=payload.objectives)


def _opened(state: StudyState, event: Event, payload: Opened) -> StudyState:
    if payload.epoch <= state.epoch:
        raise StudyError(f"expected an epoch after {state.epoch}, got {payload.epoch}")
    return replace(state, epoch=payload.epoch)


def _referenced(state: StudyState, event: Event, payload: Referenced) -> StudyState:
    if state.referenced:
        raise StudyError("the study's reference values are fixed already")
    return replace(state, objectives=payload.objectives)


def _asked(state: StudyState, event: Event, payload: Asked) -> StudyState:
    if event.trial != len(state.trials):
        raise StudyError(f"expected trial {len(state.trials)} to be asked, got {event.trial}")
    trial = Trial(event.trial, payload.arm, payload.plan, origin=payload.origin)
    return replace(state, trials=(*state.trials, trial), finished=None)


def _looked(state: StudyState, event: Event, payload: Looked) -> StudyState:
    return state


def _remembered(state: StudyState, event: Event, payload: Remembered) -> StudyState:
    return replace(state, memory=payload.memory)


def _started(state: StudyState, event: Event, payload: Started) -> StudyState:
    trial = _open_trial(state, event)
    attempt = event.attempt
    first = state.attempts.get(trial.index, -1) + 1
    if attempt is None or attempt < first:
        raise StudyError(f"expected attempt {first} of trial {trial.index}, got {attempt}")
    attempts = MappingProxyType({**state.attempts, trial.index: attempt})
    lost = state.lost
    if payload.after is not None:
        kinds = (*lost.get(trial.index, ()), payload.after.kind)
        lost = MappingProxyType({**lost, trial.index: kinds})
    state = replace(state, attempts=attempts, lost=lost)
    return _with(state, replace(trial, status=TrialStatus.RUNNING))


def _completed(state: StudyState, event: Event, payload: Completed) -> StudyState:
    return _with(
        state,
        replace(
            _open_trial(state, event),
            status=TrialStatus.COMPLETED,
            measurements=MappingProxyType(dict(payload.measurements)),
            duration_s=payload.duration_s,
            pack=payload.pack,
            reused=MappingProxyType(dict(payload.reused)),
        ),
    )


def _failed(state: StudyState, event: Event, payload: Failed) -> StudyState:
    return _with(
        state,
        replace(
            _open_trial(state, event),
            status=TrialStatus.FAILED,
            failure=payload.failure,
            duration_s=payload.duration_s,
        ),
    )


def _abandoned(state: StudyState, event: Event, payload: Abandoned) -> StudyState:
    return _with(state, replace(_open_trial(state, event), status=TrialStatus.ABANDONED))


def _tested(state: StudyState, event: Event, payload: FinalTest) -> StudyState:
    trial = find_trial(state, event.trial)
    if trial.status is not TrialStatus.COMPLETED:
        raise StudyError(f"expected trial {trial.index} to be completed, it is {trial.status}")
    tests = state.tests.get(trial.index, {})
    if payload.seed in tests:
        raise StudyError(f"trial {trial.index} was tested with seed {payload.seed} already")
    of_trial = MappingProxyType({**tests, payload.seed: payload.measurements})
    return replace(state, tests=MappingProxyType({**state.tests, trial.index: of_trial}))


def _finished(state: StudyState, event: Event, payload: Finished) -> StudyState:
    return replace(state, finished=payload.reason)


def _forgotten(state: StudyState, event: Event, payload: Forgotten) -> StudyState:
    return replace(state, forgotten=(*state.forgotten, payload.mark))


_RULES: dict[type[Any], Callable[[StudyState, Event, Any], StudyState]] = {
    Created: _created,
    Opened: _opened,
    Referenced: _referenced,
    Asked: _asked,
    Looked: _looked,
    Remembered: _remembered,
    Started: _started,
    Completed: _completed,
    Failed: _failed,
    Abandoned: _abandoned,
    FinalTest: _tested,
    Finished: _finished,
    Forgotten: _forgotten,
}


def find_trial(state: StudyState, index: int | None) -> Trial:
    """Returns a trial.

    Args:
        state: A study's state.
        index: The trial's index.

    Returns:
        The trial as it stands.

    Raises:
        StudyError: No such trial was asked.
    """
    if not isinstance(index, SupportsIndex) or not 0 <= index < len(state.trials):
        known = f"0 to {len(state.trials) - 1}" if state.trials else "none yet"
        raise StudyError(f"expected a trial that was asked ({known}), got {index}")
    return state.trials[index]


def _open_trial(state: StudyState, event: Event) -> Trial:
    trial = find_trial(state, event.trial)
    if trial.status.terminal:
        raise StudyError(
            f"trial {trial.index} is {trial.status} already; "
            f"its {kind_of(event.payload)!r} event comes too late and changes nothing"
        )
    return trial


def _with(state: StudyState, trial: Trial) -> StudyState:
    trials = state.trials
    return replace(state, trials=(*trials[: trial.index], trial, *trials[trial.index + 1 :]))

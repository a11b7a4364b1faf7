"""Replay: a study's state is its events and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from milp_search.core.arm import Arm
from milp_search.core.errors import StudyError
from milp_search.core.trial import Failure, Measurement, Objective, TrialStatus
from milp_search.study.events import (
    KINDS,
    Abandoned,
    Asked,
    Completed,
    Created,
    Event,
    Failed,
    FinalTest,
    Finished,
    Opened,
    Payload,
    Referenced,
    Started,
    kind_of,
)
from milp_search.study.replay import StudyState, apply, find_trial, replay

OPEN_GOAL = Objective("loss", "minimize")
GOAL = Objective("loss", "minimize", 3.0)
CREATED = Event(Created({}, (OPEN_GOAL,), 0, 1, "random", "default", "milp"), at=5.0)
LOSS = {"loss": Measurement(2.0, 0.1)}


def asked(trial: int) -> Event:
    return Event(Asked(Arm({"lora_rank": trial}), None, "sobol", 0), trial)


def state(*events: Event) -> StudyState:
    return replay([CREATED, *events])


PAYLOADS: list[Payload] = [
    Opened(1, "h", 1),
    Opened(2, "h", 2),
    Referenced((GOAL,)),
    Asked(Arm({"lora_rank": 1}), None, "sobol", 0),
    Asked(Arm({"lora_rank": 2}), None, "sobol", 0),
    Started(),
    Started(Failure("hang", "no beat")),
    Completed(LOSS),
    Failed(Failure("told", "x")),
    Abandoned("stop"),
    FinalTest(0, LOSS),
    Finished("done"),
]

events_in_any_order = st.lists(
    st.builds(Event, st.sampled_from(PAYLOADS), st.integers(0, 3), st.integers(0, 2)), max_size=40
)


@given(events_in_any_order)
def test_a_log_cut_anywhere_replays_to_a_valid_prefix(candidates: list[Event]) -> None:
    log, states = [CREATED], [replay([CREATED])]
    for event in candidates:
        try:
            states.append(apply(states[-1], event))
        except StudyError:
            continue
        log.append(event)
    for length in range(1, len(log) + 1):
        cut = replay(log[:length])
        assert cut == states[length - 1]
        assert [trial.index for trial in cut.trials] == list(range(len(cut.trials)))
    ended: dict[int | None, int] = {}
    for event in log:
        if isinstance(event.payload, (Completed, Failed, Abandoned)):
            ended[event.trial] = ended.get(event.trial, 0) + 1
    assert set(ended.values()) <= {1}
    assert {t.index for t in states[-1].trials if t.status.terminal} == set(ended)


@pytest.mark.parametrize("payload", [CREATED.payload, *PAYLOADS], ids=kind_of)
def test_every_payload_survives_json(payload: Payload) -> None:
    assert KINDS[kind_of(payload)].from_dict(payload.as_dict()) == payload


def test_no_event_is_the_empty_state() -> None:
    assert replay([]) == StudyState()


def test_a_trial_lives_from_asked_to_completed() -> None:
    after = state(asked(0), Event(Started(), 0, 0))
    assert (after.trials[0].status, after.attempts[0]) == (TrialStatus.RUNNING, 0)
    after = apply(after, Event(Completed(LOSS, 1.5), 0, 0))
    assert after.trials[0].status is TrialStatus.COMPLETED
    assert after.trials[0].measurements == LOSS
    assert after.trials[0].duration_s == 1.5


def test_a_trial_may_fail_or_be_abandoned_before_it_starts() -> None:
    after = state(
        asked(0), asked(1), Event(Failed(Failure("told", "x")), 0), Event(Abandoned("y"), 1)
    )
    assert [trial.status for trial in after.trials] == [TrialStatus.FAILED, TrialStatus.ABANDONED]
    assert after.trials[0].failure == Failure("told", "x")


def test_the_reference_is_set_once() -> None:
    after = state(Event(Referenced((GOAL,))))
    assert after.objectives == (GOAL,)
    assert after.referenced
    with pytest.raises(StudyError, match="fixed already"):
        apply(after, Event(Referenced((GOAL,))))


def test_asking_takes_a_finished_study_up_again() -> None:
    after = state(Event(Finished("budget spent")))
    assert after.finished == "budget spent"
    assert apply(after, asked(0)).finished is None


def test_a_study_is_created_once_and_first() -> None:
    with pytest.raises(StudyError, match="'opened' before it"):
        replay([Event(Opened(1, "h", 1))])
    with pytest.raises(StudyError, match="'created' after it"):
        replay([CREATED, CREATED])


def test_epochs_rise() -> None:
    with pytest.raises(StudyError, match="epoch after 2, got 2"):
        state(Event(Opened(2, "h", 1)), Event(Opened(2, "h", 1)))


@pytest.mark.parametrize("trial", [None, 1, -1])
def test_trials_are_asked_in_the_order_of_their_indices(trial: int | None) -> None:
    with pytest.raises(StudyError, match="expected trial 0"):
        state(Event(asked(0).payload, trial))


@pytest.mark.parametrize("attempt", [None, -1, 0])
def test_an_attempt_is_not_started_twice(attempt: int | None) -> None:
    with pytest.raises(StudyError, match="expected attempt 1 of trial 0"):
        state(asked(0), Event(Started(), 0, 0), Event(Started(), 0, attempt))


@pytest.mark.parametrize(
    "late", [Started(), Completed(LOSS), Failed(Failure("told", "x")), Abandoned("x")], ids=kind_of
)
def test_nothing_happens_to_a_trial_after_its_end(late: Payload) -> None:
    with pytest.raises(StudyError, match="completed already"):
        state(asked(0), Event(Completed(LOSS), 0), Event(late, 0, 1))


def test_only_completed_trials_are_tested_and_once_per_seed() -> None:
    with pytest.raises(StudyError, match="to be completed, it is asked"):
        state(asked(0), Event(FinalTest(0, LOSS), 0))
    tested = state(asked(0), Event(Completed(LOSS), 0), Event(FinalTest(0, LOSS), 0))
    assert apply(tested, Event(FinalTest(1, LOSS), 0)).tests == {0: {0: LOSS, 1: LOSS}}
    with pytest.raises(StudyError, match="with seed 0 already"):
        apply(tested, Event(FinalTest(0, LOSS), 0))


@pytest.mark.parametrize(("index", "known"), [(None, "none yet"), (0, "none yet")])
def test_a_trial_that_was_not_asked_is_not_found(index: int | None, known: str) -> None:
    with pytest.raises(StudyError, match=known):
        find_trial(state(), index)


def test_a_trial_beyond_the_last_is_not_found() -> None:
    with pytest.raises(StudyError, match=r"0 to 0\), got 1"):
        find_trial(state(asked(0)), 1)


def test_of_an_earlier_version_an_asked_trial_lists_what_was_seen() -> None:
    now = Asked(Arm({"lora_rank": 8}), None, "random", 0, known=3, pending=(1,)).as_dict()
    earlier = {**now, "seen": [0, 2]}
    del earlier["known"]
    assert Asked.from_dict(earlier) == Asked.from_dict(now)
    assert Asked.from_dict(now).seen == (0, 2)

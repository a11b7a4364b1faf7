"""A study that is interrupted and goes on: what it knows is what is on disk."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from itertools import count

import pytest

from milp_search.search.domain import Domain
from milp_search.study.store import EventStore
from milp_search.study.study import Study
from study.interrupts import interrupt_after, interrupted
from study.making import Make


def test_proposals_that_were_interrupted_are_made_again(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, straight = make(seed=3), make(seed=3)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    for _ in range(3):
        with monkeypatch.context() as patch:
            patch.setattr(Domain, "candidate", interrupt)
            with pytest.raises(KeyboardInterrupt):
                study.ask()
        assert study.ask().arm == straight.ask().arm


def test_a_front_that_was_interrupted_has_each_trial_once(make: Make) -> None:
    told = make()
    for loss, rouge_l in ((2.0, 0.5), (1.0, 0.2), (2.5, 0.4)):
        told.tell(told.ask().index, {"loss": loss, "rouge_l": rouge_l})
    for steps in count(1):
        with Study.open(told.folder, read_only=True) as study:
            came = interrupted(study.front, steps)
            assert [trial.index for trial in study.front()] == [0, 1]
        if not came:
            assert steps > 10
            break


def settled_or_interrupted(steps: int) -> Callable[[EventStore], int]:
    """Returns `EventStore.settled`, itself interrupted where it comes after an interrupt."""
    settled = EventStore.settled

    def settle(store: EventStore) -> int:
        if sys.exc_info()[0] is KeyboardInterrupt:
            interrupt_after(steps)
        return settled(store)

    return settle


@pytest.mark.parametrize("twice", [False, True])
def test_after_an_interrupted_commit_the_study_is_what_is_on_disk(
    make: Make, monkeypatch: pytest.MonkeyPatch, twice: bool
) -> None:
    """A commit is interrupted at each of its steps, and then what finds out whether it is done."""
    study, done = make(), []
    index = study.ask().index
    for steps in count(1):
        attempt = len(study.state.attempts) and 1 + study.state.attempts[index]
        with monkeypatch.context() as patch:
            if twice:
                patch.setattr(EventStore, "settled", settled_or_interrupted(1 + steps % 12))
            came = interrupted(partial(study.start, index, attempt), steps)
        with Study.open(study.folder, read_only=True) as seen:
            assert seen.state == study.state
        if not came:
            break
        done.append(study.attempt(index) == attempt)
    # It is on disk from one step on, and not before.
    assert done == sorted(done)
    assert {False, True} == {*done}
    assert study.attempt(index) == attempt

"""Asking ahead: what proposals know depends on when they were asked for, and on nothing else."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from dispatch.test_source import new_study, outcome, take
from milp_search.core.trial import Trial
from milp_search.dispatch.asking import Asking
from milp_search.dispatch.source import StudySource
from milp_search.dispatch.worker import write_outcome
from milp_search.search.proposal import Memory, Proposal, SpaceExhausted
from milp_search.study.events import Asked
from milp_search.study.spec import StudySpec
from milp_search.study.spec_file import load_study_spec
from milp_search.study.study import Look, Study


def source_of(study: Study, *, look_ahead: bool = True) -> StudySource:
    spec = load_study_spec(study.folder / "study.yaml")
    dispatch = spec.dispatch.model_copy(update={"look_ahead": look_ahead, "pack": 1})
    return StudySource(study, StudySpec.model_copy(spec, update={"dispatch": dispatch, "batch": 1}))


def known(study: Study) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Returns per trial which had ended and which had not when it was asked for."""
    asked = [event.payload for event in study.events()]
    return [(each.seen, each.pending) for each in asked if isinstance(each, Asked)]


@pytest.mark.parametrize(
    ("look_ahead", "expected"),
    [
        (True, [((), ()), ((), (0,)), ((0,), (1,))]),
        (False, [((), ()), ((0,), ()), ((0, 1), ())]),
    ],
)
def test_with_one_trial_at_a_time_a_proposal_knows_all_but_the_trial_that_runs(
    look_ahead: bool, expected: list[tuple[tuple[int, ...], tuple[int, ...]]], tmp_path: Path
) -> None:
    with new_study(tmp_path) as study:
        source = source_of(study, look_ahead=look_ahead)
        for _ in range(3):
            job = take(source)
            source.done(job, outcome(1.0))
        assert known(study) == expected


@pytest.mark.parametrize("written", [True, False])
def test_a_resumed_study_asks_with_what_the_uninterrupted_one_knew(
    written: bool, tmp_path: Path
) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "cut").mkdir()
    with new_study(tmp_path / "whole") as whole:
        source = source_of(whole)
        for _ in range(3):
            source.done(take(source), outcome(1.0))
    with new_study(tmp_path / "cut") as cut:
        source = source_of(cut)
        source.done(take(source), outcome(1.0))
        running = take(source)  # killed while it runs, and with it the ask ahead
        if written:
            write_outcome(cut.folder, running, outcome(1.0))
    with Study.open(tmp_path / "cut") as resumed:
        source = source_of(resumed)
        source.adopt()
        while len(resumed.trials) < 3 or resumed.pending:
            source.done(take(source), outcome(1.0))
        with Study.open(tmp_path / "whole", read_only=True) as whole:
            assert known(resumed) == known(whole)
            assert [trial.arm for trial in resumed.trials] == [t.arm for t in whole.trials]


def test_a_gentle_stop_forgets_no_ask_ahead(tmp_path: Path) -> None:
    with new_study(tmp_path) as study:
        source = source_of(study)
        source.done(take(source), outcome(1.0))
        running = take(source)
        source.stopping = True
        source.done(running, outcome(1.0))  # told, while trial 2 is still being thought about
        source.close()
    with Study.open(tmp_path) as resumed:
        source = source_of(resumed)
        source.adopt()
        assert take(source).trial == 2
        assert known(resumed) == [((), ()), ((), (0,)), ((0,), (1,))]


def test_a_local_run_does_not_look_ahead(tmp_path: Path) -> None:
    with new_study(tmp_path) as study:
        source = source_of(study)
        local = source.spec.dispatch.model_copy(update={"local": True})
        source.spec = source.spec.model_copy(update={"dispatch": local})
        for _ in range(2):
            source.done(take(source), outcome(1.0))
        assert known(study) == [((), ()), ((0,), ())]


class Slow:
    """A proposer that takes a moment and then has nothing left."""

    name = "slow"
    memory: Memory | None = None

    def observe(self, trials: Sequence[Trial], memory: Memory | None = None) -> None:
        pass

    def propose(self, count: int) -> list[Proposal]:
        time.sleep(0.2)
        raise SpaceExhausted("nothing")


def test_what_the_proposer_raises_comes_where_it_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with new_study(tmp_path) as study:
        monkeypatch.setattr(study, "look", lambda ahead: Look(Slow(), (), ()))
        asking = Asking(study)
        asking.begin(1, ahead=True)
        assert asking.under_way
        assert not asking.ready
        with pytest.raises(SpaceExhausted):
            asking.take()
        assert not asking.under_way

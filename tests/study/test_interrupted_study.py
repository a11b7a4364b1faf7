"""A study that is interrupted and goes on: what it knows is what is on disk."""

from __future__ import annotations

from itertools import count

import pytest

from milp_search.search.domain import Domain
from milp_search.study.study import Study
from study.interrupts import interrupted
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

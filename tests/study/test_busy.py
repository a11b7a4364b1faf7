"""How busy workers were."""

from __future__ import annotations

import pytest

from milp_search.study.busy import busy_share
from milp_search.study.events import Completed, Event, Payload, Started


def event(payload: Payload, trial: int, at: float) -> Event:
    return Event(payload, trial, 0, at)


def trial(index: int, start: float, end: float, pack: int = 1) -> list[Event]:
    return [
        event(Started(None), index, start),
        event(Completed({}, end - start, pack, {}), index, end),
    ]


def test_one_worker_that_waits_a_second_between_trials_of_three_is_busy_for_six_of_seven() -> None:
    events = [*trial(0, 0, 100), *trial(1, 100, 103), *trial(2, 104, 107)]
    assert busy_share(events, 1, 1) == pytest.approx(6 / 7)


def test_workers_that_run_side_by_side_share_the_time() -> None:
    events = [*trial(0, 0, 10), *trial(1, 0, 5)]
    assert busy_share(events, 2, 0) == pytest.approx(15 / 20)


def test_trials_of_a_pack_count_as_one() -> None:
    events = [*trial(0, 0, 10, pack=2), *trial(1, 0, 10, pack=2), *trial(2, 10, 20)]
    assert busy_share(events, 1, 0) == pytest.approx(1.0)


def test_what_began_in_the_initial_design_counts_from_where_the_search_begins() -> None:
    events = [*trial(0, 0, 10), *trial(1, 4, 10)]
    assert busy_share(events, 2, 1) == pytest.approx(1.0)


def test_without_a_trial_after_the_initial_design_there_is_no_share() -> None:
    assert busy_share(trial(0, 0, 10), 1, 1) is None
    assert busy_share([], 1, 0) is None

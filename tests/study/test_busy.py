"""How busy workers were."""

from __future__ import annotations

import pytest

from milp_search.study.busy import busy_share
from milp_search.study.events import Completed, Event, Opened, Payload, Started


def event(payload: Payload, trial: int, at: float) -> Event:
    return Event(payload, trial, 0, at)


def trial(index: int, start: float, end: float, pack: int = 1) -> list[Event]:
    return [
        event(Started(None), index, start),
        event(Completed({}, end - start, pack, {}), index, end),
    ]


def in_order(*events: Event) -> list[Event]:
    return sorted(events, key=lambda event: event.at)


def test_one_worker_that_waits_a_second_between_trials_of_three_is_busy_for_six_of_seven() -> None:
    events = [*trial(0, 0, 100), *trial(1, 100, 103), *trial(2, 104, 107)]
    assert busy_share(events, 1, 1) == pytest.approx(6 / 7)


def test_workers_that_run_side_by_side_share_the_time() -> None:
    events = in_order(*trial(0, 0, 10), *trial(1, 0, 5))
    assert busy_share(events, 2, 0) == pytest.approx(15 / 20)


def test_trials_of_a_pack_count_as_one() -> None:
    events = in_order(*trial(0, 0, 10, pack=2), *trial(1, 0, 10, pack=2), *trial(2, 10, 20))
    assert busy_share(events, 1, 0) == pytest.approx(1.0)


def test_what_began_in_the_initial_design_counts_from_where_the_search_begins() -> None:
    events = in_order(*trial(0, 0, 10), *trial(1, 4, 10))
    assert busy_share(events, 2, 1) == pytest.approx(1.0)


def test_without_a_trial_after_the_initial_design_there_is_no_share() -> None:
    assert busy_share(trial(0, 0, 10), 1, 1) is None
    assert busy_share([], 1, 0) is None


def timed(payload: Payload, at: float, elapsed_s: float, trial: int | None = 0) -> Event:
    return Event(payload, trial, 0, at, elapsed_s)


@pytest.mark.parametrize("set_by", [-3600.0, 3600.0])
def test_a_clock_that_is_set_while_a_trial_runs_changes_no_share(set_by: float) -> None:
    events = [
        timed(Started(None), 0.0, 0.0),
        timed(Completed({}, 6.0), 6.0 + set_by, 6.0),
        timed(Started(None), 7.0 + set_by, 7.0, 1),
        timed(Completed({}, 3.0), 10.0 + set_by, 10.0, 1),
    ]
    assert busy_share(events, 1, 0) == pytest.approx(9 / 10)


def test_of_an_earlier_version_a_clock_set_back_counts_as_no_time() -> None:
    events = [*trial(0, 7200, 7206), *trial(1, 3600, 3602)]
    assert busy_share(events, 1, 0) == pytest.approx(1.0)


def test_the_night_between_two_drivers_counts_as_no_time() -> None:
    events = [
        timed(Started(None), 0.0, 1.0),
        timed(Completed({}, 4.0), 4.0, 5.0),
        timed(Opened(2, "here", 7), 30_000.0, 0.0, None),
        timed(Started(None), 30_004.0, 4.0, 1),
        timed(Completed({}, 4.0), 30_008.0, 8.0, 1),
    ]
    assert busy_share(events, 1, 0) == pytest.approx(8 / 12)

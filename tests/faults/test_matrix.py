"""A few cells of the fault matrix, each for real: processes, signals, stores and workers.

The whole of it is in `test_whole_matrix.py`. What is lost, run twice or stuck is told by a ledger
that trials write themselves; final tests count as trials of their own.
"""

from __future__ import annotations

import importlib
import signal
from dataclasses import replace
from typing import Any

import pytest

cell: Any = importlib.import_module("cell")
damage: Any = importlib.import_module("damage")
drivers: Any = importlib.import_module("drivers")
kills: Any = importlib.import_module("kills")
places: Any = importlib.import_module("places")
signals: Any = importlib.import_module("signals")
study_run: Any = importlib.import_module("study_run")
subjects: Any = importlib.import_module("subjects")
verdict: Any = importlib.import_module("verdict")

pytestmark = pytest.mark.slow

SIZE = study_run.Size(trials=6, seconds=0.2)
LOCAL = subjects.SUBJECTS["milp_search_local"]
THROUGH_RAY = subjects.SUBJECTS["milp_search"]


def amount(kills: int = 1) -> Any:
    return cell.Amount(kills=kills, studies=1, size=SIZE, patience_s=200.0)


def troubles(found: Any) -> dict[str, tuple[int, ...]]:
    """Returns what is wrong with a study, by kind."""
    kinds = ("lost", "twice", "stuck", "differing", "failed", "left")
    return {kind: getattr(found, kind) for kind in kinds if getattr(found, kind)}


def test_a_study_whose_driver_is_killed_three_times_is_as_if_it_had_not_been() -> None:
    (found,) = kills.driver_kills(LOCAL, amount(kills=3))
    assert (troubles(found), found.code, found.kills) == ({}, 0, 3)
    assert {*range(6)} <= {*found.shown["completed"]}


def test_a_study_whose_driver_and_worker_are_killed_at_once_loses_nothing() -> None:
    longer = replace(amount(), size=replace(SIZE, seconds=1.0))
    (found,) = kills.kills_of_both(THROUGH_RAY, longer)
    assert (troubles(found), found.code, found.kills) == ({}, 0, 2)


def test_trials_that_fail_each_in_its_way_fail_alone() -> None:
    faults = ("raise@0", "nan@1", "inf@2", "print@3", "oom@4", "raise@5!")
    with study_run.study_run(LOCAL, replace(SIZE, faults=faults)) as run:
        found = verdict.judge(run, run.finish(), kills.undisturbed(LOCAL, SIZE))
    assert troubles(found) == {"failed": (1, 2, 5)}
    assert found.code == 0


@pytest.mark.parametrize(
    ("number", "times", "group", "code"),
    [(signal.SIGINT, 1, True, 130), (signal.SIGTERM, 2, False, 143)],
)
def test_a_stopped_study_says_how_to_go_on_and_does(
    number: signal.Signals, times: int, group: bool, code: int
) -> None:
    inflicted = signals.stopped(number, times=times, group=group)
    (found,) = inflicted(LOCAL, amount())
    assert (troubles(found), found.code) == ({}, code)
    assert found.message == "Stopped. Go on with: milp-search resume DIR"


def test_a_second_driver_is_told_of_the_first_and_refused() -> None:
    (found,) = drivers.second_driver(LOCAL, replace(amount(), size=replace(SIZE, trials=2)))
    assert (troubles(found), found.code) == ({}, 2)
    assert "another driver runs this study: host " in found.message


def test_a_result_that_is_half_there_is_made_anew() -> None:
    (found,) = damage.half_written_result(LOCAL, amount())
    assert (troubles(found), found.code) == ({}, 0)


def test_a_path_of_blanks_and_other_scripts_is_a_path() -> None:
    (found,) = places.odd_path(LOCAL, amount())
    assert (troubles(found), found.code) == ({}, 0)

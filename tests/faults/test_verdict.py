"""What a study is found to have lost, from ledgers and states small enough to check by hand."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

ledger: Any = importlib.import_module("ledger")
study_run: Any = importlib.import_module("study_run")
subjects: Any = importlib.import_module("subjects")
verdict: Any = importlib.import_module("verdict")
fault_table: Any = importlib.import_module("fault_table")
cell: Any = importlib.import_module("cell")

ENDED = study_run.Ending(0, "done\n", 1.0)
NOTHING: dict[str, Any] = {"completed": [], "failed": [], "running": [], "values": {}}


def judged(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    lines: list[tuple[int, str, float]],
    ending: Any = ENDED,
    reference: dict[str, Any] | None = None,
    faults: tuple[str, ...] = (),
    kills: tuple[float, ...] = (),
    **shown: Any,
) -> Any:
    """Returns the verdict on a study of 3 trials with this ledger and this state."""
    size = study_run.Size(trials=3, faults=faults)
    run = study_run.StudyRun(subjects.SUBJECTS["ray_tune"], size, folder, kills=[*kills])
    entries = [ledger.Entry(trial, event, 1, t) for trial, event, t in lines]
    monkeypatch.setattr(run, "entries", lambda: entries)
    monkeypatch.setattr(run, "show", lambda: NOTHING | shown)
    monkeypatch.setattr(run, "tidy", lambda: ([], []))
    return verdict.judge(run, ending, reference)


def ends(*trials: int) -> list[tuple[int, str, float]]:
    return [(trial, "end", float(place)) for place, trial in enumerate(trials)]


def test_a_study_that_has_what_ended_is_clean(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = judged(tmp_path, monkeypatch, ends(0, 1, 2), completed=[0, 1, 2])
    assert found.clean
    assert found.ended == 3


def test_what_ended_and_is_not_completed_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = judged(tmp_path, monkeypatch, ends(0, 1, 2), completed=[0], failed=[1])
    assert (found.lost, found.clean) == ((1, 2), False)


def test_a_trial_that_ended_with_nan_is_not_lost_but_must_not_be_completed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = judged(tmp_path, monkeypatch, ends(0, 1), faults=("nan@1",), completed=[0], failed=[1])
    assert (found.lost, found.failed, found.accepted) == ((), (1,), ())
    taken = judged(tmp_path, monkeypatch, ends(0, 1), faults=("nan@1",), completed=[0, 1])
    assert taken.accepted == (1,)


def test_a_second_end_is_counted_apart_if_the_first_came_just_before_a_kill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [*ends(0, 0), (1, "end", 5.0), (1, "end", 9.0)]
    found = judged(tmp_path, monkeypatch, lines, kills=(5.2,), completed=[0, 1])
    assert (found.twice, found.twice_at_kill, found.kills) == ((0,), (1,), 1)


def test_an_open_trial_is_stuck_and_so_is_one_never_begun_where_the_study_had_to_be_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert judged(tmp_path, monkeypatch, ends(0), completed=[0], running=[1]).stuck == (1,)
    hanging = study_run.Ending(None, "", 300.0)
    found = judged(tmp_path, monkeypatch, ends(0), hanging, completed=[0], running=[1])
    assert (found.stuck, found.code) == ((1, 2), None)


def test_a_value_that_is_not_the_undisturbed_studys_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values, reference = {"0": [1.0], "1": [2.0]}, {"0": [1.0], "1": [3.0]}
    found = judged(tmp_path, monkeypatch, ends(0, 1), ENDED, reference, values=values)
    assert found.differing == (1,)


def test_a_cell_shows_its_counts_and_stresses_what_is_wrong() -> None:
    verdicts = [
        verdict.Verdict(3, 3, kills=2),
        verdict.Verdict(3, 2, lost=(1,), twice_at_kill=(0,), failed=(2,), code=1, kills=1),
    ]
    figures = cell.Figures.of(verdicts, kills=3).as_dict()
    assert fault_table.cell_text(figures) == (
        "**1 lost**, 0 +1 twice, 0 stuck, 1 failed of 5, 3 kills in 2 studies; exit 1 x 0, 1 x 1"
    )


def test_damage_shows_what_was_served_wrong() -> None:
    figures = {"samples": 12, "whole": 4, "refused": 7, "wrong": 1, "message": ""}
    assert fault_table.cell_text(figures) == "4 whole, 7 refused, **1 wrong** of 12"

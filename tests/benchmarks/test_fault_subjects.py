"""The peers' side of the fault benchmark: each subject runs a study to its end and shows it."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

FOLDER = Path(__file__).parents[2] / "benchmarks" / "faults"
SUBJECTS = {
    "optuna_rdb": ("optuna_study.py", "--storage", "rdb"),
    "optuna_journal": ("optuna_study.py", "--storage", "journal"),
    "tune": ("tune_study.py",),
}
TRIALS = 3


def answer(name: str, folder: Path, *arguments: str) -> str:
    """Returns what a subject prints; it must end well."""
    if name.startswith("optuna") and importlib.util.find_spec("optuna") is None:
        pytest.skip("needs the extra `peers`: optuna is not installed")
    script, *options = SUBJECTS[name]
    command = [sys.executable, str(FOLDER / script), *options, "--folder", str(folder), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    return done.stdout


def run(name: str, folder: Path, *arguments: str) -> None:
    """Runs a study of three short trials, or goes on with it."""
    ledger = str(folder.parent / "ledger")
    study = ("--ledger", ledger, "--trials", str(TRIALS), "--seconds", "0.05", "--parallel", "1")
    answer(name, folder, *study, *arguments)


def shown(name: str, folder: Path) -> dict[str, Any]:
    """Returns the state that a subject tells."""
    state: dict[str, Any] = json.loads(answer(name, folder, "--show"))
    return state


def entries(folder: Path) -> list[tuple[int, str]]:
    """Returns the trials and events of the ledger beside a study."""
    lines = (folder.parent / "ledger").read_text(encoding="utf-8").splitlines()
    return [(one["trial"], one["event"]) for one in map(json.loads, filter(None, lines))]


def beaten(trial: int, values: dict[int, tuple[float, ...]]) -> bool:
    """Returns whether another trial is as good in both values and better in one."""
    return any(
        all(a <= b for a, b in zip(other, values[trial], strict=True)) and other != values[trial]
        for other in values.values()
    )


@pytest.mark.parametrize("name", SUBJECTS)
def test_a_study_comes_to_its_end_once(name: str, tmp_path: Path) -> None:
    run(name, tmp_path / "study")
    state = shown(name, tmp_path / "study")
    assert [(i, e) for i in range(TRIALS) for e in ("begin", "end")] == entries(tmp_path / "study")
    assert (state["completed"], state["failed"], state["running"]) == ([0, 1, 2], [], [])
    values = {int(trial): tuple(pair) for trial, pair in state["values"].items()}
    assert state["best"] == min(values, key=lambda trial: values[trial][0])
    assert state["front"] == [one for one in range(TRIALS) if not beaten(one, values)]


def test_a_finished_optuna_study_runs_nothing_more(tmp_path: Path) -> None:
    for _ in range(2):
        run("optuna_journal", tmp_path / "study")
    assert len(entries(tmp_path / "study")) == 2 * TRIALS


def test_a_trial_of_optuna_that_raises_is_failed_and_replaced(tmp_path: Path) -> None:
    run("optuna_journal", tmp_path / "study", "--fault", "raise@1")
    state = shown("optuna_journal", tmp_path / "study")
    assert (state["completed"], state["failed"]) == ([0, 2, 3], [1])

"""The whole fault matrix, ours: MILP_SOAK=1, about two hours."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

cell: Any = importlib.import_module("cell")
matrix: Any = importlib.import_module("matrix")
subjects: Any = importlib.import_module("subjects")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(7200)]

CELLS = [
    (fault, subject)
    for fault in matrix.FAULTS.values()
    for subject in (subjects.SUBJECTS["milp_search"], subjects.SUBJECTS["milp_search_local"])
    if fault.applies(subject)
]


@pytest.mark.parametrize(
    ("fault", "subject"), CELLS, ids=[f"{fault.name}-{subject.name}" for fault, subject in CELLS]
)
def test_nothing_is_lost_run_twice_or_stuck(fault: Any, subject: Any) -> None:
    figures = fault.figures(subject, cell.Amount(kills=50, studies=10))
    wrong = {
        kind: figures[kind]
        for kind in ("lost", "twice", "stuck", "differing", "wrong")
        if figures.get(kind)
    }
    assert wrong == {}, figures

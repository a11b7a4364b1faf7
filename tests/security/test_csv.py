"""No cell of a table that we write is a formula to a spreadsheet; numbers stay numbers."""

from __future__ import annotations

import csv
from io import StringIO
from pathlib import Path

import pytest

from milp_search.core.trial import Objective
from milp_search.space.search_space import SearchSpace, configure
from milp_search.study.export import csv_cell, trials_csv
from milp_search.study.result_table import Cell, Column, Line, ResultTable, table_csv
from milp_search.study.study import Study

STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def cells(text: str) -> list[str]:
    return [cell for row in csv.reader(StringIO(text, newline="")) for cell in row]


@pytest.mark.parametrize("start", STARTS)
def test_a_metric_a_failure_and_a_label_are_no_formulas(start: str, tmp_path: Path) -> None:
    text = f'{start}cmd|" /C calc"!A0,2'
    layers = SearchSpace("s", 2, configure({"lora_rank": [1, 2]}, 2))
    goal = Objective(text, "minimize", 1.0)
    with Study.create(
        tmp_path / "study", space=layers, objectives=[goal], proposer="random", initial_trials=1
    ) as study:
        study.tell(study.ask().index, {text: -0.5})
        study.fail(study.ask().index, text, "exception")
        written = cells(trials_csv(study))
    assert f"'{text}" in written
    assert "-0.5" in written
    assert [cell for cell in written if cell.startswith(STARTS) and cell != "-0.5"] == []
    table = ResultTable(
        "t", text, text, (Column(text, text),), (Line(text, (Cell((-1.5, 2.0)),)),), ranked=True
    )
    written = cells(table_csv(table))
    assert written.count(f"'{text}") == 4
    assert [cell for cell in written if cell.startswith(STARTS)] == []


@pytest.mark.parametrize("number", [-1, -0.5, 1e-300, -2.5e10, 0])
def test_a_number_is_not_quoted_and_reads_back(number: float) -> None:
    assert float(csv_cell(number)) == number

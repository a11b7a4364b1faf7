"""The page of a table: escaped, the best of each column marked, charts of finite numbers."""

from __future__ import annotations

import json

import pytest

from milp_search.study.result_charts import dot_chart, heat_map, line_chart
from milp_search.study.result_table import Cell, Column, Line, ResultTable
from milp_search.study.table_page import ResultFigure, render_tables
from study.test_study_report import NASTY, Page

TABLE = ResultTable(
    "t",
    "A title",
    NASTY,
    (Column("one", "loss", "minimize"), Column("two", "loss", "minimize"), Column("", "size")),
    (
        Line("a", (Cell((1.0, 3.0), 0.5), Cell((1.0,)), Cell((7.0,)))),
        Line(NASTY, (Cell((3.0,)), Cell(), Cell((9.0,)))),
    ),
    ranked=True,
)


def page(*figures: ResultFigure) -> Page:
    return Page(render_tables(NASTY, [TABLE], figures, [("part", NASTY)]))


def test_nothing_that_is_shown_becomes_markup() -> None:
    chart = ResultFigure(NASTY, NASTY, dot_chart(TABLE, "loss"))
    shown = page(chart)
    assert "img" not in {tag for tag, _ in shown.tags}
    kinds = [attributes.get("type") for tag, attributes in shown.tags if tag == "script"]
    assert kinds == ["application/json", None, None]
    assert NASTY in "".join(shown.text)


def test_only_the_best_of_each_column_with_a_direction_is_marked() -> None:
    best = [tag for tag, attributes in page().tags if attributes.get("class") == "value best"]
    assert len(best) == 2


def test_the_papers_column_stands_where_the_paper_has_numbers() -> None:
    headings = [text for text in page().text if text == "paper"]
    assert len(headings) == 1


def test_what_nothing_was_measured_for_has_no_heading_of_how() -> None:
    bare = Page(render_tables("t", [TABLE], [], []))
    assert "How it was measured" in page().text
    assert "How it was measured" not in bare.text


def test_dots_are_the_means_with_their_spread() -> None:
    (dots,) = dot_chart(TABLE, "loss")["data"]
    assert dots["y"] == [2.0, 3.0]
    assert dots["error_y"]["array"] == [pytest.approx(2**0.5), 0.0]


def test_lines_run_over_the_columns_of_a_metric_and_leave_gaps_out() -> None:
    first, second = line_chart(TABLE, "users", [4, 8], "loss")["data"]
    assert (first["x"], first["y"]) == ([4, 8], [2.0, 1.0])
    assert (second["x"], second["y"]) == ([4], [3.0])


def test_a_heat_map_has_its_first_row_on_top() -> None:
    (grid,) = heat_map(["T1", "T2"], [[1.0, 0.2], [0.2, 1.0]], "cosine")["data"]
    assert grid["y"] == ["T2", "T1"]
    assert grid["z"] == [[0.2, 1.0], [1.0, 0.2]]


def test_charts_are_json() -> None:
    for chart in (dot_chart(TABLE, "loss"), line_chart(TABLE, "users", [4, 8], "loss")):
        json.dumps(chart, allow_nan=False)

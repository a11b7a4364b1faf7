"""Tables of results: spread over seeds, average ranks, Markdown and CSV."""

from __future__ import annotations

import csv
import io
import json
import math

import pytest

from milp_search.study.result_table import (
    Cell,
    Column,
    Line,
    ResultTable,
    markdown,
    paper_text,
    table_csv,
    value_text,
)

COLUMNS = (Column("news", "accuracy", "maximize"), Column("news", "loss", "minimize"))


def table(*lines: Line, columns: tuple[Column, ...] = COLUMNS, ranked: bool = True) -> ResultTable:
    return ResultTable("t", "A title", "A note.", columns, lines, ranked)


def line(label: str, *means: float) -> Line:
    return Line(label, tuple(Cell((mean,)) for mean in means))


def test_a_cell_has_mean_and_sample_deviation_over_its_seeds() -> None:
    cell = Cell((1.0, 2.0, 6.0))
    assert cell.mean == 3.0
    assert cell.spread == pytest.approx(math.sqrt((4 + 1 + 9) / 2))
    assert (Cell((2.0,)).spread, Cell().mean, Cell().spread) == (None, None, None)


def test_the_average_rank_heeds_what_is_better_in_each_column() -> None:
    # Accuracy ranks 1 2 3, loss ranks 2 1 3.
    shown = table(line("a", 0.9, 2.0), line("b", 0.8, 1.0), line("c", 0.7, 3.0))
    assert shown.average_ranks() == [1.5, 1.5, 3.0]


def test_ties_share_the_mean_of_their_ranks() -> None:
    shown = table(line("a", 0.9, 1.0), line("b", 0.9, 1.0), line("c", 0.7, 2.0))
    assert shown.average_ranks() == [1.5, 1.5, 3.0]


def test_a_row_that_lacks_a_value_has_no_rank_and_does_not_count_for_the_others() -> None:
    lacking = Line("b", (Cell((0.99,)), Cell()))
    assert table(line("a", 0.9, 2.0), lacking).average_ranks() == [1.0, None]


def test_columns_that_are_not_ranked_or_have_no_direction_do_not_count() -> None:
    columns = (COLUMNS[0], Column("", "loss", "minimize", ranked=False), Column("", "size"))
    shown = table(line("a", 0.9, 5.0, 9.0), line("b", 0.8, 1.0, 1.0), columns=columns)
    assert shown.average_ranks() == [1.0, 2.0]


def test_without_ranked_columns_there_is_no_rank() -> None:
    assert table(line("a", 1.0), columns=(Column("", "size"),)).average_ranks() == [None]


def test_markdown_shows_spread_paper_and_rank() -> None:
    shown = table(
        Line("a", (Cell((0.25, 0.75), 0.791), Cell((1.5,)))),
        Line("b", (Cell(), Cell((2.0,)))),
    )
    assert markdown(shown).splitlines()[4:] == [
        "| row | news: accuracy ↑ | paper | news: loss ↓ | average rank |",
        "| --- | --- | --- | --- | --- |",
        "| a | 0.5 ± 0.35 | 0.791 | 1.5 | 1.0 |",
        "| b | \N{EN DASH} |  | 2 | \N{EN DASH} |",
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.25, "0.25"), (-0.0, "0"), (12.0, "12"), (12345.6, "12,346"), (43.17e6, "43,170,000"),
        (999.96, "1,000"), (1.5e-7, "1.5e-07"), (1e300, "1e+300"),
    ],
)  # fmt: skip
def test_ours_and_the_papers_numbers_are_written_alike(value: float, text: str) -> None:
    cell = Cell((value,), value)
    assert (value_text(cell), paper_text(cell)) == (text, text)


def test_markdown_keeps_labels_within_their_cells() -> None:
    text = markdown(table(line("a|b\n<script>", 1.0, 1.0), ranked=False))
    assert "| a\\|b &lt;script> | 1 | 1 |" in text


def test_csv_has_every_value_in_full_precision() -> None:
    shown = table(Line("=a", (Cell((0.1, 0.2), 0.3), Cell((1 / 3,)))))
    rows = [*csv.DictReader(io.StringIO(table_csv(shown)))]
    assert [row["metric"] for row in rows] == ["accuracy", "loss", "average_rank"]
    assert rows[0]["row"] == "'=a"
    assert json.loads(rows[0]["values"]) == [0.1, 0.2]
    assert (float(rows[1]["mean"]), rows[1]["std"], rows[1]["paper"]) == (1 / 3, "", "")
    assert float(rows[0]["paper"]) == 0.3


def test_negative_values_can_be_read_from_csv_as_others_can() -> None:
    shown = table(Line("a", (Cell((-0.25, -0.5)), Cell())), ranked=False)
    first, second = csv.DictReader(io.StringIO(table_csv(shown)))
    assert (first["mean"], json.loads(first["values"])) == ("-0.375", [-0.25, -0.5])
    assert (second["mean"], json.loads(second["values"])) == ("", [])

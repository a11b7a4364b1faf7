"""Tables of results, with their figures, as one HTML page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from milp_search.study.page import embedded, render_page
from milp_search.study.result_table import ResultTable, paper_text, rank_text, value_text


@dataclass(frozen=True)
class ResultFigure:
    """A chart beside the tables.

    Attributes:
        title: What it shows.
        note: How to read it.
        chart: A plain Plotly figure, in the manner of `charts`.
    """

    title: str
    note: str
    chart: dict[str, Any]


def render_tables(
    title: str,
    tables: Sequence[ResultTable],
    figures: Sequence[ResultFigure],
    facts: Sequence[tuple[str, str]],
) -> str:
    """Returns the page; it opens offline, loads nothing and runs no script but its own.

    Args:
        title: The page's.
        tables: In the order shown.
        figures: They come before the tables.
        facts: How it was measured: label and value.

    Returns:
        The page's text.
    """
    return render_page(
        "table.html",
        name=title,
        tables=[_shown(table) for table in tables],
        figures=[
            {"title": one.title, "note": one.note, "embedded": embedded(one.chart)}
            for one in figures
        ],
        facts=facts,
    )


def _shown(table: ResultTable) -> dict[str, Any]:
    """Returns a table as the template takes it."""
    papers = [table.has_paper(place) for place in range(len(table.columns))]
    best = [_best(table, place) for place in range(len(table.columns))]
    spans = zip((column.group for column in table.columns), papers, strict=True)
    return {
        "title": table.title,
        "note": table.note,
        "ranked": table.ranked,
        "groups": [
            (name, sum(1 + paper for _, paper in members))
            for name, members in groupby(spans, key=lambda pair: pair[0])
        ],
        "headings": [
            (column.heading, paper) for column, paper in zip(table.columns, papers, strict=True)
        ],
        "rows": [
            {
                "label": line.label,
                "rank": rank_text(rank),
                "cells": [
                    (value_text(cell), paper_text(cell), cell.mean == top, shown)
                    for cell, top, shown in zip(line.cells, best, papers, strict=True)
                ],
            }
            for line, rank in zip(table.lines, table.average_ranks(), strict=True)
        ],
    }


def _best(table: ResultTable, place: int) -> float | str:
    """Returns the best mean of a column, or what equals none where nothing is better."""
    means = [mean for line in table.lines if (mean := line.cells[place].mean) is not None]
    direction = table.columns[place].direction
    if direction is None or not means:
        return ""
    return min(means) if direction == "minimize" else max(means)

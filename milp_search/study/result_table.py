"""A table of results: rows by columns, each cell with a value per seed and the paper's number."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from io import StringIO
from statistics import fmean, stdev

from milp_search.core.trial import Direction
from milp_search.study.export import csv_cell
from milp_search.study.number_text import number_text

_ARROWS = {"minimize": "\N{DOWNWARDS ARROW}", "maximize": "\N{UPWARDS ARROW}"}
_UNKNOWN = "\N{EN DASH}"


@dataclass(frozen=True)
class Column:
    """One number of every row.

    Attributes:
        group: The study it is from, the data set's name as a rule; empty where there is but one.
        name: The metric, or another quantity.
        direction: What is better; None for a quantity that is neither.
        ranked: Whether it counts in the average rank, if it has a direction.
    """

    group: str
    name: str
    direction: Direction | None = None
    ranked: bool = True

    @property
    def heading(self) -> str:
        """The name with an arrow towards what is better."""
        return f"{self.name} {_ARROWS[self.direction]}" if self.direction else self.name


@dataclass(frozen=True)
class Cell:
    """What one row measures.

    Attributes:
        values: One per seed; none where nothing was measured.
        paper: The paper's own number, from other hardware and data; None where it has none.
    """

    values: tuple[float, ...] = ()
    paper: float | None = None

    @property
    def mean(self) -> float | None:
        """The mean over the seeds, None without values."""
        return fmean(self.values) if self.values else None

    @property
    def spread(self) -> float | None:
        """The standard deviation over the seeds (n - 1), None with fewer than two."""
        return stdev(self.values) if len(self.values) > 1 else None


@dataclass(frozen=True)
class Line:
    """A row of the table: a label and a cell per column."""

    label: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class ResultTable:
    """Results in the layout of a paper's table.

    Attributes:
        name: A short name, fit for a file.
        title: What the table shows.
        note: How to read it.
        columns: What each row measures.
        lines: The rows.
        ranked: Whether rows have an average rank.
    """

    name: str
    title: str
    note: str
    columns: tuple[Column, ...]
    lines: tuple[Line, ...]
    ranked: bool = False

    def average_ranks(self) -> list[float | None]:
        """Returns each row's rank among all, averaged over the columns that count.

        The best row of a column has rank 1, ties share the mean of their ranks. A row that lacks
        a value of such a column has none, and the others are ranked without it.

        Source: LoGo, Table 1 (A.R.).
        """
        counted = [column.ranked and column.direction is not None for column in self.columns]
        places = [place for place, counts in enumerate(counted) if counts]
        whole = [line for line in self.lines if all(line.cells[p].mean is not None for p in places)]
        if not places or not whole:
            return [None] * len(self.lines)
        by_column = [
            _ranks([_cost(line, place, self.columns) for line in whole]) for place in places
        ]
        found = {
            line.label: fmean(row)
            for line, row in zip(whole, zip(*by_column, strict=True), strict=True)
        }
        return [found.get(line.label) for line in self.lines]

    def has_paper(self, place: int) -> bool:
        """Returns whether the paper has numbers for this column."""
        return any(line.cells[place].paper is not None for line in self.lines)


def markdown(table: ResultTable) -> str:
    """Returns the table as Markdown: mean ± standard deviation over seeds."""
    header, rows = ["row"], [[_text(line.label)] for line in table.lines]
    for place, column in enumerate(table.columns):
        group = f"{column.group}: " if column.group else ""
        header.append(_text(group + column.heading))
        for row, line in zip(rows, table.lines, strict=True):
            row.append(value_text(line.cells[place]))
        if table.has_paper(place):
            header.append("paper")
            for row, line in zip(rows, table.lines, strict=True):
                row.append(paper_text(line.cells[place]))
    if table.ranked:
        header.append("average rank")
        for row, rank in zip(rows, table.average_ranks(), strict=True):
            row.append(rank_text(rank))
    lines = [header, ["---"] * len(header), *rows]
    body = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"## {_text(table.title)}\n\n{_text(table.note)}\n\n{body}\n"


def table_csv(table: ResultTable) -> str:
    """Returns a line per row and column: mean, deviation, number of seeds, paper, every value.

    The values are a JSON list, which is no formula to a spreadsheet, whatever it begins with.
    """
    text = StringIO()
    out = csv.writer(text, lineterminator="\n")
    header = ["row", "group", "metric", "direction", "mean", "std", "seeds", "paper", "values"]
    out.writerow(header)
    for line in table.lines:
        for column, cell in zip(table.columns, line.cells, strict=True):
            row = [line.label, column.group, column.name, column.direction, cell.mean, cell.spread]
            row += [len(cell.values), cell.paper, json.dumps(cell.values)]
            out.writerow(map(csv_cell, row))
    for line, rank in zip(table.lines, table.average_ranks() if table.ranked else [], strict=False):
        row = [line.label, None, "average_rank", "minimize", rank, None, None, None, None]
        out.writerow(map(csv_cell, row))
    return text.getvalue()


def value_text(cell: Cell) -> str:
    """Returns a cell's mean and spread as people read them."""
    if cell.mean is None:
        return _UNKNOWN
    spread = "" if cell.spread is None else f" ± {cell.spread:.2g}"
    return f"{number_text(cell.mean, zeros=False)}{spread}"


def paper_text(cell: Cell) -> str:
    """Returns the paper's number, empty where it has none."""
    return "" if cell.paper is None else number_text(cell.paper, zeros=False)


def rank_text(rank: float | None) -> str:
    """Returns an average rank with one digit after the point."""
    return _UNKNOWN if rank is None else f"{rank:.1f}"


def _text(text: str) -> str:
    """Returns a text that stays within its cell."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def _cost(line: Line, place: int, columns: Sequence[Column]) -> float:
    mean = line.cells[place].mean
    assert mean is not None  # asked for rows that have all values
    return -mean if columns[place].direction == "maximize" else mean


def _ranks(costs: Sequence[float]) -> list[float]:
    """Returns the ranks from 1 on, smallest first; equal ones share their mean."""
    return [
        1 + sum(other < cost for other in costs) + (sum(other == cost for other in costs) - 1) / 2
        for cost in costs
    ]

"""Charts of results, as plain Plotly figures in the manner of `charts`."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

from milp_search.study.result_table import Cell, ResultTable

Figure = dict[str, Any]

# Distinguishable in order; what is beyond shares the last.
_COLOURS = ("@accent", "@ink", "@contrast-soft", "@muted", "@accent-soft")
_DASHES = ("solid", "dot", "dash", "dashdot", "longdash")


def line_chart(table: ResultTable, x_title: str, x: Sequence[float], metric: str) -> Figure:
    """Returns a line per row of the table over its columns of one metric.

    Args:
        table: Its columns of this metric stand for the values of x, in order.
        x_title: What x is.
        x: The values.
        metric: The metric.

    Returns:
        The figure; bars are standard deviations over seeds.
    """
    places = [place for place, column in enumerate(table.columns) if column.name == metric]
    traces = []
    for number, line in enumerate(table.lines):
        points = [
            (value, line.cells[place])
            for value, place in zip(x, places, strict=True)
            if line.cells[place].values
        ]
        style = {
            "color": _COLOURS[min(number, len(_COLOURS) - 1)],
            "width": 2.2,
            "dash": _DASHES[number % len(_DASHES)],
        }
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": html.escape(line.label),
                "x": [value for value, _ in points],
                "y": [cell.mean for _, cell in points],
                "error_y": _bars([cell for _, cell in points]),
                "line": style,
                "marker": {"color": style["color"], "size": 7},
            }
        )
    heading = table.columns[places[0]].heading
    return {"data": traces, "layout": _layout(_axis(x_title), _axis(heading), legend=True)}


def dot_chart(table: ResultTable, metric: str) -> Figure:
    """Returns a dot per row of the table for one metric, with its spread over seeds.

    Dots, since the axis need not begin at zero.
    """
    place = next(n for n, column in enumerate(table.columns) if column.name == metric)
    lines = [line for line in table.lines if line.cells[place].values]
    dots = {
        "type": "scatter",
        "mode": "markers",
        "x": [html.escape(line.label) for line in lines],
        "y": [line.cells[place].mean for line in lines],
        "error_y": _bars([line.cells[place] for line in lines]),
        "marker": {"color": "@accent", "size": 11},
        "hovertemplate": "%{x}: %{y:.4g}<extra></extra>",
    }
    category = {**_axis(""), "type": "category"}
    y = _axis(table.columns[place].heading)
    return {"data": [dots], "layout": _layout(category, y, legend=False)}


def heat_map(labels: Sequence[str], values: Sequence[Sequence[float]], colour: str) -> Figure:
    """Returns a square of values between the same things, the first on top left.

    Args:
        labels: What the things are called.
        values: A row for each.
        colour: What the values are.

    Returns:
        The figure.
    """
    names = [html.escape(label) for label in labels]
    grid = {
        "type": "heatmap",
        "z": [list(row) for row in reversed(values)],
        "x": names,
        "y": names[::-1],
        "text": [[f"{value:.3f}" for value in row] for row in reversed(values)],
        "texttemplate": "%{text}",
        "colorscale": [[0, "@tile"], [1, "@accent-soft"]],
        "colorbar": {"title": {"text": html.escape(colour), "side": "right"}, "thickness": 10},
        "textfont": {"color": "@ink"},
        "xgap": 3,
        "ygap": 3,
    }
    side = {"type": "category", "showgrid": False, "ticks": "", "automargin": True}
    layout = {"xaxis": side, "yaxis": side, "height": 110 + 44 * len(names)}
    return {"data": [grid], "layout": layout}


def _bars(cells: Sequence[Cell]) -> Figure:
    spreads = [cell.spread or 0.0 for cell in cells]
    return {
        "type": "data",
        "array": spreads,
        "visible": any(spreads),
        "color": "@muted",
        "thickness": 1.2,
        "width": 4,
    }


def _axis(title: str) -> Figure:
    return {"title": {"text": html.escape(title), "standoff": 14}, "automargin": True}


def _layout(x: Figure, y: Figure, *, legend: bool) -> Figure:
    return {"xaxis": x, "yaxis": y, "height": 400, "showlegend": legend}

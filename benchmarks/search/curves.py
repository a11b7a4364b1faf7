"""Hypervolume over trials as small plots, in plain SVG."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any
from xml.sax.saxutils import escape

from methods import PEERS
from ours import OURS
from single_run import PROBLEMS

_WIDTH, _HEIGHT, _GAP, _COLUMNS, _TOP = 260, 190, 50, 3, 40
_COLOURS = (
    "#8c8c8c", "#bcbd22", "#1f77b4", "#17becf", "#2ca02c", "#9467bd", "#8c564b", "#e377c2",
    "#ff7f0e",
)  # fmt: skip
_OURS = "#d62728"


def curves(runs: Sequence[dict[str, Any]]) -> str:
    """Returns a plot per problem: mean share of the best hypervolume after each trial."""
    problems = [one for one in PROBLEMS if any(run["problem"] == one for run in runs)]
    names = {next(iter(OURS)): _OURS} | dict(zip(PEERS, _COLOURS, strict=True))
    rows = -(-len(problems) // _COLUMNS)
    width = _GAP + _COLUMNS * (_WIDTH + _GAP)
    height = _TOP + rows * (_HEIGHT + _GAP) + 20 * (1 + len(names) // 5)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        'font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
        _text(_GAP, 20, "Share of the best known hypervolume over trials, mean over seeds"),
    ]
    for place, problem in enumerate(problems):
        left = _GAP + (place % _COLUMNS) * (_WIDTH + _GAP)
        top = _TOP + (place // _COLUMNS) * (_HEIGHT + _GAP)
        found = {name: _mean(runs, problem, name) for name in names}
        lines += _panel(problem, left, top, {k: v for k, v in found.items() if v}, names)
    for place, (name, colour) in enumerate(names.items()):
        x = _GAP + (place % 5) * 180
        y = _TOP + rows * (_HEIGHT + _GAP) + 20 * (place // 5)
        lines.append(
            f'<rect x="{x}" y="{y - 9}" width="14" height="4" fill="{colour}"/>'
            + _text(x + 20, y, name)
        )
    return "\n".join([*lines, "</svg>"]) + "\n"


def _mean(runs: Sequence[dict[str, Any]], problem: str, name: str) -> list[float]:
    mine = [run["shares"] for run in runs if (run["problem"], run["method"]) == (problem, name)]
    return [statistics.fmean(column) for column in zip(*mine, strict=False)]


def _panel(
    problem: str, left: float, top: float, found: dict[str, list[float]], names: dict[str, str]
) -> list[str]:
    trials = max(map(len, found.values()), default=1)
    low = min((values[min(19, len(values) - 1)] for values in found.values()), default=0.0)
    low = min(low, 0.9)

    def x(trial: int) -> float:
        return left + _WIDTH * trial / trials

    def y(share: float) -> float:
        return top + _HEIGHT * (1.0 - (max(share, low) - low) / (1.0 - low))

    lines = [
        f'<rect x="{left}" y="{top}" width="{_WIDTH}" height="{_HEIGHT}" fill="none" '
        'stroke="#ccc"/>',
        _text(left, top - 6, problem),
        _text(left - 30, top + 10, "1.00"),
        _text(left - 30, top + _HEIGHT, f"{low:.2f}"),
        *(_text(x(count) - 8, top + _HEIGHT + 16, str(count)) for count in (20, 40, 60, 80, 100)),
    ]
    # Ours last, on top.
    for name in sorted(found, key=lambda one: names[one] == _OURS):
        points = " ".join(f"{x(t + 1):.1f},{y(v):.1f}" for t, v in enumerate(found[name]))
        thick = 2.5 if names[name] == _OURS else 1.2
        lines.append(
            f'<polyline points="{points}" fill="none" stroke="{names[name]}" '
            f'stroke-width="{thick}"/>'
        )
    return lines


def _text(x: float, y: float, text: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>'

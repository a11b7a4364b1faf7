"""The speed-ups as bars, in plain SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from xml.sax.saxutils import escape

from table import study_speed_up, target
from timing import speed_up

_LABELS, _BARS, _LINE = 300, 420, 20
_COLOURS = {"cold": "#9ecae1", "warm": "#3182bd", "other": "#31a354"}


@dataclass(frozen=True)
class Bar:
    """One bar: what it says, how long it is, and the target if there is one."""

    label: str
    value: float
    colour: str
    target: float | None


def bars(parts: dict[str, dict[str, Any]]) -> list[Bar]:
    """Returns a bar per speed-up that was measured."""
    found = []
    for row in _rows(parts, "masks"):
        state = row["state"]
        aim = target(row["mask"], row["setting"]) if state == "warm" else None
        value = speed_up(row["plain_s"], row["packed_s"])[0]
        found.append(Bar(_label(row, f"trial, {row['mask']}, {state}"), value, state, aim))
    for row in _rows(parts, "generation"):
        text = f"generation, {row['mask']}, {row['plans']} plan(s)"
        value = speed_up(row["plain_s"], row["packed_s"])[0]
        found.append(Bar(_label(row, text), value, "other", target("generation", row["setting"])))
    studies = _rows(parts, "study")
    for row in studies:
        if row["way"] == "packed":
            text = f"study{', through Ray' if row['parallel'] else ''} ({row['proposals']})"
            aim = target("study", row["setting"])
            found.append(Bar(_label(row, text), study_speed_up(studies, row), "other", aim))
    return found


def svg(shown: Sequence[Bar]) -> str:
    """Returns the bars as a picture; a tick marks a target, the line is plain PEFT."""
    height = _LINE * (len(shown) + 3)
    widest = max([1.0, *(max(bar.value, bar.target or 0.0) for bar in shown)])
    scale = _BARS / widest
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_LABELS + _BARS + 80}" '
        f'height="{height}" font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
        _text(10, _LINE, "Times faster than plain PEFT (line: 1x; black ticks: targets)"),
    ]
    for place, bar in enumerate(shown):
        y = _LINE * (place + 2)
        lines += [
            _text(10, y, bar.label),
            f'<rect x="{_LABELS}" y="{y - 11}" width="{bar.value * scale:.1f}" height="14" '
            f'fill="{_COLOURS[bar.colour]}"/>',
            _text(_LABELS + max(bar.value, bar.target or 0) * scale + 6, y, f"{bar.value:.2f}"),
        ]
        if bar.target is not None:
            lines.append(_tick(_LABELS + bar.target * scale, y - 13, y + 5, "black"))
    lines += [_tick(_LABELS + scale, _LINE * 1.3, height - _LINE, "#888"), "</svg>"]
    return "\n".join(lines) + "\n"


def _rows(parts: dict[str, dict[str, Any]], name: str) -> list[dict[str, Any]]:
    return parts[name]["rows"] if name in parts else []


def _label(row: dict[str, Any], text: str) -> str:
    return text if row["setting"] == "quick start" else f"{row['setting']}: {text}"


def _text(x: float, y: float, text: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>'


def _tick(x: float, top: float, bottom: float, colour: str) -> str:
    return (
        f'<line x1="{x:.1f}" y1="{top:.1f}" x2="{x:.1f}" y2="{bottom:.1f}" '
        f'stroke="{colour}" stroke-width="2"/>'
    )

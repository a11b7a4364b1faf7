"""Small data files for the tests of this folder."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

HEADLINE = "Generate a headline for the following article: "


def write_lines(file: Path, records: Iterable[Mapping[str, Any]]) -> Path:
    """Writes JSON Lines and returns the file."""
    file.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return file


def write_json(file: Path, value: object) -> Path:
    """Writes one JSON value and returns the file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(value), encoding="utf-8")
    return file


def line(user: str, number: int, **keys: object) -> dict[str, object]:
    """Returns a record of `user` whose texts are distinct and whose day is `number`."""
    return {
        "user_id": user,
        "query": f"{user} asks {number}",
        "response": f"{user} hears {number}",
        "timestamp": f"2024-01-{number + 1:02d}",
        **keys,
    }


def headline(number: int, who: str = "") -> dict[str, object]:
    """Returns a LaMP-4 profile item."""
    return {"id": str(number), "text": f"{who}text {number}", "title": f"{who}title {number}"}


def write_lamp(
    folder: Path, questions: list[dict[str, Any]], golds: Mapping[str, str], part: str = "dev"
) -> Path:
    """Writes a questions file and its outputs file and returns the former."""
    outputs = {"task": "LaMP_4", "golds": [{"id": i, "output": o} for i, o in golds.items()]}
    write_json(folder / f"{part}_outputs.json", outputs)
    return write_json(folder / f"{part}_questions.json", questions)


def question(identifier: str, size: int = 4, **keys: object) -> dict[str, Any]:
    """Returns a LaMP-4 question with a profile of `size` items."""
    return {
        "id": identifier,
        "input": f"{HEADLINE}asked {identifier}",
        "profile": [headline(n, f"{identifier} ") for n in range(size)],
        **keys,
    }

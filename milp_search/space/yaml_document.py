"""A YAML document as plain Python values that know where in the file they stood."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from milp_search.core.errors import Location

KeyPath = tuple[str | int, ...]


@dataclass(frozen=True)
class YamlDocument:
    """A parsed file.

    Attributes:
        file: Where it came from.
        data: The top-level mapping: dicts with text keys, lists, str, int, float, bool, None.
        positions: The line and column, from 1, of each key and list item.
    """

    file: Path | str
    data: dict[str, Any]
    positions: Mapping[KeyPath, tuple[int, int]]

    def location(self, key_path: KeyPath = ()) -> Location:
        """Returns where a key or list item stands; a missing one stands where its parent does."""
        while key_path and key_path not in self.positions:
            key_path = key_path[:-1]
        line, column = self.positions.get(key_path, (1, 1))
        return Location(self.file, line, column)

    def key_path(self, path: Iterable[str | int]) -> KeyPath:
        """Returns the steps of a path that lead somewhere in the document, leaving out the rest.

        Pydantic's error paths hold names of union members and the like between the keys.
        """
        value: Any = self.data
        found: list[str | int] = []
        for step in path:
            if _leads_on(value, step):
                found.append(step)
                value = value[step]
        return tuple(found)


def _leads_on(value: Any, step: str | int) -> bool:
    if isinstance(value, dict):
        return step in value
    return isinstance(value, list) and isinstance(step, int) and step < len(value)

"""An arm: one assignment of values to the parameters of a search space."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import final

Value = int | float | str | bool


@final
class Arm(Mapping[str, Value]):
    """An immutable, hashable mapping from parameter names to values.

    The order of the parameters does not count: arms with equal values are equal and hash alike.
    """

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, Value]):
        self._values = dict(values)

    def __getitem__(self, name: str) -> Value:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __contains__(self, name: object) -> bool:
        return name in self._values

    def __len__(self) -> int:
        return len(self._values)

    def __hash__(self) -> int:
        return hash(frozenset(self._values.items()))

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Arm):
            return self._values == other._values
        if isinstance(other, Mapping):
            return self._values == dict(other)
        return NotImplemented

    def __repr__(self) -> str:
        return f"Arm({self._values})"

"""A parameter: one scalar axis of a search space."""

from __future__ import annotations

from dataclasses import dataclass

from milp_search.core.arm import Value


@dataclass(frozen=True)
class Parameter:
    """An axis with finitely many values, in their natural order; one value alone is fixed."""

    name: str
    values: tuple[Value, ...]

    def __contains__(self, value: object) -> bool:
        # True equals 1 and 1.0 equals 1, but neither is a rank.
        # A loop takes half the time, and a search asks this for every value of a candidate.
        for known in self.values:  # noqa: SIM110
            if value == known and type(value) is type(known):
                return True
        return False

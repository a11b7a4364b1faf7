"""Checks responses against a task's kind: one of the labels, or a rating in range."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from milp_search.core.errors import DataError, Location
from milp_search.core.records import TaskKind


@dataclass(frozen=True)
class ResponseRule:
    """What a response may be.

    Attributes:
        kind: Free text, one of `labels`, or a rating.
        labels: The allowed labels; empty allows any.
        rating_range: Lowest and highest rating.
    """

    kind: TaskKind
    labels: Sequence[str] = ()
    rating_range: tuple[float, float] = (1.0, 5.0)

    def accept(self, response: str) -> str | None:
        """Returns the response as the task writes it (a label in its listed case), or None."""
        if self.kind == "classification" and self.labels:
            listed = {label.casefold(): label for label in self.labels}
            return listed.get(response.casefold())
        return response if self.kind != "rating" or self._rates(response) else None

    def require(self, response: str, at: Location) -> str:
        """Returns `accept`'s answer.

        Raises DataError if the response is not allowed.
        """
        accepted = self.accept(response)
        if accepted is None:
            low, high = self.rating_range
            wanted = f"a rating from {low:g} to {high:g}"
            if self.kind == "classification":
                wanted = f"one of the labels {list(self.labels)}"
            raise DataError(
                f"expected {wanted} as response, got something else",
                at=at,
                remedy="Correct the record, or choose another task under `data`.",
            )
        return accepted

    def _rates(self, response: str) -> bool:
        try:
            rating = float(response)
        except ValueError:
            return False
        low, high = self.rating_range
        return math.isfinite(rating) and low <= rating <= high

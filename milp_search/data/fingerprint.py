"""The fingerprint of a task: equal for equal data and splits, and only for them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable

from milp_search.core.records import Interaction, PersonalizationTask


def fingerprint(task: PersonalizationTask) -> str:
    """Returns 16 hex digits over everything in the task but its `fingerprint`."""
    content = [
        task.name,
        task.kind,
        task.labels,
        task.rating_range,
        [[t.user, *map(_rows, (t.history, t.validation, t.test))] for t in task.targets],
        [[other.user, _rows(other.interactions)] for other in task.others],
    ]
    # ASCII escapes make the bytes independent of any encoding.
    text = json.dumps(content, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:16]


def _rows(items: Iterable[Interaction]) -> list[list[str | float | None]]:
    # A time of 0 and one of 0.0 are the same moment.
    return [
        [item.query, item.response, None if item.time is None else float(item.time)]
        for item in items
    ]

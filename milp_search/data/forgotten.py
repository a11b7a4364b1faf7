"""Leaves the users out of a task who are to be forgotten."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from milp_search.core.errors import DataError
from milp_search.core.forgotten import mark_of
from milp_search.core.records import PersonalizationTask


def without_forgotten(task: PersonalizationTask, marks: Sequence[str]) -> PersonalizationTask:
    """Returns the task without the marked users; all others keep their parts.

    It is done after the split: were it done before, one of the others might move up among the
    targets, and the base has learnt their test queries.

    Args:
        task: The task, split and with its fingerprint, which stays.
        marks: Marks of the users.

    Returns:
        The task without them.

    Raises:
        DataError: No target is left.
    """
    if not marks:
        return task
    targets = tuple(one for one in task.targets if mark_of(one.user, marks) is None)
    others = tuple(one for one in task.others if mark_of(one.user, marks) is None)
    if not targets:
        raise DataError(
            "expected a target who is not to be forgotten, got none: every one was forgotten",
            remedy="Start a study with other targets; this one can be looked at only.",
        )
    return replace(task, targets=targets, others=others)

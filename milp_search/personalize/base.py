"""The base model as it is, with retrieval where the plan asks for it."""

from __future__ import annotations

from milp_search.personalize.method import Run, Stacks


def base(run: Run) -> Stacks:
    """Returns no adapter for anybody."""
    return {user.user: () for user in run.task.targets}

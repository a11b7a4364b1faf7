"""Checks what a study is asked to be."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from milp_search.core.errors import SpecError
from milp_search.core.trial import Objective


def checked_objectives(objectives: Sequence[Objective]) -> tuple[Objective, ...]:
    """Returns the objectives.

    Args:
        objectives: The objectives as given.

    Returns:
        The same, at least one and each metric once.

    Raises:
        SpecError: There is none, or a metric stands twice.
    """
    names = [objective.metric for objective in objectives]
    if not names:
        raise SpecError("expected at least one objective, got none")
    for name in names:
        if names.count(name) > 1:
            raise SpecError(f"expected each objective once, got {name!r} {names.count(name)} times")
    return tuple(objectives)


def checked_name(kind: str, name: str, known: Collection[str]) -> str:
    """Returns the name of a method, proposer or preset.

    Args:
        kind: What it names, for the message.
        name: The name as given.
        known: All such names.

    Returns:
        The same name.

    Raises:
        SpecError: There is no such name.
    """
    if name not in known:
        raise SpecError(f"expected a {kind} ({', '.join(known)}), got {name!r}")
    return name


def all_metrics(
    objectives: Sequence[Objective], metrics: Sequence[str] | None
) -> tuple[str, ...] | None:
    """Returns every metric that may be told, the objectives first; None where any may."""
    if metrics is None:
        return None
    return tuple(dict.fromkeys([*(objective.metric for objective in objectives), *metrics]))

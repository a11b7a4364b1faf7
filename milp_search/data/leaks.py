"""Keeps what is held out for validation and test away from everything that is trained on.

A held-out exchange may occur elsewhere too: a paper with several authors belongs to each of them,
LaMP's question of one user stands in the profile of another, a user asks the same thing twice. Two
interactions are the same here if query and response agree but for case and white space, whoever
had them and whenever. An equal response to another query is no leak (labels and ratings recur),
neither is an equal query with another response. Validation and test may overlap between users:
nothing is trained on either.
"""

from __future__ import annotations

from collections.abc import Iterable

from milp_search.core.records import Interaction, UserTask

Key = tuple[str, str]


def held_out(targets: Iterable[UserTask]) -> frozenset[Key]:
    """Returns the keys of all validation and test interactions."""
    return frozenset(
        _key(item)
        for target in targets
        for part in (target.validation, target.test)
        for item in part
    )


def without(items: Iterable[Interaction], keys: frozenset[Key]) -> tuple[Interaction, ...]:
    """Returns the interactions that are not among the keys, in their order."""
    return tuple(item for item in items if _key(item) not in keys)


def _key(item: Interaction) -> Key:
    return _normal(item.query), _normal(item.response)


def _normal(text: str) -> str:
    return " ".join(text.split()).casefold()

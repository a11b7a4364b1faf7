"""Puts users' records in order: no empty texts, no duplicates, oldest first."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

from milp_search.core.records import Interaction
from milp_search.data.population import Population, UserRecords


def clean(population: Population) -> Population:
    """Returns the population without empty and duplicate interactions, in chronological order."""
    dropped = Counter(population.dropped)
    users = tuple(_clean_user(records, dropped) for records in population.users)
    return replace(population, users=users, dropped=dropped)


def chronological(interactions: Iterable[Interaction]) -> tuple[Interaction, ...]:
    """Returns the interactions oldest first.

    Ties keep the order of the source; undated interactions come first, in source order.
    """
    return tuple(
        sorted(interactions, key=lambda item: -math.inf if item.time is None else item.time)
    )


def _clean_user(records: UserRecords, dropped: Counter[str]) -> UserRecords:
    history = chronological(_distinct(_spoken(records.history, dropped), dropped))
    # Test queries stay in the layout's order: LaMP gives them no date.
    queries = tuple(_distinct(_spoken(records.queries, dropped), dropped))
    return replace(records, history=history, queries=queries)


def _spoken(items: Iterable[Interaction], dropped: Counter[str]) -> Iterable[Interaction]:
    for item in items:
        if not item.query or not item.response:
            dropped["empty text"] += 1
        else:
            yield replace(item, query=well_formed(item.query), response=well_formed(item.response))


def well_formed(text: str) -> str:
    """Returns the text with "?" for lone surrogates: JSON holds them, no tokenizer takes them."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _distinct(items: Iterable[Interaction], dropped: Counter[str]) -> Iterable[Interaction]:
    """Yields the first of interactions that agree in query, response and time (or lack of it)."""
    seen: set[Interaction] = set()
    for item in items:
        if item in seen:
            dropped["duplicate"] += 1
        else:
            seen.add(item)
            yield item

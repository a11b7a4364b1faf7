"""MaLP: a user's short- and long-term memory, retrieved into the prompt of a tuned adapter."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from milp_search.adapters.jobs import Answer, Example, PredictJob
from milp_search.core.records import Interaction
from milp_search.personalize.local import stacked, tune_on_instructions
from milp_search.personalize.method import Run, Stacks, Trained
from milp_search.personalize.retrieval import Retriever, examples_with_items
from milp_search.personalize.reuse import run_profiles

_RECENT = 4  # ours: items that short-term memory holds; the paper gives no size
_REHEARSED = 2  # ours: recalls that carry an item into long-term memory; the paper says "frequent"


def malp(run: Run) -> Trained:
    """Returns one adapter per user, and answers with remembered items in the prompt.

    The paper's memory is coordinated as in the brain: what came last is in short-term memory,
    what is recalled often is carried over to long-term memory, and both are searched for each
    query; a LoRA is tuned with the memory in its prompts. Here an item is recalled when BM25
    finds it for a later query of the same user; k items of both memories go into a prompt, at
    least one. The papers say neither the sizes nor the threshold.

    Source: Zhang et al. 2023 (MaLP), as used in MiLP, section 3.2.
    """
    users = run.task.targets
    count = run.plan.retrieved_items
    memories = [Memory(user.history) for user in users]
    profiles = run_profiles(run)
    examples = [
        _examples(user.history, user.history, memory.recalled(count), profile)
        for user, memory, profile in zip(users, memories, profiles, strict=True)
    ]
    stacks: Stacks = {user.user: () for user in users}
    if run.plan.adapter.total_rank > 0:
        tuned = tune_on_instructions(run, {}, shuffle=True, examples=examples)
        stacks = stacked(run, {}, tuned)

    def respond(queries: Sequence[Sequence[Interaction]], generate: bool) -> list[list[Answer]]:
        jobs = []
        for user, memory, profile, asked in zip(users, memories, profiles, queries, strict=True):
            places = [memory.search(one.query, count, len(user.history)) for one in asked]
            shown = _examples(asked, user.history, places, profile)
            jobs.append(PredictJob(shown, stacks[user.user], generate))
        return run.trainer.predict(jobs)

    return Trained(stacks, respond)


class Memory:
    """What of a history is remembered at each of its places."""

    def __init__(self, history: Sequence[Interaction]):
        self._index = Retriever(history)
        self._recalls: Counter[int] = Counter()
        self._long_term: list[frozenset[int]] = [frozenset()]
        for place, item in enumerate(history):
            self._recalls.update(self._index.ranked(item.query, 1, before=place))
            kept = [one for one, times in self._recalls.items() if times >= _REHEARSED]
            self._long_term.append(frozenset(kept))
        self._queries = [item.query for item in history]

    def held(self, now: int) -> frozenset[int]:
        """Returns the places that are remembered before the item at place `now`."""
        return self._long_term[now] | frozenset(range(max(now - _RECENT, 0), now))

    def search(self, query: str, count: int, now: int) -> list[int]:
        """Returns at most `count` remembered places that resemble the query, the best first."""
        held = self.held(now)
        ranked = self._index.ranked(query, now, before=now)
        return [place for place in ranked if place in held][:count]

    def recalled(self, count: int) -> list[list[int]]:
        """Returns for each item of the history what was found for it among those before it."""
        return [self.search(query, count, place) for place, query in enumerate(self._queries)]


def _examples(
    items: Sequence[Interaction],
    history: Sequence[Interaction],
    places: Sequence[Sequence[int]],
    profile: str,
) -> tuple[Example, ...]:
    width = max(map(len, places), default=0)
    table = np.full((len(items), width), -1, dtype=np.int32)
    for row, found in zip(table, places, strict=True):
        row[: len(found)] = found
    return examples_with_items(items, history, table, profile)

"""BM25 retrieval of a user's earlier items (LaMP's and LoGo's retriever)."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Sequence

import bm25s
import numpy as np

from milp_search.adapters.jobs import Example
from milp_search.adapters.prompt import answer_text, item_text, prompt_text
from milp_search.core.records import Interaction

_WORD = re.compile(r"\w+")

# bm25s lets its debug lines through to whatever handler there is, one per index.
logging.getLogger("bm25s").setLevel(logging.WARNING)


class Retriever:
    """Finds the items of one user's history that resemble a query.

    BM25 in Lucene's variant, k1 = 1.5 and b = 0.75: each word that query and item share adds
    `log(1 + (N - n + .5) / (n + .5)) * f / (f + k1 (1 - b + b length / mean length))`, for N items
    of which n hold the word, f times in this one. A word counts once however often the query
    repeats it.
    """

    def __init__(self, history: Sequence[Interaction]):
        self._history = tuple(history)
        texts = [words(f"{item.query} {item.response}") for item in history]
        self._index = bm25s.BM25() if any(texts) else None
        if self._index is not None:
            self._index.index(texts, show_progress=False)

    def retrieve(self, query: str, k: int, *, before: int | None = None) -> list[Interaction]:
        """Returns at most k items, in chronological order, so that the latest stands last.

        With `before`, only items at earlier places of the history. Items without a word in
        common with the query are not returned. Of equal scores the later item wins.
        """
        return [self._history[place] for place in sorted(self.ranked(query, k, before=before))]

    def ranked(self, query: str, k: int, *, before: int | None = None) -> list[int]:
        """Returns the places in the history of what `retrieve` returns, the best one first."""
        limit = len(self._history) if before is None else before
        wanted = [word for word in dict.fromkeys(words(query)) if self._knows(word)]
        if k == 0 or limit == 0 or self._index is None or not wanted:
            return []
        scores = self._index.get_scores(wanted)[:limit]
        best = np.lexsort((np.arange(limit), scores))[::-1][:k]
        return [int(place) for place in best if scores[place] > 0]

    def _knows(self, word: str) -> bool:
        return self._index is not None and word in self._index.vocab_dict


def words(text: str) -> list[str]:
    """Returns the lower-case words of a text."""
    return _WORD.findall(text.lower())


def training_examples(history: Sequence[Interaction], k: int) -> tuple[Example, ...]:
    """Returns a user's history as examples, each with k items from before it in its prompt."""
    return examples_with_items(history, history, training_rankings(history, k))


def held_out_examples(
    history: Sequence[Interaction], queries: Sequence[Interaction], k: int
) -> tuple[Example, ...]:
    """Returns held-out queries as examples, each with k items of the training history.

    The items come from the training history alone, never from other held-out queries.
    """
    return examples_with_items(queries, history, held_out_rankings(history, queries, k))


def training_rankings(history: Sequence[Interaction], depth: int) -> np.ndarray:
    """Returns for each item the places of those before it that resemble it (items x depth).

    The best one stands first, so that the first k columns are the ranking to depth k; -1 is none.
    """
    if depth == 0:
        return _table([[]] * len(history), 0)
    index = Retriever(history)
    rows = [index.ranked(item.query, depth, before=n) for n, item in enumerate(history)]
    return _table(rows, depth)


def held_out_rankings(
    history: Sequence[Interaction], queries: Sequence[Interaction], depth: int
) -> np.ndarray:
    """Returns for each query the places in the history that resemble it (queries x depth).

    The best one stands first, as in `training_rankings`; -1 is none.
    """
    if depth == 0:
        return _table([[]] * len(queries), 0)
    index = Retriever(history)
    return _table([index.ranked(query.query, depth) for query in queries], depth)


def random_places(limits: Sequence[int], count: int, seed: int, user: str) -> np.ndarray:
    """Returns for each item distinct random places below its limit (items x count); -1 is none.

    The draws are keyed by seed and user, so that no user's depend on who else is there.
    """
    digest = hashlib.sha256(f"{seed}\0{user}".encode("utf-8", "surrogatepass")).digest()
    rng = np.random.default_rng([*digest])
    rows = [rng.permutation(limit)[:count].tolist() for limit in limits]
    return _table(rows, count)


def examples_with_items(
    items: Sequence[Interaction],
    history: Sequence[Interaction],
    rankings: np.ndarray,
    profile: str = "",
) -> tuple[Example, ...]:
    """Returns the items as examples, with the ranked items of the history in their prompts.

    The user's profile text, if there is one, stands on top.
    """
    return tuple(
        _example(item, [history[place] for place in sorted(row) if place >= 0], profile)
        for item, row in zip(items, rankings.tolist(), strict=True)
    )


def injection_examples(history: Sequence[Interaction]) -> tuple[Example, ...]:
    """Returns a user's history as plain text to be predicted (MiLP's memory injection)."""
    return tuple(Example("", item_text(item.query, item.response)) for item in history)


def _example(item: Interaction, earlier: Sequence[Interaction], profile: str = "") -> Example:
    pairs = [(other.query, other.response) for other in earlier]
    return Example(prompt_text(item.query, pairs, profile), answer_text(item.response))


def _table(rows: Sequence[Sequence[int]], depth: int) -> np.ndarray:
    table = np.full((len(rows), depth), -1, dtype=np.int32)
    for number, row in enumerate(rows):
        table[number, : len(row)] = row
    return table

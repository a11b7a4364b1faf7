"""What trials have in common: profiles, communities and retrieved items.

Each function returns what the plain one beside it in `communities` or `retrieval` returns; where
the run has a cache, it is taken from there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import torch

from milp_search.adapters.content_key import content_key, tensors_digest
from milp_search.adapters.jobs import Example
from milp_search.adapters.stage_cache import StageCache
from milp_search.core.records import Interaction
from milp_search.personalize.communities import communities, profile_vectors
from milp_search.personalize.method import Run
from milp_search.personalize.retrieval import (
    examples_with_items,
    held_out_rankings,
    training_rankings,
)

_DEPTH = 16  # ours: rankings so deep serve every smaller k from one entry

Histories = tuple[tuple[Interaction, ...], ...]


def run_profile_vectors(run: Run) -> np.ndarray:
    """Returns the targets' profile vectors; see `profile_vectors`."""
    # Without the base's name in its key a vector could be taken for another base's.
    cache = run.cache if run.base_fingerprint else None
    return _remembered(
        cache,
        "profile_vectors",
        lambda: [run.base_fingerprint, run.trainer.settings.max_length, _digest(_histories(run))],
        lambda: profile_vectors(run.task.targets, run.trainer),
    )


def run_communities(run: Run, vectors: np.ndarray) -> list[list[int]]:
    """Returns the plan's communities of the users with these vectors; see `communities`."""

    def labels() -> np.ndarray:
        found = np.zeros(len(vectors), dtype=np.int32)
        for label, group in enumerate(communities(vectors, run.plan.communities, run.seed)):
            found[group] = label
        return found

    label = _remembered(
        run.cache,
        "communities",
        lambda: [_array_digest(vectors), run.plan.communities, run.seed],
        labels,
    )
    return [np.flatnonzero(label == group).tolist() for group in range(label.max() + 1)]


def run_training_examples(run: Run) -> list[tuple[Example, ...]]:
    """Returns each target's history with the plan's k items; see `training_examples`."""
    histories = _histories(run)

    def rankings(depth: int) -> list[np.ndarray]:
        return [training_rankings(history, depth) for history in histories]

    return _with_items(run, histories, "itself", rankings)


def run_held_out_examples(run: Run, queries: Histories) -> list[tuple[Example, ...]]:
    """Returns each target's queries with the plan's k items; see `held_out_examples`."""

    def rankings(depth: int) -> list[np.ndarray]:
        pairs = zip(_histories(run), queries, strict=True)
        return [held_out_rankings(history, asked, depth) for history, asked in pairs]

    return _with_items(run, queries, _digest(queries), rankings)


def _with_items(
    run: Run, asked: Histories, name: str, rankings: Callable[[int], list[np.ndarray]]
) -> list[tuple[Example, ...]]:
    """Returns each user's items as examples; all users' rankings are one entry of the cache."""
    histories, k = _histories(run), run.plan.retrieved_items
    depth = max(k, _DEPTH) if run.cache and k > 0 else k
    table = _remembered(
        run.cache if k > 0 else None,
        "retrieval",
        lambda: [_digest(histories), name, depth],
        lambda: np.concatenate([np.empty((0, depth), np.int32), *rankings(depth)]),
    )
    borders = pairwise(accumulate(map(len, asked), initial=0))
    return [
        examples_with_items(items, history, table[first:last, :k])
        for items, history, (first, last) in zip(asked, histories, borders, strict=True)
    ]


def _remembered(
    cache: StageCache | None,
    kind: str,
    content: Callable[[], Sequence[Any]],
    compute: Callable[[], np.ndarray],
) -> np.ndarray:
    """Returns the array that this content decides, from the cache or computed and kept there."""
    if cache is None:
        return compute()
    key = content_key(kind, *content())
    entry = cache.get(kind, key)
    if entry is not None:
        kept: np.ndarray = entry[0]["array"].numpy()
        return kept
    array = compute()
    cache.put(kind, key, {"array": torch.from_numpy(array)}, {})
    return array


def _histories(run: Run) -> Histories:
    return tuple(user.history for user in run.task.targets)


@lru_cache(maxsize=8)
def _digest(histories: Histories) -> str:
    """Returns a digest of the users' texts, in order."""
    return content_key([[(item.query, item.response) for item in one] for one in histories])


def _array_digest(array: np.ndarray) -> str:
    return tensors_digest({"array": torch.from_numpy(array)})

"""What networks are told of users: a vector of each item of a history."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from milp_search.adapters.text_embedding import Embed
from milp_search.core.records import UserTask


def item_vectors(users: Sequence[UserTask], embed: Embed) -> list[np.ndarray]:
    """Returns for each user `emb(q) (+) emb(r)` of each training item (items x 2 width).

    `(+)` is concatenation. Where nobody has any item the width is 1.

    Source: LoGo, Eq. 5.
    """
    items = [item for user in users for item in user.history]
    if not items:
        return [np.zeros((0, 1), np.float32) for _ in users]
    queries = embed([item.query for item in items])
    responses = embed([item.response for item in items])
    pairs = np.concatenate([queries, responses], axis=1)
    borders = np.cumsum([0, *(len(user.history) for user in users)])
    return [pairs[first:last] for first, last in pairwise(borders)]


def standardised(vectors: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Returns the users' item vectors with mean 0 and variance 1 of each entry over all items.

    An entry that is the same in all items becomes 0. What all texts have in common would swamp
    what sets users apart (ours).
    """
    every = np.concatenate(vectors)
    if not len(every):
        return [*vectors]
    spread = every.std(axis=0)
    scale = np.where(spread > 0, spread, 1.0)
    return [((one - every.mean(axis=0)) / scale).astype(np.float32) for one in vectors]


def means_before(vectors: np.ndarray) -> np.ndarray:
    """Returns for each place the mean of the items before it (items + 1 x width).

    It is 0 before the first item; the last row is the mean of all.
    """
    sums = np.cumsum(np.concatenate([np.zeros((1, vectors.shape[1])), vectors]), axis=0)
    counts = np.maximum(np.arange(len(sums)), 1)
    means: np.ndarray = (sums / counts[:, None]).astype(np.float32)
    return means

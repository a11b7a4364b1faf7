"""Groups users by what they write, and cuts their pooled histories into periods (LoGo)."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

from milp_search.adapters.text_embedding import Embed
from milp_search.core.records import Interaction, UserTask
from milp_search.personalize.item_vectors import item_vectors


def profile_vectors(users: Sequence[UserTask], embed: Embed) -> np.ndarray:
    """Returns each user's L2-normalised profile vector (users x 2 width).

    `rho_u = mean(emb(q) (+) emb(r))` over the training history, `(+)` being concatenation; the
    mean over the users is taken off before normalising (ours).

    Source: LoGo, Eq. 5.
    """
    vectors = np.stack([one.mean(axis=0) for one in item_vectors(users, embed)])
    # The common part of all users says nothing of communities and would swamp the rest.
    vectors = vectors - vectors.mean(axis=0)
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    normalised: np.ndarray = vectors / np.where(norms > 0, norms, 1.0)
    return normalised


def communities(vectors: np.ndarray, count: int, seed: int) -> list[list[int]]:
    """Returns the users' indices by community: k-means, n_init 10, fixed seed.

    The vectors are users x width; `count` is LoGo's c, capped at the number of users. Every user
    is in exactly one community; a community that k-means leaves empty is dropped.
    """
    count = min(count, len(vectors))
    if count == 1:
        return [list(range(len(vectors)))]
    with threadpool_limits(limits=1), warnings.catch_warnings():
        # Users who write alike can be fewer than c in kind; then there are fewer communities.
        warnings.simplefilter("ignore", ConvergenceWarning)
        labels = KMeans(count, n_init=10, random_state=seed).fit_predict(vectors)
    groups = [[int(i) for i in np.flatnonzero(labels == label)] for label in range(count)]
    return [group for group in groups if group]


def periods(histories: Sequence[Sequence[Interaction]], count: int) -> list[list[Interaction]]:
    """Returns the pooled interactions of a community in `count` periods of equal size, by time.

    Histories without complete dates are pooled by their relative place in the history instead.
    The first periods take one item more where the cut is uneven; empty periods are dropped.

    Source: LoGo, Eq. 4, by the reading of PAPERS.md, section 2.
    """
    ordered = [histories[user][place] for user, place in pooled_order(histories)]
    cuts = np.array_split(np.arange(len(ordered)), count)
    return [[ordered[i] for i in cut] for cut in cuts if len(cut)]


def pooled_order(histories: Sequence[Sequence[Interaction]]) -> list[tuple[int, int]]:
    """Returns all interactions as (history, place in it), in the order of time.

    Histories without complete dates go by the relative place in the history instead; of equal
    times the earlier history's comes first.
    """
    places = [
        (user, place) for user, history in enumerate(histories) for place in range(len(history))
    ]
    dated = all(item.time is not None for history in histories for item in history)

    def moment(pair: tuple[int, int]) -> float:
        user, place = pair
        if dated:
            return float(histories[user][place].time or 0.0)
        return place / len(histories[user])

    return sorted(places, key=moment)

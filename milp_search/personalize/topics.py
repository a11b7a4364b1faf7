"""Topics of generated texts, the same for all trials of a study, for the diversity of texts.

Topics are k-means clusters of the targets' training responses as an embedding sees them; a text
belongs to the nearest. The paper embeds and clusters the generations themselves; then every trial
would have clusters of its own, and diversities would not compare.

Source: LoGo, App. A.2.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

from milp_search.adapters.text_embedding import Embed
from milp_search.core.records import Predictions, UserTask

_TOPICS = 10  # ours: the paper gives no number; LaMP's label sets are of this order (15, 15, 5)
_RESPONSES = 2_000  # ours: what topics are found in; more make k-means slow and change little
_STARTS = 3  # ours: k-means runs of which the best one counts


def training_responses(users: Sequence[UserTask]) -> list[str]:
    """Returns the users' distinct training responses, evenly thinned out where they are many."""
    distinct = [*dict.fromkeys(item.response for user in users for item in user.history)]
    places = np.linspace(0, len(distinct) - 1, min(len(distinct), _RESPONSES)).astype(int)
    return [distinct[place] for place in places]


def topic_centres(vectors: np.ndarray) -> np.ndarray:
    """Returns the mean of the responses' vectors, then the topics' centres as seen from it.

    The vectors are responses x width, the result is (1 + topics) x width. What all responses have
    in common would swamp their differences, hence the mean, and only directions count, as in
    `profile_vectors`. There are no more topics than distinct directions.
    """
    mean = vectors.mean(axis=0, keepdims=True, dtype=np.float64)
    directions = _directions(vectors, mean)
    count = min(_TOPICS, len(np.unique(directions, axis=0)))
    with threadpool_limits(limits=1), warnings.catch_warnings():
        # Directions that differ in their last digits only may be one cluster.
        warnings.simplefilter("ignore", ConvergenceWarning)
        clusters = KMeans(count, n_init=_STARTS, random_state=0).fit(directions)
    return np.concatenate([mean, clusters.cluster_centers_])


def nearest_topics(texts: Sequence[str], embed: Embed, centres: np.ndarray) -> list[int | None]:
    """Returns the topic of each text, None for an empty one; see `topic_centres`."""
    told = [text for text in texts if text.strip()]
    if not told:
        return [None] * len(texts)
    mean, topics = centres[:1], centres[1:]
    # |x - t|^2 less |x|^2, which is the same for all topics t.
    distances = (topics**2).sum(axis=1) - 2 * _directions(embed(told), mean) @ topics.T
    nearest = iter(distances.argmin(axis=1).tolist())
    return [next(nearest) if text.strip() else None for text in texts]


def with_topics(predictions: Predictions, embed: Embed, centres: np.ndarray) -> Predictions:
    """Returns predictions of which each carries the topic of its text; see `topic_centres`."""
    topics = nearest_topics([item.generated or "" for item in predictions.items], embed, centres)
    told = [
        replace(item, topic=topic) for item, topic in zip(predictions.items, topics, strict=True)
    ]
    return replace(predictions, items=tuple(told), topics=len(centres) - 1)


def _directions(vectors: np.ndarray, mean: np.ndarray) -> np.ndarray:
    seen = vectors - mean
    norms = np.linalg.norm(seen, axis=1, keepdims=True)
    return np.asarray(seen / np.where(norms > 0, norms, 1.0))

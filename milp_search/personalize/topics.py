"""Topics of generated texts, the same for all trials of a study, for the diversity of texts."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import numpy as np
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

from milp_search.adapters.text_embedding import common_embedding
from milp_search.personalize.method import Run

_TOPICS = 10  # ours: the paper gives no number; LaMP's label sets are of this order (15, 15, 5)
_RESPONSES = 2_000  # ours: what topics are found in; more make k-means slow and change little
_STARTS = 3  # ours: k-means runs of which the best one counts

Vectors = np.ndarray
Directions = Callable[[Sequence[str]], Vectors]
"""Texts to unit vectors (texts x width)."""


def topics_of(run: Run, texts: Sequence[str]) -> tuple[list[int | None], int]:
    """Returns the topic of each text, None for an empty one, and how many topics there are.

    Topics are k-means clusters of the targets' training responses, as the study's embedding
    (`training.embedding`) sees them; a text belongs to the nearest. They depend on neither the
    plan nor the seed of a run, so that the diversities of trials compare. The paper embeds and
    clusters the generations themselves; then every trial would have clusters of its own.

    Source: LoGo, App. A.2.
    """
    told = [text for text in texts if text.strip()]
    responses = _responses(run)
    directions = _directions(run, responses)
    known = directions(responses)
    count = min(_TOPICS, len(np.unique(known, axis=0)))
    with threadpool_limits(limits=1), warnings.catch_warnings():
        # Vectors that differ in their last digits only may be one cluster.
        warnings.simplefilter("ignore", ConvergenceWarning)
        clusters = KMeans(count, n_init=_STARTS, random_state=0).fit(known)
        nearest = iter(clusters.predict(directions(told)).tolist() if told else [])
    return [next(nearest) if text.strip() else None for text in texts], count


def _responses(run: Run) -> list[str]:
    """Returns the distinct training responses, evenly thinned out where they are many."""
    distinct = [*dict.fromkeys(one.response for user in run.task.targets for one in user.history)]
    places = np.linspace(0, len(distinct) - 1, min(len(distinct), _RESPONSES)).astype(int)
    return [distinct[place] for place in places]


def _directions(run: Run, responses: Sequence[str]) -> Directions:
    """Returns what maps texts to where they lie, seen from the mean of the responses.

    What all texts have in common would swamp their differences, as in `profile_vectors`.
    """
    embed = common_embedding(run.trainer, responses)
    mean = embed(responses).mean(axis=0)

    def directions(texts: Sequence[str]) -> Vectors:
        # In double precision k-means finds the same clusters on any processor.
        vectors = np.asarray(embed(texts) - mean, dtype=np.float64)
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        return np.asarray(vectors / np.where(norms > 0, norms, 1.0))

    return directions

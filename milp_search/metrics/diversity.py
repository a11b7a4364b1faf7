"""Diversity: how evenly a user's predictions spread over what could be predicted.

`H(P_u) / log n`, with P_u the distribution of the user's predictions over n classes: the labels
of a classification task; the whole ratings of a rating task, to which other ratings are rounded;
the topics of a task of texts (`personalize/topics.py`).

The paper knows no prediction that is none of the classes. Ours: an answer that is no label, no
rating or an empty text is left out of P_u, since it says nothing of what the user is taken to
like; a user without any prediction left has diversity 0, and so has everybody where n is 1.

Source: LoGo, App. A.2.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Hashable, Sequence

from milp_search.core.errors import MeasurementError
from milp_search.core.records import PersonalizationTask, Prediction, Predictions
from milp_search.core.trial import Measurement
from milp_search.metrics.generated import generated_text
from milp_search.metrics.labels import normal_label
from milp_search.metrics.over_users import by_user, mean_over_users
from milp_search.metrics.rating import parse_rating

Classify = Callable[[Prediction], Hashable | None]


def diversity(predictions: Predictions) -> Measurement:
    """Returns the mean over users of the normalised entropy of their predictions, 0 to 1."""
    classify, count = _classes(predictions)
    return mean_over_users(
        [
            normalised_entropy([classify(item) for item in items], count)
            for _, items in by_user(predictions)
        ]
    )


def normalised_entropy(found: Sequence[Hashable | None], count: int) -> float:
    """Returns the entropy of the classes found, over its maximum log `count`; None is no class."""
    times = Counter(one for one in found if one is not None)
    total = times.total()
    if count < 2 or len(times) < 2:
        return 0.0
    return -sum(n / total * math.log(n / total) for n in times.values()) / math.log(count)


def _classes(predictions: Predictions) -> tuple[Classify, int]:
    """Returns what tells the class of a prediction, and the number of classes."""
    task = predictions.task
    if task.kind == "classification":
        labels = frozenset(map(normal_label, task.labels))
        return lambda item: _label(item, labels), len(labels)
    if task.kind == "rating":
        low, high = task.rating_range
        return lambda item: _whole_rating(item, task), math.floor(high) - math.ceil(low) + 1
    if predictions.topics == 0:
        raise MeasurementError(
            "expected the topics of the generated texts, got none",
            remedy="Answer with `topics` when a metric with `needs_topics` is asked for.",
        )
    return _topic, predictions.topics


def _topic(item: Prediction) -> int | None:
    generated_text(item)  # refused where nothing was generated
    return item.topic


def _label(item: Prediction, labels: frozenset[str]) -> str | None:
    label = normal_label(generated_text(item))
    return label if label in labels else None


def _whole_rating(item: Prediction, task: PersonalizationTask) -> int | None:
    low, high = task.rating_range
    rating = parse_rating(generated_text(item), task.rating_range)
    if rating is None:
        return None
    # Halves go up; within a range such as 0.5 to 5 the whole ratings begin at 1.
    return min(max(math.floor(rating + 0.5), math.ceil(low)), math.floor(high))

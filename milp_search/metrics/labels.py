"""Accuracy and macro-F1 of classification tasks.

An answer counts as a label if it is one but for case and white space around it; any other answer
is wrong (LaMP's evaluation maps it to no class).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from milp_search.core.errors import MeasurementError
from milp_search.core.records import Prediction, Predictions
from milp_search.core.trial import Measurement
from milp_search.metrics.generated import generated_text
from milp_search.metrics.over_users import Values, by_user, jackknife, mean_of_scores

# (n users, 3, labels): true positives, false positives, false negatives.
Counts = npt.NDArray[np.int64]


def accuracy(predictions: Predictions) -> Measurement:
    """Returns the mean over users of the share of right answers, 0 to 1."""
    return mean_of_scores(predictions, _is_right)


def macro_f1(predictions: Predictions) -> Measurement:
    """Returns the mean over the task's labels of their F1 over all predictions, 0 to 1.

    A label that neither occurs nor is answered counts as 0, as in LaMP's evaluation, so that the
    average is always over the same labels. It is no mean over users: see `jackknife`.
    """
    counts = _counts(predictions)
    total = counts.sum(axis=0)
    return jackknife(float(_macro_f1(total)), _macro_f1(total - counts))


def _is_right(prediction: Prediction) -> float:
    return float(normal_label(generated_text(prediction)) == normal_label(prediction.reference))


def normal_label(text: str) -> str:
    """Returns a label without what does not count in it: case, and white space around it."""
    return text.strip().casefold()


def _counts(predictions: Predictions) -> Counts:
    distinct = dict.fromkeys(map(normal_label, predictions.task.labels))
    number = {label: place for place, label in enumerate(distinct)}
    groups = by_user(predictions)
    counts = np.zeros((len(groups), 3, len(number)), dtype=np.int64)
    for user, (_, items) in enumerate(groups):
        for item in items:
            truth = _label_number(item.reference, number)
            answer = number.get(normal_label(generated_text(item)))
            if answer == truth:
                counts[user, 0, truth] += 1
                continue
            counts[user, 2, truth] += 1
            if answer is not None:
                counts[user, 1, answer] += 1
    return counts


def _label_number(reference: str, number: dict[str, int]) -> int:
    if normal_label(reference) not in number:
        raise MeasurementError("expected every reference among the task's labels, got another one")
    return number[normal_label(reference)]


def _macro_f1(counts: Counts) -> Values:
    """Returns the mean F1 over labels; counts are (..., 3, labels), the result is (...)."""
    true, false_positive, false_negative = np.moveaxis(counts, -2, 0)
    seen = 2 * true + false_positive + false_negative
    f1: Values = 2 * true / np.maximum(seen, 1)
    return np.asarray(f1.mean(axis=-1))

"""ROUGE-1 and ROUGE-L: the F-measure of Google's rouge-score, without stemmer (MiLP, LaMP)."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from milp_search.core.records import Prediction, Predictions
from milp_search.core.trial import Measurement
from milp_search.metrics.generated import generated_text
from milp_search.metrics.over_users import mean_of_scores


def rouge_1(predictions: Predictions) -> Measurement:
    """Returns the mean over users of the F-measure of shared words, 0 to 1."""
    return mean_of_scores(predictions, _score("rouge1"))


def rouge_l(predictions: Predictions) -> Measurement:
    """Returns the mean over users of the F-measure of the longest common subsequence, 0 to 1."""
    return mean_of_scores(predictions, _score("rougeL"))


def _score(kind: str) -> Callable[[Prediction], float]:
    scorer = _scorer(kind)

    def score(prediction: Prediction) -> float:
        return float(scorer.score(prediction.reference, generated_text(prediction))[kind].fmeasure)

    return score


@functools.cache
def _scorer(kind: str) -> Any:
    # The import takes seconds (NLTK), which only those who use it should wait for.
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer([kind], use_stemmer=False)

"""Persona F1: how many of a user's own words an answer uses.

With h the set of words of the user's training history (queries and responses) and s the set of
words of the answer, both without stop words, p = |h & s| / |s| and q = |h & s| / |h|; the value is
2 p q / (p + q) in percent, 0 where nothing is shared.

Since |h| is large, q hardly leaves 0 and the value grows with the length of the answer. The
normalised variant counts no more of the history than the answer could hold,
q = |h & s| / min(|h|, |s|): for the usual |h| >= |s| it is the share of the answer's words that
are the user's, whatever its length.

Words are lower-case runs of two and more letters, digits or underscores: the pattern of
scikit-learn, for which its stop word list was made.

Source: MiLP, section 4.1; PAPERS.md, section 1 (percent, and the normalised variant).
"""

from __future__ import annotations

import functools
import re

from milp_search.core.errors import MeasurementError
from milp_search.core.records import Interaction, Prediction, Predictions
from milp_search.core.trial import Measurement
from milp_search.metrics.generated import generated_text
from milp_search.metrics.over_users import mean_of_scores

Words = frozenset[str]

_WORD = re.compile(r"\b\w\w+\b")


def persona_f1(predictions: Predictions) -> Measurement:
    """Returns the mean over users of the plain value, 0 to 100."""
    return _measure(predictions, normalized=False)


def persona_f1_normalized(predictions: Predictions) -> Measurement:
    """Returns the mean over users of the length-normalised value, 0 to 100."""
    return _measure(predictions, normalized=True)


def overlap_f1(history: Words, answer: Words, *, normalized: bool) -> float:
    """Returns the F1 of two sets of words in percent."""
    shared = len(history & answer)
    if not shared:
        return 0.0
    counted = min(len(history), len(answer)) if normalized else len(history)
    # 2 p q / (p + q) with p = shared / |s| and q = shared / counted.
    return 100 * 2 * shared / (len(answer) + counted)


def content_words(text: str) -> Words:
    """Returns the words of a text that are no stop words."""
    return frozenset(_WORD.findall(text.lower())) - _stop_words()


def _measure(predictions: Predictions, *, normalized: bool) -> Measurement:
    histories = {user: _history_words(items) for user, items in predictions.histories.items()}

    def score(prediction: Prediction) -> float:
        if prediction.user not in histories:
            raise MeasurementError(
                "expected the training history of every user, got none of one",
                remedy="Fill `Predictions.histories`.",
            )
        answer = content_words(generated_text(prediction))
        return overlap_f1(histories[prediction.user], answer, normalized=normalized)

    return mean_of_scores(predictions, score)


def _history_words(items: tuple[Interaction, ...]) -> Words:
    return content_words("\n".join(text for item in items for text in (item.query, item.response)))


@functools.cache
def _stop_words() -> Words:
    # The import takes a second, which only those who use it should wait for.
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    return frozenset(ENGLISH_STOP_WORDS)

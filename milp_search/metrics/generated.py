"""The generated text of a prediction, for metrics that cannot do without."""

from __future__ import annotations

from milp_search.core.errors import MeasurementError
from milp_search.core.records import Prediction


def generated_text(prediction: Prediction) -> str:
    """Returns the generated text.

    Raises MeasurementError if nothing was generated for the query.
    """
    if prediction.generated is None:
        raise MeasurementError(
            "expected generated text to measure, but the predictions hold losses only",
            remedy="Generate answers when a metric with `needs_generation` is asked for.",
        )
    return prediction.generated

"""Whether a space and metrics fit a model that can only be asked, or one whose weights are here."""

from __future__ import annotations

from collections.abc import Sequence

from milp_search.core.errors import SpecError
from milp_search.metrics.metric import Metric
from milp_search.metrics.win_rate import MODEL
from milp_search.space.search_space import SearchSpace

# What a prompt is made of, and what an adapter is.
PROMPT_SIDE = frozenset(
    {"time_splits", "retrieved_items", "communities", "profile", "summary_lines"}
)
_ASKED_ONLY = frozenset({"summary_lines"})


def check_dimensions(space: SearchSpace, *, asks: bool) -> None:
    """Refuses dimensions that mean nothing here.

    Args:
        space: What is searched.
        asks: Whether the model can only be asked.

    Raises:
        SpecError: The first such dimension.
    """
    for dimension in space.dimensions:
        fits = dimension.name in PROMPT_SIDE if asks else dimension.name not in _ASKED_ONLY
        if not fits:
            where = "behind an endpoint" if asks else "that is trained"
            raise SpecError(
                f"dimension {dimension.name!r} means nothing for a model {where}",
                remedy=f"take it out; there are {', '.join(sorted(PROMPT_SIDE))}"
                if asks
                else "take it out, or choose a method for endpoints",
            )


def check_metrics(metrics: Sequence[Metric], *, asks: bool, judged: bool) -> None:
    """Refuses metrics that nobody can measure here.

    Args:
        metrics: What is to be measured.
        asks: Whether the model can only be asked.
        judged: Whether there is a judge.

    Raises:
        SpecError: The first such metric.
    """
    for metric in metrics:
        if metric.needs_judge == MODEL and not judged:
            raise SpecError(
                f"metric {metric.name!r} needs a judge, and there is none",
                remedy="add `judge: {model: NAME, base_url: http://...}`, or choose "
                "win_rate_offline",
            )
        if metric.needs_weights and asks:
            raise SpecError(
                f"metric {metric.name!r} needs likelihoods, and a model behind an endpoint tells "
                "none",
                remedy="choose a metric of texts, or token_cost",
            )
        if metric.needs_endpoint and not asks:
            raise SpecError(
                f"metric {metric.name!r} counts what an endpoint charges, and there is none",
                remedy="choose trainable_params, or a method for endpoints",
            )

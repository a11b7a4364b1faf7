"""The table of metrics: to add one, write its function and a line here.

Each may be named over a part of the users too, as `METRIC@PART`: see `subgroups.py`.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable

from milp_search.core.errors import SpecError
from milp_search.core.records import Predictions, TaskKind
from milp_search.core.trial import Direction, Measurement
from milp_search.metrics.diversity import diversity
from milp_search.metrics.labels import accuracy, macro_f1
from milp_search.metrics.loss import loss
from milp_search.metrics.metric import Metric
from milp_search.metrics.persona_f1 import persona_f1, persona_f1_normalized
from milp_search.metrics.rating import mae, rmse
from milp_search.metrics.retention import retention
from milp_search.metrics.rouge import rouge_1, rouge_l
from milp_search.metrics.subgroups import AT, over_subgroup
from milp_search.metrics.token_use import query_tokens, token_cost
from milp_search.metrics.win_rate import (
    MODEL,
    OFFLINE,
    judge_flipped,
    judge_length,
    judge_shift,
    judge_ties,
    judge_unparsable,
    win_rate,
    win_rate_offline,
)

_ANY: tuple[TaskKind, ...] = ("text", "classification", "rating")


def _generation(
    compute: Callable[[Predictions], Measurement],
    direction: Direction,
    kind: TaskKind,
    summary: str,
) -> Metric:
    return Metric(compute.__name__, direction, True, frozenset([kind]), compute, summary)


def _tokens(compute: Callable[[Predictions], Measurement], summary: str) -> Metric:
    return Metric(
        compute.__name__, "minimize", True, frozenset(_ANY), compute, summary, needs_endpoint=True
    )


def _judged(
    compute: Callable[[Predictions], Measurement],
    summary: str,
    kind: str = MODEL,
    direction: Direction = "minimize",
) -> Metric:
    name, kinds = compute.__name__, frozenset(_ANY)
    return Metric(name, direction, True, kinds, compute, summary, needs_judge=kind)


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(
            "loss",
            "minimize",
            False,
            frozenset(_ANY),
            loss,
            "Nats per response token",
            needs_weights=True,
        ),
        _generation(rouge_1, "maximize", "text", "ROUGE-1 F-measure"),
        _generation(rouge_l, "maximize", "text", "ROUGE-L F-measure"),
        _generation(persona_f1, "maximize", "text", "Words shared with the history, F1 in percent"),
        _generation(
            persona_f1_normalized, "maximize", "text", "Persona F1 that length does not raise"
        ),
        _generation(accuracy, "maximize", "classification", "Share of right labels"),
        _generation(macro_f1, "maximize", "classification", "Mean F1 over the labels"),
        _generation(mae, "minimize", "rating", "Mean absolute error"),
        _generation(rmse, "minimize", "rating", "Root mean squared error"),
        Metric(
            "diversity",
            "maximize",
            True,
            frozenset(_ANY),
            diversity,
            "Entropy of a user's predictions over its maximum",
            needs_topics=True,
        ),
        Metric(
            "retention",
            "minimize",
            False,
            frozenset(_ANY),
            retention,
            "Nats per token that adapters add on other users' texts",
            needs_retention=True,
            needs_weights=True,
        ),
        _judged(win_rate, "Share of answers that a judge prefers to TpLP's", direction="maximize"),
        _judged(
            win_rate_offline,
            "The same by an offline count of shared words, no opinion",
            OFFLINE,
            "maximize",
        ),
        _judged(judge_unparsable, "Share of the judge's answers that are no score"),
        _judged(judge_ties, "Share of pairs to which the judge gives equal scores"),
        _judged(judge_flipped, "Share of winners that change with the order of the judge's prompt"),
        _judged(judge_shift, "How much a score changes with the order of the judge's prompt"),
        _judged(judge_length, "Correlation of the judge's scores with the length of answers"),
        _tokens(query_tokens, "Tokens of a query's prompt and answer, of a chat model"),
        _tokens(token_cost, "The same, with the query's share of notes and knowledge"),
    )
}

# What a study may optimise: the metrics of predictions, and the size, which the plan alone decides.
METRIC_DIRECTIONS: dict[str, Direction] = {
    **{name: metric.direction for name, metric in METRICS.items()},
    "trainable_params": "minimize",
}


def metrics_for(names: Iterable[str], kind: TaskKind) -> list[Metric]:
    """Returns the named metrics.

    Raises SpecError if a metric or a part of the users is unknown, or a metric does not apply to
    the kind of task.
    """
    metrics = [_metric(name) for name in names]
    for metric in metrics:
        if kind not in metric.kinds:
            fitting = [name for name, other in METRICS.items() if kind in other.kinds]
            raise SpecError(
                f"expected metrics for a {kind} task, got {metric.name!r}, which is for "
                f"{' and '.join(sorted(metric.kinds))} tasks",
                remedy=f"Choose among {', '.join(fitting)}.",
            )
    return metrics


def measure(predictions: Predictions, names: Iterable[str]) -> dict[str, Measurement]:
    """Returns the named metrics' measurements of one trial's predictions.

    Raises SpecError as `metrics_for` does, MeasurementError if the predictions lack what a metric
    needs or a value is not finite.
    """
    metrics = metrics_for(names, predictions.task.kind)
    return {metric.name: metric.compute(predictions) for metric in metrics}


def needs_judge(name: str) -> str:
    """Returns the kind of judge that a metric needs, empty for none; raises as `metrics_for`."""
    return _metric(name).needs_judge


def _metric(name: str) -> Metric:
    base, at, part = name.partition(AT)
    if base in METRICS:
        return over_subgroup(METRICS[base], part) if at else METRICS[base]
    near = difflib.get_close_matches(base, METRICS, n=1)
    hint = f"Did you mean {near[0]!r}? " if near else ""
    raise SpecError(
        f"expected the name of a metric of predictions, got {name!r}",
        remedy=f"{hint}There are {', '.join(METRICS)}.",
    )

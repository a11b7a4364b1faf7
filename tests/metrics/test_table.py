from __future__ import annotations

from dataclasses import replace

import pytest

from metrics.making import predictions
from milp_search.core.errors import MeasurementError, SpecError
from milp_search.core.judged import PairScore
from milp_search.core.records import Predictions, TaskKind
from milp_search.metrics.metric import Metric
from milp_search.metrics.table import METRIC_DIRECTIONS, METRICS, measure, metrics_for

TEXTS: dict[TaskKind, tuple[str, str]] = {
    "text": ("chess rocks", "chess"),
    "classification": ("red", "blue"),
    "rating": ("4", "2"),
}


def of_kind(kind: TaskKind, generated: bool = True) -> Predictions:
    reference, answer = TEXTS[kind]
    pairs = [(reference, answer if generated else None), (reference, reference)]
    users = {"a": pairs[:1], "b": pairs[1:]}
    histories = {user: [("chess?", "chess!")] for user in users}
    made = predictions(users, kind, ("red", "blue") * (kind == "classification"), histories)
    # As a judge and a server leave them.
    scores = PairScore(7, 3, (6, 5))
    items = (
        replace(item, used_tokens=10, judged={"model": scores, "offline": scores})
        for item in made.items
    )
    return replace(made, items=tuple(items))


def test_the_metrics_are_the_announced_ones() -> None:
    assert list(METRICS) == [
        "loss", "rouge_1", "rouge_l", "persona_f1", "persona_f1_normalized",
        "accuracy", "macro_f1", "mae", "rmse", "diversity", "retention",
        "win_rate", "win_rate_offline", "judge_unparsable", "judge_ties", "judge_flipped",
        "judge_shift", "judge_length", "query_tokens", "token_cost",
    ]  # fmt: skip
    assert {name for name, way in METRIC_DIRECTIONS.items() if way == "minimize"} == {
        "loss", "mae", "rmse", "retention", "trainable_params", "judge_unparsable", "judge_ties",
        "judge_flipped", "judge_shift", "judge_length", "query_tokens", "token_cost",
    }  # fmt: skip


@pytest.mark.parametrize("metric", METRICS.values(), ids=str)
def test_every_metric_measures_each_of_its_kinds(metric: Metric) -> None:
    for kind in metric.kinds:
        measured = measure(of_kind(kind), [metric.name])[metric.name]
        assert measured.sem is not None
        # The judge's own marks are of the judge, and not of users.
        assert len(measured.per_user) == (0 if metric.name.startswith("judge_") else 2)


@pytest.mark.parametrize("metric", METRICS.values(), ids=str)
def test_every_metric_refuses_the_other_kinds(metric: Metric) -> None:
    for kind in TEXTS.keys() - metric.kinds:
        with pytest.raises(SpecError, match=f"expected metrics for a {kind} task"):
            measure(of_kind(kind), [metric.name])


@pytest.mark.parametrize("metric", METRICS.values(), ids=str)
def test_every_metric_that_needs_generations_says_so(metric: Metric) -> None:
    made = of_kind(next(iter(metric.kinds)), generated=False)
    made = predictions(
        {item.user: [(item.reference, None)] for item in made.items},
        made.task.kind,
        made.task.labels,
        {"a": [], "b": []},
    )
    if not metric.needs_generation:
        assert measure(made, [metric.name])[metric.name].mean == 1.0
        return
    lacks = "expected (generated text|predictions that were judged|tokens counted by a server)"
    with pytest.raises(MeasurementError, match=lacks):
        measure(made, [metric.name])


def test_measurements_are_named_in_the_order_asked_for() -> None:
    assert list(measure(of_kind("text"), ["rouge_l", "loss"])) == ["rouge_l", "loss"]


def test_a_metric_over_a_part_of_the_users_is_named_and_directed_like_the_whole() -> None:
    names = ["rouge_l@cold_start", "loss@cvar10"]
    assert list(measure(of_kind("text"), names)) == names
    rouge, loss = metrics_for(names, "text")
    assert (rouge.direction, loss.direction) == ("maximize", "minimize")
    assert (rouge.needs_generation, loss.needs_generation) == (True, False)
    with pytest.raises(SpecError, match="for a rating task, got 'rouge_l@cold_start'"):
        metrics_for(names, "rating")


def test_an_unknown_metric_is_refused_with_a_suggestion() -> None:
    with pytest.raises(SpecError, match=r"got 'rougeL'\n  Did you mean 'rouge_l'\? There are loss"):
        metrics_for(["loss", "rougeL"], "text")
    with pytest.raises(SpecError, match="got 'rougeL@cvar'\n  Did you mean 'rouge_l'"):
        metrics_for(["rougeL@cvar"], "text")
    with pytest.raises(SpecError, match="got 'xyzzy'\n  There are loss, rouge_1"):
        metrics_for(["xyzzy"], "text")

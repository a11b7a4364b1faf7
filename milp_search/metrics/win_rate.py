"""How often a judge prefers our response to a rival's, and whether the judge can be trusted."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import pearsonr, spearmanr

from milp_search.core.errors import MeasurementError, NothingScored
from milp_search.core.judged import HIGHEST, LOWEST, PairScore
from milp_search.core.records import Prediction, Predictions
from milp_search.core.trial import Measurement
from milp_search.metrics.over_users import by_user, mean_over_users

MODEL, OFFLINE = "model", "offline"
"""The kinds of judges; what they say has names of its own and is never mixed up."""


def win_rate(predictions: Predictions) -> Measurement:
    """Returns the share of queries whose answer a model prefers to the rival's.

    A tie is no win; per user over the queries of which both answers have a score, then the mean
    over users who have any. Without some users, `per_user` is empty: their places are unknown to
    who compares trials user by user.

    Source: MiLP, section 4.1.
    """
    return _win_rate(predictions, MODEL)


def win_rate_offline(predictions: Predictions) -> Measurement:
    """Returns the same by the offline judge, which counts shared words and has no opinion."""
    return _win_rate(predictions, OFFLINE)


def judge_unparsable(predictions: Predictions) -> Measurement:
    """Returns the share of the model judge's answers that are no score, of either order."""
    scores = [
        score
        for pair in _pairs(predictions)
        for score in (pair.ours, pair.rival, *(pair.swapped or ()))
    ]
    return Measurement(float(np.mean([score is None for score in scores])), 0.0)


def judge_ties(predictions: Predictions) -> Measurement:
    """Returns the share of equal scores among the pairs that have two."""
    pairs = _decided((pair.ours, pair.rival) for pair in _pairs(predictions))
    return Measurement(_mean([mine == other for mine, other in pairs]), 0.0)


def judge_flipped(predictions: Predictions) -> Measurement:
    """Returns the share of pairs whose winner changes with the order of the judge's prompt.

    Over the pairs that were judged in both orders: position bias.
    """
    changed = [
        _sign(*pair) != _sign(*again)
        for pair, again in _both_orders(predictions)
        if _whole(pair) and _whole(again)
    ]
    return Measurement(_mean(changed), 0.0)


def judge_shift(predictions: Predictions) -> Measurement:
    """Returns how much a score changes, up or down, with the order of the judge's prompt.

    The mean of the changes, without its sign: position bias.
    """
    changes = [
        after - before
        for pair, again in _both_orders(predictions)
        for before, after in zip(pair, again, strict=True)
        if before is not None and after is not None
    ]
    return Measurement(abs(_mean(changes)), 0.0)


def judge_length(predictions: Predictions) -> Measurement:
    """Returns Spearman's correlation of our scores with the words of our responses.

    Without its sign, 0 where either does not vary: length bias.
    """
    pairs = [
        (len((item.generated or "").split()), pair.ours)
        for item, pair in zip(predictions.items, _pairs(predictions), strict=True)
        if pair.ours is not None
    ]
    constant = any(len(set(side)) < 2 for side in zip(*pairs, strict=True)) or not pairs
    value = 0.0 if constant else float(spearmanr(*zip(*pairs, strict=True)).statistic)
    return Measurement(abs(value), 0.0)


_CHECKS = (judge_unparsable, judge_ties, judge_flipped, judge_shift, judge_length)

JUDGE_CHECKS = tuple(check.__name__ for check in _CHECKS)
"""What stands beside every win rate by a model: whether its judge can be trusted."""


def judge_checks(predictions: Predictions) -> dict[str, Measurement]:
    """Returns the model judge's checks by name, without those that have nothing to compare.

    Args:
        predictions: Judged by the model.

    Returns:
        The checks; which are no reason for a trial to fail.
    """
    found = {}
    for check in _CHECKS:
        with suppress(MeasurementError):
            found[check.__name__] = check(predictions)
    return found


@dataclass(frozen=True)
class Agreement:
    """How a judge's scores go with people's.

    Attributes:
        pearson: Pearson's correlation; NaN where one side is constant.
        accuracy: The share of equal scores.
        within_one: The share of scores at most one apart.
        unparsable: How many of the judge's answers were no score.
        count: How many scores were compared.
    """

    pearson: float
    accuracy: float
    within_one: float
    unparsable: int
    count: int


def agreement(judged: Sequence[int | None], human: Sequence[float]) -> Agreement:
    """Returns how scores agree with those of people.

    Args:
        judged: The judge's scores.
        human: People's, in the same order.

    Returns:
        The agreement.

    Raises:
        MeasurementError: No answer of the judge is a score.
    """
    pairs = [
        (score, label) for score, label in zip(judged, human, strict=True) if score is not None
    ]
    if not pairs:
        raise MeasurementError("expected scores of the judge, got none that can be read")
    ours, theirs = (np.asarray(side, dtype=np.float64) for side in zip(*pairs, strict=True))
    gaps = np.abs(ours - np.rint(theirs))
    constant = len(pairs) < 2 or np.ptp(ours) == 0 or np.ptp(theirs) == 0
    return Agreement(
        pearson=math.nan if constant else float(pearsonr(ours, theirs).statistic),
        accuracy=float(np.mean(gaps == 0)),
        within_one=float(np.mean(gaps <= 1)),
        unparsable=len(judged) - len(pairs),
        count=len(pairs),
    )


Scores = tuple[int | None, int | None]


def _win_rate(predictions: Predictions, kind: str) -> Measurement:
    wins: list[float] = []
    asked = 2 * len(predictions.items)
    users = by_user(predictions)
    for _, items in users:
        pairs = _decided(_scores(_pair(item, kind)) for item in items) if items else []
        if pairs:
            wins.append(float(np.mean([mine > other for mine, other in pairs])))
    if not wins:
        raise NothingScored(
            f"expected scores of the judge, got {asked} answers without a pair of whole numbers "
            f"from {LOWEST} to {HIGHEST} among them"
        )
    rate = mean_over_users(wins)
    return rate if len(wins) == len(users) else replace(rate, per_user=())


def _pairs(predictions: Predictions) -> list[PairScore]:
    return [_pair(item, MODEL) for item in predictions.items]


def _pair(item: Prediction, kind: str) -> PairScore:
    if kind not in item.judged:
        raise MeasurementError("expected predictions that were judged, got one that was not")
    return item.judged[kind]


def _both_orders(predictions: Predictions) -> list[tuple[Scores, Scores]]:
    return [
        (_scores(pair), pair.swapped) for pair in _pairs(predictions) if pair.swapped is not None
    ]


def _scores(pair: PairScore) -> Scores:
    return pair.ours, pair.rival


def _whole(pair: Scores) -> bool:
    return None not in pair


def _decided(pairs: Iterable[Scores]) -> list[tuple[int, int]]:
    return [(mine, other) for mine, other in pairs if mine is not None and other is not None]


def _sign(mine: int | None, other: int | None) -> int:
    assert mine is not None
    assert other is not None
    return (mine > other) - (mine < other)


def _mean(values: Sequence[float]) -> float:
    """Returns the mean; raises NothingScored if there is nothing to take it over."""
    if not values:
        raise NothingScored("expected scores of the judge to compare, got none")
    return float(np.mean(values))

"""How often a judge prefers our response to a rival's, and whether the judge can be trusted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import pearsonr, spearmanr

from milp_search.core.errors import MeasurementError
from milp_search.core.judged import Case, Judge
from milp_search.core.trial import Measurement
from milp_search.metrics.over_users import mean_over_users

# ours: enough to see an effect of the order of a point or a tenth of the wins.
_SWAPPED = 100


@dataclass(frozen=True)
class Verdicts:
    """What a judge said of pairs of responses.

    Attributes:
        ours: Scores of our responses, None where the judge's answer was none.
        rival: The rival's, in the same order.
    """

    ours: tuple[int | None, ...]
    rival: tuple[int | None, ...]

    @property
    def unparsable(self) -> int:
        """How many answers were no score."""
        return sum(score is None for score in (*self.ours, *self.rival))

    @property
    def ties(self) -> int:
        """How many pairs have equal scores."""
        return sum(mine == other for mine, other in self.decided())

    def decided(self) -> list[tuple[int, int]]:
        """Returns the pairs of which both have a score."""
        return [
            (mine, other)
            for mine, other in zip(self.ours, self.rival, strict=True)
            if mine is not None and other is not None
        ]


def verdicts(judge: Judge, ours: Sequence[Case], rival: Sequence[Case]) -> Verdicts:
    """Returns a judge's scores of our responses and a rival's to the same queries."""
    found = judge.scores([*ours, *rival])
    return Verdicts(tuple(found[: len(ours)]), tuple(found[len(ours) :]))


def win_rate(found: Verdicts, users: Sequence[str]) -> Measurement:
    """Returns the share of pairs in which our score is the higher one, a tie being no win.

    Per user over their pairs, then the mean over users; pairs without two scores are left out.

    Args:
        found: The scores.
        users: Whose each pair is.

    Returns:
        The share.

    Raises:
        MeasurementError: No pair has two scores.

    Source: MiLP, section 4.1.
    """
    wins: dict[str, list[float]] = {}
    for user, mine, other in zip(users, found.ours, found.rival, strict=True):
        if mine is not None and other is not None:
            wins.setdefault(user, []).append(float(mine > other))
    if not wins:
        raise MeasurementError("expected scores of the judge, got none that can be read")
    return mean_over_users([float(np.mean(own)) for own in wins.values()])


@dataclass(frozen=True)
class Bias:
    """What else than quality moves a judge; NaN where it cannot be told.

    Attributes:
        pairs: How many pairs were judged in both orders.
        shift: Mean change of a score when the response stands before the content.
        flipped: Share of the pairs whose winner changes with it.
        length: Spearman's correlation of a score with the number of words of the response.
    """

    pairs: int
    shift: float
    flipped: float
    length: float


def bias(judge: Judge, ours: Sequence[Case], rival: Sequence[Case], found: Verdicts) -> Bias:
    """Returns a judge's biases; the first hundred pairs are judged a second time.

    Args:
        judge: The judge.
        ours: Our responses.
        rival: The rival's to the same queries.
        found: What the judge said of them.

    Returns:
        The biases.
    """
    count = min(len(ours), _SWAPPED)
    first = Verdicts(found.ours[:count], found.rival[:count])
    again = judge.scores([*ours[:count], *rival[:count]], swapped=True)
    second = Verdicts(tuple(again[:count]), tuple(again[count:]))
    changes = [
        after - before
        for before, after in zip((*first.ours, *first.rival), again, strict=True)
        if before is not None and after is not None
    ]
    return Bias(
        pairs=count,
        shift=float(np.mean(changes)) if changes else math.nan,
        flipped=_flipped(first, second),
        length=_with_length([*ours, *rival], [*found.ours, *found.rival]),
    )


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


def _flipped(first: Verdicts, second: Verdicts) -> float:
    changed = [
        _sign(a, b) != _sign(c, d)
        for a, b, c, d in zip(first.ours, first.rival, second.ours, second.rival, strict=True)
        if None not in (a, b, c, d)
    ]
    return float(np.mean(changed)) if changed else math.nan


def _sign(mine: int | None, other: int | None) -> int:
    assert mine is not None
    assert other is not None
    return (mine > other) - (mine < other)


def _with_length(cases: Sequence[Case], scores: Sequence[int | None]) -> float:
    pairs = [
        (len(case.response.split()), score)
        for case, score in zip(cases, scores, strict=True)
        if score is not None
    ]
    lengths, found = {length for length, _ in pairs}, {score for _, score in pairs}
    if len(lengths) < 2 or len(found) < 2:
        return math.nan
    return float(spearmanr(*zip(*pairs, strict=True)).statistic)

"""One-exchange local search over arms, every evaluation in a batch."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

import numpy as np

from milp_search.core.plan import TrialPlan
from milp_search.search.domain import Candidate, Domain, Point
from milp_search.search.orientation import Array

Score = Callable[[Sequence[Candidate]], Array]

# ours: how many of a point's best exchanges, one a parameter, are also tried together.
_TOGETHER = (2, 3, 4, 6, 8, 12, 16, 24)
# ours: searches start at points that differ in at least so many parameters.
_APART = 3


class ScoreBoard:
    """Scores of candidates, each distinct plan evaluated once; excluded plans score -inf."""

    def __init__(self, domain: Domain, score: Score, excluded: Collection[TrialPlan]):
        self._domain, self._score, self._excluded = domain, score, frozenset(excluded)
        self._scored: dict[TrialPlan, tuple[float, Candidate]] = {}

    @property
    def evaluations(self) -> int:
        """The number of plans evaluated so far."""
        return len(self._scored)

    def scores(self, points: Sequence[Point]) -> list[float]:
        """Returns the points' scores."""
        candidates = [self._domain.candidate(point) for point in points]
        fresh: dict[TrialPlan, Candidate] = {}
        for candidate in candidates:
            plan = candidate.plan
            if plan not in self._scored and plan not in self._excluded:
                fresh.setdefault(plan, candidate)
        if fresh:
            values = self._score([*fresh.values()])
            for (plan, candidate), value in zip(fresh.items(), values, strict=True):
                self._scored[plan] = (float(value), candidate)
        return [self._value(candidate) for candidate in candidates]

    def best(self) -> Candidate | None:
        """Returns the best candidate evaluated, the first of equals; None where there is none."""
        if not self._scored:
            return None
        return max(self._scored.values(), key=lambda entry: entry[0])[1]

    def _value(self, candidate: Candidate) -> float:
        if candidate.plan in self._excluded:
            return -np.inf
        return self._scored[candidate.plan][0]


def climb(
    domain: Domain,
    board: ScoreBoard,
    starts: Sequence[Iterable[Point]],
    *,
    restarts: int,
    evaluations: int,
) -> Candidate | None:
    """Returns the best candidate that local searches reach, or None where all are excluded.

    A search moves to the best of its point's neighbours; the exchanges that raise the score each
    by itself are also tried together, which saves most of the rounds in a space of many
    parameters. Where a search ends, the next start takes its place.

    Args:
        domain: The space.
        board: Scores, kept between calls with the same score.
        starts: Groups of points; the searches start from the best of each group in turn, and far
            enough apart, so that one good region does not take them all.
        restarts: The number of searches at a time.
        evaluations: No new round begins once so many plans are evaluated.

    Returns:
        The best of all evaluated so far, the first of equals.
    """
    supply = _starting_points(board, starts)
    walkers: dict[Point, float] = {}
    while board.evaluations < evaluations:
        while len(walkers) < restarts and (start := next(supply, None)):
            walkers.setdefault(*start)
        if not walkers:
            break
        walkers = _moved(domain, board, walkers)
    return board.best()


def _moved(domain: Domain, board: ScoreBoard, walkers: dict[Point, float]) -> dict[Point, float]:
    """Returns where the walkers that find something better stand next."""
    around = [[*domain.steps(point)] for point in walkers]
    board.scores([point for points in around for point in points])
    for (point, height), points in zip(walkers.items(), around, strict=True):
        points.extend(_combined(point, height, points, board.scores(points)))
    board.scores([point for points in around for point in points])
    moved: dict[Point, float] = {}
    for height, points in zip(walkers.values(), around, strict=True):
        scores = board.scores(points)
        if scores and max(scores) > height:
            moved.setdefault(points[int(np.argmax(scores))], max(scores))
    return moved


def _combined(
    point: Point, height: float, neighbours: Sequence[Point], scores: Sequence[float]
) -> list[Point]:
    """Returns the point with its best exchanges made together, one a parameter."""
    best: dict[int, tuple[float, int]] = {}
    for neighbour, score in zip(neighbours, scores, strict=True):
        axis = next(i for i, (a, b) in enumerate(zip(point, neighbour, strict=True)) if a != b)
        if score > max(height, best.get(axis, (-np.inf, 0))[0]):
            best[axis] = (score, neighbour[axis])
    order = sorted(best, key=lambda axis: -best[axis][0])
    found = []
    for count in _TOGETHER:
        if count <= len(order):
            whole = list(point)
            for axis in order[:count]:
                whole[axis] = best[axis][1]
            found.append(tuple(whole))
    return found


def _starting_points(
    board: ScoreBoard, groups: Sequence[Iterable[Point]]
) -> Iterator[tuple[Point, float]]:
    """Returns the best of each group in turn, leaving out what is close to one before."""
    return _in_turn([_ranked(board, [*dict.fromkeys(group)]) for group in groups])


def _in_turn(ranked: Sequence[list[tuple[Point, float]]]) -> Iterator[tuple[Point, float]]:
    chosen: list[Point] = []
    for place in range(max(map(len, ranked), default=0)):
        for group in ranked:
            if place < len(group) and _is_apart(group[place][0], chosen):
                chosen.append(group[place][0])
                yield group[place]


def _is_apart(point: Point, others: Sequence[Point]) -> bool:
    least = min(_APART, len(point))
    return all(sum(a != b for a, b in zip(point, other, strict=True)) >= least for other in others)


def _ranked(board: ScoreBoard, points: Sequence[Point]) -> list[tuple[Point, float]]:
    scored = zip(points, board.scores(points), strict=True)
    return sorted(scored, key=lambda entry: -entry[1])

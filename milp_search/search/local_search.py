"""One-exchange local search over arms, every evaluation in a batch."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence

import numpy as np

from milp_search.search.domain import Candidate, Domain, Point
from milp_search.search.orientation import Array

Score = Callable[[Sequence[Candidate]], Array]


class ScoreBoard:
    """Scores of candidates, each distinct plan evaluated once; excluded plans score -inf."""

    def __init__(self, domain: Domain, score: Score, excluded: Collection[str]):
        self._domain, self._score, self._excluded = domain, score, frozenset(excluded)
        self._scored: dict[str, tuple[float, Candidate]] = {}

    @property
    def evaluations(self) -> int:
        """The number of plans evaluated so far."""
        return len(self._scored)

    def scores(self, points: Sequence[Point]) -> list[float]:
        """Returns the points' scores."""
        candidates = [self._domain.candidate(point) for point in points]
        fresh: dict[str, Candidate] = {}
        for candidate in candidates:
            name = candidate.fingerprint
            if name not in self._scored and name not in self._excluded:
                fresh.setdefault(name, candidate)
        if fresh:
            values = self._score([*fresh.values()])
            for (fingerprint, candidate), value in zip(fresh.items(), values, strict=True):
                self._scored[fingerprint] = (float(value), candidate)
        return [self._value(candidate) for candidate in candidates]

    def best(self) -> Candidate | None:
        """Returns the best candidate evaluated, the first of equals; None where there is none."""
        if not self._scored:
            return None
        return max(self._scored.values(), key=lambda entry: entry[0])[1]

    def _value(self, candidate: Candidate) -> float:
        if candidate.fingerprint in self._excluded:
            return -np.inf
        return self._scored[candidate.fingerprint][0]


def climb(
    domain: Domain,
    board: ScoreBoard,
    starts: Sequence[Iterable[Point]],
    *,
    restarts: int,
    evaluations: int,
) -> Candidate | None:
    """Returns the best candidate that local searches reach, or None where all are excluded.

    Args:
        domain: The space.
        board: Scores, kept between calls with the same score.
        starts: Groups of points; the searches start from the best of each group in turn, so that
            one good region does not take them all.
        restarts: The number of local searches.
        evaluations: No new round begins once so many plans are evaluated.

    Returns:
        The best of all evaluated so far, the first of equals.
    """
    walkers = _starting_points(board, starts, restarts)
    while walkers and board.evaluations < evaluations:
        around = [[*domain.neighbours(point)] for point, _ in walkers]
        board.scores([point for points in around for point in points])
        moved: dict[Point, float] = {}
        for (_, height), points in zip(walkers, around, strict=True):
            scores = board.scores(points)
            if scores and max(scores) > height:
                moved[points[int(np.argmax(scores))]] = max(scores)
        walkers = [*moved.items()]
    return board.best()


def _starting_points(
    board: ScoreBoard, groups: Sequence[Iterable[Point]], count: int
) -> list[tuple[Point, float]]:
    ranked = [_ranked(board, [*dict.fromkeys(group)]) for group in groups]
    chosen: dict[Point, float] = {}
    for place in range(max(map(len, ranked), default=0)):
        for group in ranked:
            if place < len(group) and len(chosen) < count:
                chosen.setdefault(*group[place])
    return [*chosen.items()]


def _ranked(board: ScoreBoard, points: Sequence[Point]) -> list[tuple[Point, float]]:
    scored = zip(points, board.scores(points), strict=True)
    return sorted(scored, key=lambda entry: -entry[1])

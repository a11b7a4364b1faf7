from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from milp_search.search.domain import Candidate, Domain
from milp_search.search.local_search import ScoreBoard, climb
from milp_search.search.orientation import Array

from .small_space import parameters_of, plan_of, small_space


def small_domain() -> Domain:
    return Domain(small_space().parameters, plan_of, {"trainable_params": parameters_of})


def largest(candidates: Sequence[Candidate]) -> Array:
    return np.array([one.exact[0] for one in candidates])


def test_climbing_reaches_the_peak_of_a_monotone_score() -> None:
    domain = small_domain()
    board = ScoreBoard(domain, largest, ())
    # One module of the smallest rank, every layer open; an empty mask would be a plateau.
    start = [(1, 0, 1, 1, 1, 0, 0, 0)]
    best = climb(domain, board, [start, []], restarts=2, evaluations=10_000)
    assert best is not None
    # Six modules of rank 32 at 100 parameters a rank.
    assert best.exact[0] == 100.0 * 6 * 32


def test_excluded_plans_are_never_the_best() -> None:
    domain = small_domain()
    top = domain.candidate(tuple(size - 1 for size in domain.sizes))
    board = ScoreBoard(domain, largest, {top.fingerprint})
    board.scores([*domain.points()])
    best = board.best()
    assert best is not None
    assert best.fingerprint != top.fingerprint
    assert board.scores([domain.point(top.arm) or ()]) == [-np.inf]


def test_each_plan_is_evaluated_once() -> None:
    seen: list[str] = []

    def score(candidates: Sequence[Candidate]) -> Array:
        seen.extend(one.fingerprint for one in candidates)
        return largest(candidates)

    domain = small_domain()
    board = ScoreBoard(domain, score, ())
    for _ in range(2):
        board.scores([*domain.points()])
    assert len(seen) == len(set(seen)) == board.evaluations


def test_no_round_begins_beyond_the_budget() -> None:
    domain = small_domain()
    board = ScoreBoard(domain, largest, ())
    climb(domain, board, [[(0,) * len(domain.sizes)]], restarts=1, evaluations=1)
    assert board.evaluations == 1


def test_nothing_to_score_gives_nothing() -> None:
    domain = small_domain()
    assert climb(domain, ScoreBoard(domain, largest, ()), [], restarts=1, evaluations=9) is None


def test_the_first_of_equal_scores_wins() -> None:
    domain = small_domain()
    board = ScoreBoard(domain, lambda candidates: np.zeros(len(candidates)), ())
    points = [*domain.points()]
    board.scores(points)
    best = board.best()
    assert best is not None
    assert best.arm == domain.candidate(points[0]).arm
    assert board.scores(points[:2]) == pytest.approx([0.0, 0.0])

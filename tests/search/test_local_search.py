from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from milp_search.search.domain import Candidate, Domain
from milp_search.search.local_search import ScoreBoard, _starting_points, climb
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
    board = ScoreBoard(domain, largest, {top.plan})
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


def test_exchanges_that_help_alone_are_tried_together() -> None:
    domain = small_domain()
    rounds: list[int] = []

    def score(candidates: Sequence[Candidate]) -> Array:
        rounds.append(len(candidates))
        return np.array([float(sum(one.plan.adapter.ranks)) for one in candidates])

    board = ScoreBoard(domain, score, ())
    # From one module of the smallest rank to six of the largest: two parameters, several steps.
    best = climb(domain, board, [[(1, 0, 1, 1, 1, 0, 0, 0)]], restarts=1, evaluations=10_000)
    assert best is not None
    assert best.plan.adapter.total_rank == 6 * 32
    # The start; neighbours and combinations of (1, 0) and of what is found; nothing new then.
    assert len(rounds) <= 7


def test_searches_start_apart_from_each_other() -> None:
    domain = small_domain()
    point = (3, 1, 1, 1, 1, 0, 0, 0)
    board = ScoreBoard(domain, lambda candidates: np.zeros(len(candidates)), ())
    near, far = (3, 1, 1, 1, 1, 0, 1, 1), (3, 1, 0, 0, 0, 0, 0, 0)
    started = [start for start, _ in _starting_points(board, [[point, near, far]])]
    assert started == [point, far]


def test_where_a_search_ends_the_next_start_takes_over() -> None:
    domain = small_domain()

    def score(candidates: Sequence[Candidate]) -> Array:
        """A lonely peak that no neighbour hints at, and a plateau elsewhere."""
        return np.array([float(one.exact[0] == 100.0 * 5 * 32) for one in candidates])

    board = ScoreBoard(domain, score, ())
    starts = [[(0, 0, 0, 0, 0, 0, 0, 0), (1, 1, 1, 1, 1, 1, 1, 1), (6, 2, 0, 0, 0, 1, 2, 1)]]
    climb(domain, board, starts, restarts=1, evaluations=10_000)
    few = board.evaluations
    alone = ScoreBoard(domain, score, ())
    climb(domain, alone, [starts[0][:1]], restarts=1, evaluations=10_000)
    assert alone.evaluations < few

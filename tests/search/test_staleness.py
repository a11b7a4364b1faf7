from __future__ import annotations

import numpy as np
import pytest

from milp_search.search.fit_state import MetricState
from milp_search.search.orientation import Array
from milp_search.search.saas_likelihood import SaasDensity
from milp_search.search.staleness import improbability, outdated, schedule

RNG = np.random.default_rng(0)


def state_of(due: Array, surprise: float, scored: float) -> MetricState:
    chains = len(due)
    empty = np.empty(0, dtype=np.uint64)
    return MetricState(
        np.zeros((chains, 7)), np.ones(chains), np.eye(7), np.zeros(chains), empty, due,
        surprise, scored,
    )  # fmt: skip


def density_of(rows: int) -> SaasDensity:
    return SaasDensity(RNG.random((rows, 3)), RNG.standard_normal(rows), None)


def test_chains_are_due_one_by_one_while_rows_grow_by_half() -> None:
    due = schedule(np.zeros(4), np.ones(4, dtype=np.bool_), 16, 1.5)
    assert due == pytest.approx([17.7, 19.6, 21.7, 24.0], abs=0.05)


def test_a_chain_that_started_is_due_after_all_others() -> None:
    due = np.array([20.0, 22.0, 24.0, 27.0])
    after = schedule(due, np.array([True, False, False, False]), 20, 1.5**4)
    assert after.tolist() == [27.0 * 1.5, 22.0, 24.0, 27.0]


@pytest.mark.parametrize(("rows", "first"), [(19, 0), (21, 1), (30, 2)])
def test_two_chains_start_at_a_time_at_most_the_longest_due_first(rows: int, first: int) -> None:
    due = np.array([27.0, 20.0, 24.0, 22.0])
    _, chosen, why = outdated(state_of(due, 0.0, 0.0), density_of(rows), 1.5)
    assert np.flatnonzero(chosen).tolist() == [[], [1], [1, 3]][first]
    assert (why is None) == (first == 0)


def test_surprise_is_forgotten_with_the_chains_that_were_surprised() -> None:
    state, _, _ = outdated(
        state_of(np.array([10.0, 99.0, 99.0, 99.0]), 8.0, 8.0), density_of(12), 1.5
    )
    assert (state.surprise, state.scored) == (6.0, 6.0)


def test_an_alarm_makes_all_chains_due_and_forgets_the_surprise() -> None:
    before = state_of(np.full(4, 99.0), 60.0, 10.0)
    assert improbability(before) < 1e-3
    state, chosen, why = outdated(before, density_of(12), 1.5)
    assert chosen.tolist() == [True, True, False, False]
    assert "probability" in str(why)
    assert (state.surprise, state.scored) == (0.0, 0.0)
    assert state.due[2:].tolist() == [12.0, 12.0]


def test_a_few_surprising_rows_are_no_alarm() -> None:
    state, chosen, _ = outdated(state_of(np.full(4, 99.0), 60.0, 7.0), density_of(12), 1.5)
    assert not chosen.any()
    assert state.scored == 7.0

from __future__ import annotations

import numpy as np
import pytest

from milp_search.core.arm import Arm
from milp_search.core.trial import Failure, Trial, TrialStatus
from milp_search.search.feasibility import is_infeasible, learn_feasibility

INPUTS = np.random.default_rng(0).random((60, 12))
PROBES = np.random.default_rng(1).random((500, 12))


def probabilities(failed: np.ndarray) -> np.ndarray:
    learned = learn_feasibility(INPUTS[~failed], INPUTS[failed])
    return np.exp(learned.log_probability(PROBES))


def test_while_nothing_failed_success_is_certain() -> None:
    assert (probabilities(np.zeros(60, dtype=bool)) == 1.0).all()


def test_one_quantity_that_decides_is_found_among_many() -> None:
    found = probabilities(INPUTS[:, 7] > 0.75)
    assert found[PROBES[:, 7] > 0.85].max() < 0.3
    assert found[PROBES[:, 7] < 0.6].min() > 0.8


def test_a_weighted_sum_that_decides_is_found_among_many() -> None:
    def load(inputs: np.ndarray) -> np.ndarray:
        return np.asarray(0.5 * inputs[:, 2] + 0.3 * inputs[:, 7] + 0.2 * inputs[:, 9])

    learned = learn_feasibility(INPUTS[load(INPUTS) <= 0.6], INPUTS[load(INPUTS) > 0.6])
    found = np.exp(learned.log_probability(PROBES))
    assert found[load(PROBES) > 0.7].max() < 0.1
    assert found[load(PROBES) < 0.5].min() > 0.9


def test_a_threshold_met_again_and_again_is_believed() -> None:
    spread = np.linspace(0.0, 1.0, 20)
    again = np.array([0.51, 0.52, 0.53, 0.52, 0.51])
    inputs = np.concatenate([spread, again])[:, None]
    failed = inputs[:, 0] > 0.5
    learned = learn_feasibility(inputs[~failed], inputs[failed])
    chance = np.exp(learned.log_probability(np.array([[0.4], [0.6]])))
    assert chance[0] > 0.85
    assert chance[1] < 0.1


def test_a_product_that_decides_is_followed_roughly() -> None:
    failed = INPUTS[:, 2] * INPUTS[:, 7] > 0.3
    found = probabilities(failed)
    truth = PROBES[:, 2] * PROBES[:, 7] > 0.3
    assert ((found < 0.5) == truth).mean() > 0.85


def test_a_single_failure_rules_nothing_out() -> None:
    found = probabilities(np.arange(60) == 3)
    assert found.min() > 0.8
    assert found.max() < 1.0


def test_failures_without_a_cause_lower_all_about_alike() -> None:
    found = probabilities(np.random.default_rng(2).random(60) < 0.3)
    assert 0.35 < found.min() < found.max() < 0.9


def test_many_failures_leave_hope() -> None:
    found = probabilities(np.arange(60) > 1)
    assert (found > 0.005).all()


def test_the_order_of_trials_does_not_matter() -> None:
    failed = INPUTS[:, 7] > 0.75
    forth = learn_feasibility(INPUTS[~failed], INPUTS[failed])
    back = learn_feasibility(INPUTS[~failed][::-1], INPUTS[failed][::-1])
    assert forth.log_probability(PROBES) == pytest.approx(back.log_probability(PROBES), abs=1e-9)


def test_repeated_and_contradicting_trials_are_served() -> None:
    same = np.tile(INPUTS[:1], (6, 1))
    learned = learn_feasibility(same[:3], same[3:])
    assert np.exp(learned.log_probability(INPUTS[:1])) == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize(
    ("status", "kind", "blamed"),
    [
        (TrialStatus.FAILED, "out_of_memory", True),
        (TrialStatus.FAILED, "non_finite", True),
        (TrialStatus.FAILED, "lost_worker", False),
        (TrialStatus.FAILED, None, True),
        (TrialStatus.ABANDONED, None, False),
        (TrialStatus.COMPLETED, None, False),
    ],
)
def test_only_failures_of_the_plan_count(
    status: TrialStatus, kind: str | None, blamed: bool
) -> None:
    failure = None if kind is None else Failure(kind, "why")
    assert is_infeasible(Trial(0, Arm({}), status=status, failure=failure)) is blamed

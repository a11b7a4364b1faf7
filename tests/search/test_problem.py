from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from milp_search.core.errors import SpecError
from milp_search.core.trial import Objective
from milp_search.search.constraints import OutcomeConstraint
from milp_search.search.domain import Domain
from milp_search.search.initial_design import UnseenPlans, sobol_points
from milp_search.search.observations import observe
from milp_search.search.problem import Problem, pose, watched
from milp_search.search.proposal import Proposal

from .small_space import LOSS, ROUGE, SIZE, TINY, completed, parameters_of, plan_of, small_space


def layers_of(arm: object) -> float:
    return float(len(plan_of(arm).adapter.active_layers))  # type: ignore[arg-type]


def posed(
    *constraints: OutcomeConstraint, objectives: tuple[Objective, ...] = (SIZE, LOSS)
) -> tuple[Problem, Domain]:
    closed = {"layers": layers_of, "trainable_params": parameters_of}
    domain = Domain(small_space().parameters, plan_of, closed)
    found = UnseenPlans(domain, sobol_points, 0).first(8, set())
    trials = completed([Proposal(one.arm, "sobol") for one in found])
    observed = observe(trials, domain, watched(objectives, constraints, domain))
    return pose(domain, observed, objectives, TINY, constraints), domain


def test_measured_objectives_come_first_and_are_standardised() -> None:
    problem, _ = posed()
    assert problem.measured == 1
    assert problem.outcomes.shape == (8, 1)
    assert problem.outcomes.mean() == pytest.approx(0.0, abs=1e-12)
    assert problem.outcomes.std(ddof=1) == pytest.approx(1.0)


def test_smaller_is_better_becomes_larger_is_better() -> None:
    problem, domain = posed()
    candidates = UnseenPlans(domain, sobol_points, 1).first(5, set())
    sizes = np.array([one.exact[1] for one in candidates])
    exact = problem.exact(candidates)
    assert exact.shape == (5, 1)
    # On one line with the reference of 10,000 parameters.
    slope = (exact[0, 0] - problem.reference[1]) / (10_000 - sizes[0])
    assert slope > 0
    assert exact[:, 0] == pytest.approx(problem.reference[1] + slope * (10_000 - sizes))


def test_a_constraint_on_an_objective_is_its_reference() -> None:
    plain, _ = posed(objectives=(SIZE, replace(LOSS, reference=2.0)))
    bounded, _ = posed(OutcomeConstraint("loss", "<=", 2.0))
    assert bounded.reference == pytest.approx(plain.reference)
    assert len(bounded.bounds) == 0
    loose, _ = posed(OutcomeConstraint("loss", "<=", 99.0))
    assert loose.reference == pytest.approx(posed()[0].reference)


def test_a_constraint_against_an_objective_s_direction_is_refused() -> None:
    with pytest.raises(SpecError, match="turn the relation"):
        posed(OutcomeConstraint("loss", ">=", 2.0))


def test_another_measured_metric_is_modelled_with_its_bound() -> None:
    problem, _ = posed(OutcomeConstraint("rouge_l", ">=", 0.25))
    assert problem.measured == 1
    assert problem.outcomes.shape == (8, 2)
    assert len(problem.noise) == 2
    as_objective, _ = posed(objectives=(LOSS, replace(ROUGE, reference=0.25)))
    assert problem.bounds == pytest.approx(as_objective.reference[1:])
    assert len(problem.reference) == 2


def test_a_closed_form_is_bounded_exactly() -> None:
    problem, domain = posed(OutcomeConstraint("layers", "<=", 1))
    assert problem.outcomes.shape == (8, 1)
    candidates = UnseenPlans(domain, sobol_points, 1).first(9, set())
    expected = [max(0.0, one.exact[0] - 1.0) for one in candidates]
    assert problem.excess(candidates) == pytest.approx(expected)
    assert {*problem.excess(candidates).tolist()} == {0.0, 1.0}


def test_without_closed_forms_the_exact_columns_are_none() -> None:
    problem, domain = posed(objectives=(LOSS, ROUGE))
    candidates = UnseenPlans(domain, sobol_points, 1).first(3, set())
    assert problem.exact(candidates).shape == (3, 0)
    assert (problem.excess(candidates) == 0.0).all()

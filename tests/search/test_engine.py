from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from milp_search.core.errors import SpecError
from milp_search.core.trial import Failure, Measurement, Objective, Trial, TrialStatus
from milp_search.search import chooser
from milp_search.search.constraints import OutcomeConstraint
from milp_search.search.domain import Candidate, Domain
from milp_search.search.engine import suggest
from milp_search.search.initial_design import UnseenPlans, random_points, sobol_points
from milp_search.search.orientation import Array
from milp_search.search.pareto import hypervolume, objective_values
from milp_search.search.presets import EngineSettings
from milp_search.search.proposal import Proposal
from milp_search.search.saas_fit import FitError

from .small_space import LOSS, ROUGE, SIZE, TINY, completed, parameters_of, plan_of, small_space

OURS = replace(TINY, surrogate="gp", acquisition="nehvi", evaluations=300)
MAE = Objective("mae", "minimize", 2.0)


def domain_of(objectives: Sequence[Objective]) -> Domain:
    names = {one.metric for one in objectives}
    exact = {"trainable_params": parameters_of} if "trainable_params" in names else {}
    return Domain(small_space().parameters, plan_of, exact)


def history(count: int = 10, seed: int = 0) -> list[Trial]:
    found = UnseenPlans(domain_of([SIZE]), sobol_points, seed).first(count, set())
    trials = completed([Proposal(one.arm, "sobol") for one in found])
    return [
        replace(one, measurements={**one.measurements, "mae": Measurement(1.0 / (1 + one.index))})
        for one in trials
    ]


def chosen(
    trials: Sequence[Trial],
    objectives: Sequence[Objective] = (LOSS, SIZE),
    *,
    count: int = 2,
    seed: int = 0,
    numbers: EngineSettings = OURS,
) -> list[Candidate]:
    return suggest(
        domain_of(objectives), trials, objectives, numbers, seed=seed, count=count
    ).candidates


def names(candidates: Sequence[Candidate]) -> list[str]:
    return [one.fingerprint for one in candidates]


@pytest.mark.slow
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 1000),
    statuses=st.lists(st.sampled_from([*TrialStatus]), min_size=1, max_size=12),
    kinds=st.lists(st.sampled_from(["out_of_memory", "lost_worker", "told"]), min_size=12),
    count=st.integers(1, 3),
)
def test_candidates_are_new_plans_of_the_space_whatever_happened(
    seed: int, statuses: list[TrialStatus], kinds: list[str], count: int
) -> None:
    found = UnseenPlans(domain_of([SIZE]), random_points, seed).first(len(statuses) + 2, set())
    trials = completed([Proposal(one.arm, "random") for one in found])
    for place, (status, kind) in enumerate(zip(statuses, kinds, strict=False)):
        failure = Failure(kind, "why") if status is TrialStatus.FAILED else None
        trials[place] = replace(trials[place], status=status, failure=failure)
    candidates = chosen(trials, count=count, seed=seed)
    assert all(small_space().contains(one.arm) for one in candidates)
    plans = {plan_of(one.arm) for one in trials} | {one.plan for one in candidates}
    assert len(plans) == len(trials) + count


@pytest.mark.parametrize("surrogate", ["gp", "map_saas", "saas"])
def test_the_same_seed_and_trials_in_any_order_give_the_same_candidates(surrogate: str) -> None:
    numbers = replace(OURS, surrogate=surrogate)  # type: ignore[arg-type]
    trials = history()
    shuffled = random.Random(0).sample(trials, len(trials))
    first = chosen(trials, count=3, numbers=numbers)
    assert names(first) == names(chosen(shuffled, count=3, numbers=numbers))


@pytest.mark.parametrize(
    "objectives",
    [
        (LOSS,),
        (LOSS, SIZE),
        (LOSS, ROUGE),
        (LOSS, ROUGE, SIZE),
        (LOSS, ROUGE, MAE),
        (LOSS, ROUGE, SIZE, MAE),
    ],
    ids=lambda objectives: "-".join(one.metric for one in objectives),
)
def test_one_to_four_objectives_are_served(objectives: tuple[Objective, ...]) -> None:
    assert len({*names(chosen(history(), objectives, count=3))}) == 3


def test_pending_plans_are_known_and_not_chosen() -> None:
    trials = history()
    first = chosen(trials, count=1)[0]
    for status in (TrialStatus.ASKED, TrialStatus.RUNNING):
        waiting = Trial(len(trials), first.arm, status=status)
        after = chosen([*trials, waiting], count=1)
        assert names(after) != [first.fingerprint]


def test_several_at_once_are_as_one_by_one_with_the_former_pending() -> None:
    trials = history()
    two = chosen(trials, count=2)
    waiting = Trial(len(trials), two[0].arm, status=TrialStatus.RUNNING)
    # The starts differ by the step; a space this small is searched well from any.
    alone = chosen([*trials, waiting], count=1, numbers=replace(OURS, evaluations=5000))
    both = chosen(trials, count=2, numbers=replace(OURS, evaluations=5000))
    assert names(alone) == names(both)[1:]


def test_constant_objectives_and_repeated_observations_are_served() -> None:
    flat = {"loss": Measurement(1.0, 0.0), "rouge_l": Measurement(0.5, 0.0)}
    trials = [replace(one, measurements=flat) for one in history()]
    again = [replace(one, index=one.index + len(trials)) for one in trials]
    for surrogate in ("gp", "saas"):
        numbers = replace(OURS, surrogate=surrogate)
        assert len(chosen([*trials, *again], (LOSS, ROUGE), numbers=numbers)) == 2


def test_repeated_observations_that_disagree_are_served() -> None:
    trials = history()
    again = [
        replace(one, index=one.index + len(trials), measurements={"loss": Measurement(5.0, 0.0)})
        for one in trials[:4]
    ]
    assert len(chosen([*trials, *again])) == 2


def test_failures_of_large_plans_lead_to_smaller_ones() -> None:
    """Rank in the last layer improves the loss; what fails has more than 3,000 parameters."""
    trials = [
        one
        if parameters_of(one.arm) <= 3000
        else replace(
            one,
            status=TrialStatus.FAILED,
            measurements={},
            failure=Failure("out_of_memory", "why"),
        )
        for one in history(40)
    ]
    spared = [replace(one, status=TrialStatus.ABANDONED) if one.failure else one for one in trials]
    learned = chosen(trials, (LOSS, ROUGE), count=4)
    ignorant = chosen(spared, (LOSS, ROUGE), count=4)
    fitting = [sum(parameters_of(one.arm) <= 3000 for one in some) for some in (learned, ignorant)]
    assert fitting[0] > fitting[1]


def test_a_bound_on_a_closed_form_is_always_kept() -> None:
    bound = OutcomeConstraint("trainable_params", "<=", 2500.0)
    domain = Domain(small_space().parameters, plan_of, {"trainable_params": parameters_of})
    found = suggest(
        domain, history(), [LOSS, ROUGE], OURS, seed=0, count=6, constraints=[bound]
    ).candidates
    assert len(found) == 6
    assert all(one.exact[0] <= 2500.0 for one in found)


def test_a_bound_on_a_closed_form_is_kept_where_nothing_else_is_within_reach() -> None:
    # A ROUGE-L that varies by 1e-8 lies millions of standard deviations below its bound.
    trials = [
        replace(
            one,
            measurements={
                "loss": one.measurements["loss"],
                "rouge_l": Measurement(0.5 + 1e-7 * one.measurements["rouge_l"].mean, 1e-9),
            },
        )
        for one in history()
    ]
    bounds = [
        OutcomeConstraint("trainable_params", "<=", 2500.0),
        OutcomeConstraint("rouge_l", ">=", 0.9),
    ]
    domain = Domain(small_space().parameters, plan_of, {"trainable_params": parameters_of})
    found = suggest(domain, trials, [LOSS], OURS, seed=0, count=4, constraints=bounds).candidates
    assert len(found) == 4
    assert all(one.exact[0] <= 2500.0 for one in found)


def test_a_bound_on_a_closed_form_is_kept_where_no_plan_reaches_another_s_reference() -> None:
    # All plans take about 5 seconds, the larger ones a millionth less; a second is wanted.
    bound = OutcomeConstraint("trainable_params", "<=", 2500.0)
    objectives = [LOSS, Objective("seconds", "minimize", 1.0)]
    exact = {
        "trainable_params": parameters_of,
        "seconds": lambda arm: 5.0 - 1e-9 * parameters_of(arm),
    }
    domain = Domain(small_space().parameters, plan_of, exact)
    found = suggest(
        domain, history(), objectives, OURS, seed=0, count=4, constraints=[bound]
    ).candidates
    assert len(found) == 4
    assert all(one.exact[0] <= 2500.0 for one in found)


def test_a_bound_on_a_measured_metric_moves_the_choice_to_its_side() -> None:
    # The loss falls with the last layer's rank, ROUGE-L with retrieval and the first layer's.
    domain = domain_of([LOSS])
    trials = history(24)
    bound = OutcomeConstraint("rouge_l", ">=", 0.33)
    found = suggest(domain, trials, [LOSS], OURS, seed=0, count=3, constraints=[bound]).candidates
    assert all(one.plan.retrieved_items == 2 for one in found)


def test_botorch_s_functions_take_no_constraints() -> None:
    numbers = replace(OURS, acquisition="qlognehvi")
    bound = OutcomeConstraint("rouge_l", ">=", 0.3)
    with pytest.raises(SpecError, match="nehvi"):
        suggest(domain_of([LOSS]), history(), [LOSS], numbers, seed=0, count=1, constraints=[bound])


def test_a_fit_goes_on_from_the_state_of_the_last() -> None:
    numbers = replace(OURS, surrogate="saas")
    trials, domain = history(12), domain_of([SIZE])
    first = suggest(domain, trials[:11], [LOSS, SIZE], numbers, seed=0, count=1)
    assert first.state is not None
    warm = [
        suggest(domain, trials, [LOSS, SIZE], numbers, seed=1, count=1, state=first.state)
        for _ in range(2)
    ]
    assert names(warm[0].candidates) == names(warm[1].candidates)
    plain = suggest(domain, trials, [LOSS, SIZE], OURS, seed=1, count=1)
    assert plain.state is None


def test_a_fit_that_fails_gives_way_to_map_saas_and_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise FitError("expected a finite density at one of 100 dispersed starts, got none")

    monkeypatch.setattr(chooser, "fit", fail)
    assert len(chosen(history(), numbers=replace(OURS, surrogate="saas"))) == 2
    assert "map_saas" in caplog.text


def test_the_front_grows_with_every_few_trials() -> None:
    objectives = [LOSS, ROUGE, SIZE]
    trials = history(8)
    before = hypervolume(objective_values_of(trials, objectives), objectives)
    for step in range(3):
        found = chosen(trials, objectives, count=2, seed=step)
        trials += completed([Proposal(one.arm, "nehvi") for one in found], first=len(trials))
    assert hypervolume(objective_values_of(trials, objectives), objectives) > 1.1 * before


def objective_values_of(trials: Sequence[Trial], objectives: Sequence[Objective]) -> Array:
    whole = [
        replace(
            one,
            measurements={
                **one.measurements,
                "trainable_params": Measurement(parameters_of(one.arm)),
            },
        )
        for one in trials
    ]
    return objective_values(whole, objectives)

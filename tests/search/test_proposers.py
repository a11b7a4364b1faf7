from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from milp_search.core.arm import Arm
from milp_search.core.errors import SpecError
from milp_search.core.trial import Measurement, Objective, Trial, TrialStatus
from milp_search.search import chooser, engine, presets
from milp_search.search import saas as saas_module
from milp_search.search.constraints import OutcomeConstraint, parse_constraint
from milp_search.search.domain import Domain
from milp_search.search.proposal import Proposal, Proposer, SpaceExhausted
from milp_search.search.proposers import PROPOSERS, Setting, make_proposer
from milp_search.search.saas_fit import FitError
from milp_search.space.parameter import Parameter
from milp_search.space.search_space import SearchSpace, configure

from .small_space import (
    LOSS,
    ROUGE,
    SIZE,
    TINY,
    completed,
    parameters_of,
    plan_of,
    small_space,
)

MODELS = [name for name in sorted(PROPOSERS) if name not in ("sobol", "random", "grid")]


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(presets.PRESETS, "tiny", TINY)
    monkeypatch.setitem(
        presets.PRESETS,
        "tiny_paper",
        replace(TINY, outcome_transform="copula", acquisition="qnehvi"),
    )


def proposer(
    name: str,
    objectives: Sequence[Objective] = (LOSS, ROUGE, SIZE),
    seed: int = 0,
    preset: str = "tiny",
    space: SearchSpace | None = None,
    constraints: Sequence[OutcomeConstraint] = (),
) -> Proposer:
    return make_proposer(
        name,
        space=space or small_space(),
        objectives=objectives,
        seed=seed,
        initial_trials=6,
        preset=preset,
        exact={"trainable_params": parameters_of},
        constraints=constraints,
    )


def asked(name: str, trials: Sequence[Trial], count: int = 2, seed: int = 0) -> list[Arm]:
    one = proposer(name, seed=seed)
    one.observe(trials)
    return [proposal.arm for proposal in one.propose(count)]


def initial(count: int = 8, sem: float | None = 0.01) -> list[Trial]:
    return completed(proposer("sobol").propose(count), sem=sem)


def fingerprints(arms: Sequence[Arm]) -> list[str]:
    return [plan_of(arm).fingerprint() for arm in arms]


@pytest.mark.parametrize("name", sorted(PROPOSERS))
def test_proposals_are_new_plans_of_the_space(name: str) -> None:
    trials = initial()
    trials[1] = replace(trials[1], status=TrialStatus.FAILED, measurements={})
    trials[2] = replace(trials[2], status=TrialStatus.RUNNING, measurements={})
    trials[3] = replace(trials[3], status=TrialStatus.ABANDONED, measurements={})
    arms = asked(name, trials, count=3)
    assert all(small_space().contains(arm) for arm in arms)
    assert len({*fingerprints(arms), *fingerprints([one.arm for one in trials])}) == 3 + 8


@pytest.mark.parametrize("name", sorted(PROPOSERS))
def test_the_same_trials_in_any_order_give_the_same_proposals(name: str) -> None:
    trials = initial()
    shuffled = random.Random(0).sample(trials, len(trials))
    assert asked(name, trials) == asked(name, shuffled)


def test_another_seed_gives_other_proposals() -> None:
    trials = initial()
    assert asked("gp_nehvi", trials, seed=0) != asked("gp_nehvi", trials, seed=1)


@pytest.mark.parametrize("name", MODELS)
def test_a_sobol_design_comes_first(name: str) -> None:
    one = proposer(name)
    one.observe(initial(4))
    proposals = one.propose(3)
    assert [proposal.origin for proposal in proposals] == ["sobol", "sobol", name]
    design = proposer("sobol").propose(6)
    assert [one.arm for one in proposals[:2]] == [one.arm for one in design[4:]]


@pytest.mark.parametrize("statuses", [["failed"] * 6, ["running"] * 5 + ["completed"]])
def test_sobol_goes_on_while_fewer_than_two_trials_are_completed(statuses: list[str]) -> None:
    trials = [
        replace(trial, status=TrialStatus(status))
        for trial, status in zip(initial(6), statuses, strict=True)
    ]
    one = proposer("gp_nehvi")
    one.observe(trials)
    proposals = one.propose(2)
    assert [proposal.origin for proposal in proposals] == ["sobol", "sobol"]
    design = proposer("sobol").propose(8)
    assert [one.arm for one in proposals] == [one.arm for one in design[6:]]


@pytest.mark.parametrize("lacking", [7, 8])
def test_sobol_goes_on_while_fewer_than_two_trials_carry_every_metric(lacking: int) -> None:
    trials = [
        replace(one, measurements={"loss": one.measurements["loss"]})
        if one.index < lacking
        else one
        for one in initial()
    ]
    one = proposer("gp_nehvi")
    one.observe(trials)
    assert [proposal.origin for proposal in one.propose(2)] == ["sobol", "sobol"]


def test_pending_plans_change_what_is_proposed() -> None:
    trials = initial()
    first = asked("gp_nehvi", trials, count=1)
    waiting = Trial(len(trials), first[0], status=TrialStatus.RUNNING)
    assert fingerprints(asked("gp_nehvi", [*trials, waiting], count=1)) != fingerprints(first)


@pytest.mark.parametrize(
    "objectives",
    [
        [LOSS],
        [LOSS, ROUGE],
        [LOSS, SIZE],
        [Objective("loss", "minimize"), Objective("rouge_l", "maximize")],
        [LOSS, ROUGE, SIZE, Objective("mae", "minimize", 2.0)],
    ],
    ids=lambda objectives: "-".join(one.metric for one in objectives),
)
@pytest.mark.parametrize("preset", ["tiny", "tiny_paper"])
def test_one_to_four_objectives_are_served(objectives: list[Objective], preset: str) -> None:
    trials = [
        replace(one, measurements={**one.measurements, "mae": Measurement(1.0 / (1 + one.index))})
        for one in initial()
    ]
    one = proposer("gp_nehvi", objectives, preset=preset)
    one.observe(trials)
    assert len(one.propose(2)) == 2


@pytest.mark.parametrize("name", MODELS)
def test_constant_objectives_and_repeated_observations_are_served(name: str) -> None:
    flat = {"loss": Measurement(1.0, 0.0), "rouge_l": Measurement(0.5, 0.0)}
    trials = [replace(one, measurements=flat) for one in initial()]
    again = [replace(one, index=one.index + len(trials)) for one in trials]
    assert len(asked(name, [*trials, *again])) == 2


@pytest.mark.slow
def test_noise_that_is_not_known_is_inferred() -> None:
    assert len(asked("saas_nehvi", initial(sem=None))) == 2


def test_better_arms_than_the_design_are_found() -> None:
    trials = initial()
    best = min(one.measurements["loss"].mean for one in trials)
    one = proposer("gp_nehvi", [LOSS])
    for _ in range(4):
        one.observe(trials)
        trials += completed(one.propose(2), first=len(trials))
    found = min(one.measurements["loss"].mean for one in trials)
    assert found < best


def one_axis() -> SearchSpace:
    settings = {"lora_rank": [1, 2, 4], "time_splits": 1, "retrieved_items": 0, "communities": 1}
    return SearchSpace("ranks", 2, configure(settings, 2))


@pytest.mark.parametrize("name", ["sobol", "random", "grid", "gp_nehvi"])
def test_an_exhausted_space_says_so(name: str) -> None:
    one = proposer(name, [LOSS], space=one_axis())
    proposals = one.propose(5)
    assert len(proposals) == 3
    done = [
        Trial(
            index,
            proposal.arm,
            status=TrialStatus.COMPLETED,
            measurements={"loss": Measurement(1.0 + index)},
        )
        for index, proposal in enumerate(proposals)
    ]
    one.observe(done)
    with pytest.raises(SpaceExhausted):
        one.propose(1)
    six = [*done, *(replace(trial, index=3 + trial.index) for trial in done)]
    one.observe(six)
    with pytest.raises(SpaceExhausted):
        one.propose(1)


def test_the_design_may_take_the_last_plan() -> None:
    space = one_axis()
    one = make_proposer(
        "gp_nehvi", space=space, objectives=[LOSS], seed=0, initial_trials=3, preset="tiny"
    )
    first = one.propose(2)
    done = [
        Trial(
            index,
            proposal.arm,
            status=TrialStatus.COMPLETED,
            measurements={"loss": Measurement(1.0 + index)},
        )
        for index, proposal in enumerate(first)
    ]
    one.observe(done)
    assert [proposal.origin for proposal in one.propose(4)] == ["sobol"]


def test_where_the_engine_finds_no_plan_the_next_ones_of_a_sequence_keep_known_bounds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(engine, "suggest", lambda *_, **__: engine.Suggestion([], None))
    one = proposer("gp_nehvi", constraints=[parse_constraint("trainable_params <= 800")])
    one.observe(initial())
    assert all(parameters_of(proposal.arm) <= 800 for proposal in one.propose(6))


def test_without_jax_botorchs_model_falls_back_and_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(saas_module, "nuts_available", lambda: False)
    with caplog.at_level(logging.WARNING):
        one = proposer("saas_nehvi", preset="paper")
    assert one.name == "map_saas"
    assert proposer("saas_nehvi").name == "saas_nehvi"  # ours needs neither
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "map_saas" in caplog.text


def test_a_chain_that_fails_falls_back_for_one_proposal(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise FitError("expected finite hyperparameters from NUTS, got none")

    monkeypatch.setattr(chooser, "fit", fail)
    assert len(asked("saas_nehvi", initial(), count=1)) == 1
    assert "map_saas" in caplog.text


def test_unknown_names_are_refused_with_the_known_ones() -> None:
    with pytest.raises(SpecError, match="saas_nehvi"):
        proposer("tpe")
    with pytest.raises(SpecError, match="paper"):
        proposer("sobol", preset="fast")


def test_something_must_be_measured() -> None:
    with pytest.raises(SpecError, match="measured"):
        proposer("saas_nehvi", [SIZE])


def test_the_paper_preset_has_autopefts_numbers() -> None:
    paper = presets.engine_settings("paper")
    assert (paper.initial_trials, paper.batch, paper.evaluations, paper.restarts) == (
        100,
        4,
        2000,
        10,
    )
    assert (sum(paper.fit.windows), paper.fit.samples, paper.fit.draws) == (128, 64, 64 // 4)
    assert (paper.fit.chains, paper.fit.warm, paper.acquisition) == (1, False, "qlognehvi")
    assert (paper.outcome_transform, paper.initial_design) == ("copula", "random")


@pytest.mark.parametrize(
    ("preset", "free", "expected"),
    [("default", 3, 5), ("default", 10, 10), ("default", 37, 16), ("paper", 10, 100)],
)
def test_the_initial_design_goes_by_the_parameters_that_have_a_choice(
    preset: str, free: int, expected: int
) -> None:
    parameters = [Parameter(f"p{place}", (0, 1)) for place in range(free)]
    parameters.append(Parameter("fixed", (1,)))
    assert presets.usual_initial_trials(preset, parameters) == expected


def test_a_proposer_designs_as_many_trials_as_are_usual() -> None:
    one = make_proposer("gp_nehvi", space=small_space(), objectives=[LOSS], seed=0, preset="tiny")
    usual = len(small_space().parameters)  # all of them have a choice
    assert usual < 16
    one.observe(initial(usual - 1))
    assert [proposal.origin for proposal in one.propose(2)] == ["sobol", "gp_nehvi"]


def test_options_take_the_place_of_a_presets_settings() -> None:
    options = presets.EngineOptions(
        acquisition="qnehvi", inputs="raw", warm_start=False, restarts=7
    )
    changed = presets.engine_settings("default", options)
    default = presets.PRESETS["default"]
    assert changed == replace(
        default,
        acquisition="qnehvi",
        inputs="raw",
        restarts=7,
        fit=replace(default.fit, warm=False),
    )
    assert presets.changed_options(
        "default", replace(options, outcome_transform="standardize")
    ) == {
        "acquisition": "qnehvi",
        "inputs": "raw",
        "warm_start": False,
        "restarts": 7,
    }


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"acquisition": "ei"}, "known acquisition, got 'ei'"),
        ({"outcome_transform": "log"}, "known outcome_transform, got 'log'"),
        ({"evaluations": 0}, "evaluations to be a whole number of at least 1, got 0"),
        ({"evaluations": "many"}, "evaluations to be a whole number of at least 1, got 'many'"),
        ({"monte_carlo_samples": 1.5}, "monte_carlo_samples to be a whole number .*, got 1.5"),
    ],
)
def test_options_that_no_engine_has_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        presets.EngineOptions(**given)


@pytest.mark.parametrize("acquisition", ["nehvi", "qlognehvi", "qnehvi"])
def test_an_acquisition_is_chosen_by_its_name(acquisition: presets.Acquisition) -> None:
    space, objectives = small_space(), (LOSS, ROUGE)
    chosen = make_proposer(
        "gp_nehvi",
        space=space,
        objectives=objectives,
        seed=0,
        initial_trials=6,
        preset="tiny",
        engine=presets.EngineOptions(acquisition=acquisition, evaluations=40),
    )
    numbers = replace(TINY, acquisition=acquisition, evaluations=40, initial_trials=6)
    domain = Domain(space.parameters, space.plan, {}, numbers.inputs)
    expected = PROPOSERS["gp_nehvi"](Setting(domain, objectives, 0, numbers))
    for one in (chosen, expected):
        one.observe(initial())
    assert chosen.propose(2) == expected.propose(2)


def test_the_paper_preset_starts_with_random_arms() -> None:
    proposals = proposer("saas_nehvi", preset="paper").propose(3)
    assert [one.origin for one in proposals] == ["random"] * 3
    expected = proposer("random").propose(3)
    assert [one.arm for one in proposals] == [one.arm for one in expected]


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 1000),
    statuses=st.lists(st.sampled_from([*TrialStatus]), min_size=1, max_size=10),
    count=st.integers(1, 3),
)
def test_any_history_gives_new_plans_of_the_space(
    seed: int, statuses: list[TrialStatus], count: int
) -> None:
    presets.PRESETS["tiny"] = TINY
    start: list[Proposal] = proposer("random", seed=seed).propose(len(statuses))
    trials = [
        replace(trial, status=status)
        for trial, status in zip(completed(start), statuses, strict=True)
    ]
    arms = asked("gp_nehvi", trials, count=count, seed=seed)
    assert all(small_space().contains(arm) for arm in arms)
    assert len({*fingerprints(arms), *fingerprints([one.arm for one in trials])}) == count + len(
        trials
    )


def test_a_memory_that_cannot_be_read_is_left_aside(caplog: pytest.LogCaptureFixture) -> None:
    one, trials = proposer("saas_nehvi"), initial()
    one.observe(trials, {"version": 2})
    fresh = proposer("saas_nehvi")
    fresh.observe(trials)
    assert one.propose(1) == fresh.propose(1)
    assert "fitted anew" in caplog.text


def constrained(name: str, objectives: Sequence[Objective], text: str, count: int) -> list[Arm]:
    one = proposer(name, objectives, constraints=[parse_constraint(text)])
    one.observe(initial(24))
    return [proposal.arm for proposal in one.propose(count)]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("objectives", [(LOSS, ROUGE), (LOSS, SIZE)])
def test_models_keep_a_bound_on_a_closed_form(name: str, objectives: tuple[Objective, ...]) -> None:
    arms = constrained(name, objectives, "trainable_params <= 1500", 4)
    assert all(parameters_of(arm) <= 1500.0 for arm in arms)
    free = proposer(name, (LOSS, ROUGE))
    free.observe(initial(24))
    assert any(parameters_of(one.arm) > 1500.0 for one in free.propose(4))


def test_the_initial_design_keeps_a_bound_on_a_closed_form() -> None:
    bound = parse_constraint("trainable_params <= 1500")
    design = proposer("gp_nehvi", constraints=[bound]).propose(6)
    assert all(parameters_of(one.arm) <= 1500.0 for one in design)
    assert any(parameters_of(one.arm) > 1500.0 for one in proposer("gp_nehvi").propose(6))


def test_a_design_that_cannot_keep_a_bound_goes_on_without_it() -> None:
    bound = parse_constraint("trainable_params <= -1")
    asked_for = proposer("gp_nehvi", constraints=[bound]).propose(6)
    assert [one.arm for one in asked_for] == [one.arm for one in proposer("gp_nehvi").propose(6)]


@pytest.mark.parametrize("name", MODELS)
def test_models_move_to_a_measured_metrics_allowed_side(name: str) -> None:
    # The loss falls with the last layer's rank, ROUGE-L rises with retrieval and the first's.
    arms = constrained(name, (LOSS,), "rouge_l >= 0.33", 3)
    assert all(plan_of(arm).retrieved_items == 2 for arm in arms)


@pytest.mark.parametrize("name", ["sobol", "random", "grid"])
@pytest.mark.parametrize("preset", ["tiny", "paper"])
def test_sequences_do_not_heed_constraints(name: str, preset: str) -> None:
    bound = parse_constraint("trainable_params <= 0")
    free, bound_by = proposer(name), proposer(name, preset=preset, constraints=[bound])
    assert free.propose(5) == bound_by.propose(5)


@pytest.mark.parametrize("name", MODELS)
def test_a_preset_whose_acquisition_knows_no_constraints_takes_none(name: str) -> None:
    with pytest.raises(SpecError, match=r"no constraints with preset 'paper'.*'qlognehvi'"):
        proposer(name, preset="paper", constraints=[parse_constraint("rouge_l >= 0.3")])


def test_constraints_against_an_objective_are_refused_before_any_trial() -> None:
    with pytest.raises(SpecError, match="getting better"):
        proposer("gp_nehvi", constraints=[parse_constraint("loss >= 1")])


def test_a_bound_on_a_closed_form_is_no_objective_that_is_measured() -> None:
    with pytest.raises(SpecError, match="measured"):
        proposer("gp_nehvi", [SIZE], constraints=[parse_constraint("loss <= 1")])

from __future__ import annotations

import math
from typing import Any

import pandas as pd
import pytest

pytestmark = [
    pytest.mark.slow,
    # Ax 1.3.1 calls pandas in ways that pandas 3 is about to drop.
    pytest.mark.filterwarnings("ignore::pandas.errors.Pandas4Warning"),
    # Ax 1.3.1's own client calls it.
    pytest.mark.filterwarnings("ignore:add_tracking_metric is deprecated:DeprecationWarning"),
]

ax_data = pytest.importorskip("ax.core.data")

from ax.api.client import Client  # noqa: E402
from ax.api.configs import ChoiceParameterConfig  # noqa: E402
from ax.core.experiment import Experiment  # noqa: E402
from ax.core.objective import Objective as AxObjective  # noqa: E402
from ax.core.optimization_config import OptimizationConfig  # noqa: E402
from ax.core.outcome_constraint import OutcomeConstraint as AxConstraint  # noqa: E402
from ax.exceptions.core import SearchSpaceExhausted  # noqa: E402

from milp_search.core.arm import Arm  # noqa: E402
from milp_search.core.errors import SpecError  # noqa: E402
from milp_search.core.trial import Measurement, Objective, TrialStatus  # noqa: E402
from milp_search.search import presets  # noqa: E402
from milp_search.search.ax_bridge import (  # noqa: E402
    ax_constraints,
    ax_experiment,
    ax_trials,
    saas_nehvi_generation_strategy,
)
from milp_search.search.constraints import OutcomeConstraint  # noqa: E402
from milp_search.space.search_space import SearchSpace, configure  # noqa: E402

from .small_space import (  # noqa: E402
    LOSS,
    ROUGE,
    SIZE,
    TINY,
    measured,
    parameters_of,
    plan_of,
    small_space,
)

OBJECTIVES = [LOSS, ROUGE, SIZE]


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(presets.PRESETS, "tiny", TINY)


def attach(experiment: Experiment, trial: Any, values: dict[str, Measurement]) -> None:
    rows = [
        {
            "trial_index": trial.index,
            "arm_name": trial.arm.name,
            "metric_name": name,
            "metric_signature": name,
            "mean": value.mean,
            "sem": math.nan if value.sem is None else value.sem,
        }
        for name, value in values.items()
    ]
    experiment.attach_data(ax_data.Data(df=pd.DataFrame(rows)))


def evaluate(experiment: Experiment, run: Any) -> Any:
    trial = experiment.new_trial(run).mark_running(no_runner_required=True)
    arm = Arm(trial.arm.parameters)
    values = {**measured(arm), "trainable_params": Measurement(parameters_of(arm), 0.0)}
    attach(experiment, trial, values)
    return trial.mark_completed()


def test_the_experiment_has_ordered_choices_and_thresholds() -> None:
    experiment = ax_experiment(small_space(), [LOSS, Objective("rouge_l", "maximize")])
    ranks = experiment.search_space.parameters["lora_rank"]
    assert ranks.values == [2, 8, 32]
    assert ranks.is_ordered
    config = experiment.optimization_config
    assert config.objective.expression == "-loss, rouge_l"
    assert [one.bound for one in config.objective_thresholds] == [3.0]


def test_one_objective_makes_a_plain_experiment() -> None:
    config = ax_experiment(small_space(), [LOSS]).optimization_config
    assert not config.is_moo_problem


def test_a_loop_through_ax_alone_uses_both_nodes_and_repeats_no_plan() -> None:
    experiment = ax_experiment(small_space(), OBJECTIVES)
    strategy = saas_nehvi_generation_strategy(
        small_space(),
        OBJECTIVES,
        initial_trials=4,
        preset="tiny",
        exact={"trainable_params": parameters_of},
    )
    nodes = []
    for _ in range(6):
        [[run]] = strategy.gen(experiment, n=1)
        nodes.append(strategy.current_node_name)
        evaluate(experiment, run)
    assert nodes == ["sobol"] * 4 + ["saas_nehvi"] * 2
    [[batch]] = strategy.gen(experiment, n=2)
    arms = [*(trial.arm for trial in experiment.trials.values()), *batch.arms]
    assert len({plan_of(Arm(arm.parameters)).fingerprint() for arm in arms}) == 8


def test_the_sobol_node_has_a_trial_for_each_parameter_where_nobody_says() -> None:
    strategy = saas_nehvi_generation_strategy(small_space(), OBJECTIVES)
    [criterion] = strategy.current_node.transition_criteria
    assert criterion.threshold == len(small_space().parameters)


def test_a_clone_of_the_strategy_begins_anew() -> None:
    strategy = saas_nehvi_generation_strategy(
        small_space(), OBJECTIVES, initial_trials=2, preset="tiny"
    )
    experiments = [ax_experiment(small_space(), OBJECTIVES) for _ in range(2)]
    arms = []
    for experiment in experiments:
        for _ in range(2):
            [[run]] = strategy.gen(experiment, n=1)
            evaluate(experiment, run)
        arms.append([trial.arm.parameters for trial in experiment.trials.values()])
        strategy = strategy.clone_reset()
    assert arms[0] == arms[1]


def test_an_abandoned_arm_of_a_completed_batch_is_no_failure() -> None:
    experiment = ax_experiment(small_space(), OBJECTIVES)
    strategy = saas_nehvi_generation_strategy(
        small_space(), OBJECTIVES, initial_trials=3, preset="tiny"
    )
    [[run]] = strategy.gen(experiment, n=2)
    batch = experiment.new_batch_trial(run).mark_running(no_runner_required=True)
    batch.mark_arm_abandoned(batch.arms[1].name)
    batch.mark_completed()
    found = ax_trials(experiment, experiment.lookup_data(), ["loss"])
    assert [trial.status for trial in found] == [TrialStatus.FAILED, TrialStatus.ABANDONED]


def test_axs_client_drives_it_too() -> None:
    client = Client()
    client.configure_experiment(
        parameters=[
            ChoiceParameterConfig(
                name=one.name, values=[*one.values], parameter_type="int", is_ordered=True
            )
            for one in small_space().parameters
        ]
    )
    client.configure_optimization(
        objective="-loss, rouge_l", outcome_constraints=["loss <= 3.0", "rouge_l >= 0.0"]
    )
    client.set_generation_strategy(
        saas_nehvi_generation_strategy(
            small_space(), [LOSS, ROUGE], initial_trials=3, preset="tiny"
        )
    )
    for _ in range(4):
        for index, parameters in client.get_next_trials(1).items():
            values = measured(Arm(parameters))
            client.complete_trial(index, {name: (one.mean, 0.01) for name, one in values.items()})
    assert len(client.get_pareto_frontier()) > 0


def test_a_trial_with_nan_counts_as_failed_and_without_sem_as_unknown() -> None:
    experiment = ax_experiment(small_space(), OBJECTIVES)
    strategy = saas_nehvi_generation_strategy(small_space(), OBJECTIVES, preset="tiny")
    trials = []
    for value in (1.0, math.nan):
        [[run]] = strategy.gen(experiment, n=1)
        trial = experiment.new_trial(run).mark_running(no_runner_required=True)
        frame = {"trial_index": trial.index, "arm_name": trial.arm.name, "sem": math.nan}
        named = {"metric_name": "loss", "metric_signature": "loss", "mean": value}
        experiment.attach_data(ax_data.Data(df=pd.DataFrame([{**frame, **named}])))
        trials.append(trial.mark_completed())
    read = ax_trials(experiment, experiment.lookup_data(), ["loss"])
    assert [one.status for one in read] == [TrialStatus.COMPLETED, TrialStatus.FAILED]
    assert read[0].measurements["loss"].sem is None


def test_an_exhausted_space_is_axs_own_error() -> None:
    settings = {"lora_rank": [1, 2], "time_splits": 1, "retrieved_items": 0, "communities": 1}
    space = SearchSpace("two", 2, configure(settings, 2))
    experiment = ax_experiment(space, [LOSS])
    strategy = saas_nehvi_generation_strategy(space, [LOSS], preset="tiny")
    for _ in range(2):
        [[run]] = strategy.gen(experiment, n=1)
        experiment.new_trial(run)
    with pytest.raises(SearchSpaceExhausted):
        strategy.gen(experiment, n=1)


def test_bounds_on_other_metrics_are_axs_constraints_and_on_objectives_thresholds() -> None:
    texts = ["loss <= 2", "rouge_l >= -1", "trainable_params <= 100000", "mae >= 0.25"]
    experiment = ax_experiment(small_space(), [LOSS, ROUGE], constraints=texts)
    config = experiment.optimization_config
    thresholds = {one.metric_names[0]: one.bound for one in config.objective_thresholds}
    assert thresholds == {"loss": 2.0, "rouge_l": 0.0}  # the tighter of bound and reference
    assert ax_constraints(experiment) == (
        OutcomeConstraint("trainable_params", "<=", 100000.0),
        OutcomeConstraint("mae", ">=", 0.25),
    )
    better = {name: one.lower_is_better for name, one in experiment.metrics.items()}
    assert better == {"loss": True, "rouge_l": False, "trainable_params": True, "mae": False}


def test_metrics_over_a_part_of_the_users_are_metrics_of_ax() -> None:
    objectives = [LOSS, Objective("loss@cvar10", "minimize", 4.0)]
    experiment = ax_experiment(small_space(), objectives, constraints=["mae@cold_start <= 2"])
    config = experiment.optimization_config
    assert config.objective.metric_names == ["loss", "loss@cvar10"]
    assert ax_constraints(experiment) == (OutcomeConstraint("mae@cold_start", "<=", 2.0),)
    strategy = saas_nehvi_generation_strategy(
        small_space(), objectives, preset="tiny", constraints=["mae@cold_start <= 2"]
    )
    [[run]] = strategy.gen(experiment, n=1)
    trial = experiment.new_trial(run).mark_running(no_runner_required=True)
    values = {"loss": 2.0, "loss@cvar10": 3.0, "mae@cold_start": 1.0}
    attach(experiment, trial, {name: Measurement(value) for name, value in values.items()})
    trial.mark_completed()
    (read,) = ax_trials(experiment, experiment.lookup_data(), [*values])
    assert {name: one.mean for name, one in read.measurements.items()} == values


def test_one_objective_has_constraints_beside_it_and_none_on_it() -> None:
    experiment = ax_experiment(small_space(), [LOSS], constraints=["loss <= 2", "mae <= 1"])
    assert ax_constraints(experiment) == (OutcomeConstraint("mae", "<=", 1.0),)
    assert ax_constraints(Experiment(search_space=experiment.search_space)) == ()


@pytest.mark.parametrize("expression", ["mae <= 0.9 * baseline", "mae + rouge_l <= 3"])
def test_constraints_that_ours_cannot_state_are_refused(expression: str) -> None:
    names = {name: name for name in ("loss", "mae", "rouge_l")}
    experiment = ax_experiment(small_space(), [LOSS], constraints=["mae <= 1", "rouge_l >= 0"])
    experiment.optimization_config = OptimizationConfig(
        AxObjective(expression="-loss", metric_name_to_signature=names),
        [AxConstraint(expression, metric_name_to_signature=names)],
    )
    with pytest.raises(SpecError, match="one metric and an absolute bound"):
        ax_constraints(experiment)


def test_a_loop_through_ax_keeps_a_bound_on_a_closed_form() -> None:
    bounds = ["trainable_params <= 1500"]
    experiment = ax_experiment(small_space(), [LOSS, ROUGE], constraints=bounds)
    strategy = saas_nehvi_generation_strategy(
        small_space(),
        [LOSS, ROUGE],
        initial_trials=6,
        preset="tiny",
        exact={"trainable_params": parameters_of},
        constraints=bounds,
    )
    sizes = []
    for _ in range(10):
        [[run]] = strategy.gen(experiment, n=1)
        sizes.append(parameters_of(Arm(evaluate(experiment, run).arm.parameters)))
    assert strategy.current_node_name == "saas_nehvi"
    assert max(sizes[:6]) > 1500.0
    assert max(sizes[6:]) <= 1500.0


def test_a_trial_without_data_of_a_constrained_metric_counts_as_failed() -> None:
    strategy = saas_nehvi_generation_strategy(
        small_space(), [LOSS], preset="tiny", constraints=["rouge_l >= 0.2"]
    )
    experiment = ax_experiment(small_space(), [LOSS], constraints=["rouge_l >= 0.2"])
    for names in (["loss", "rouge_l"], ["loss"]):
        [[run]] = strategy.gen(experiment, n=1)
        trial = experiment.new_trial(run).mark_running(no_runner_required=True)
        values = measured(Arm(trial.arm.parameters))
        attach(experiment, trial, {name: values[name] for name in names})
        trial.mark_completed()
    strategy.gen(experiment, n=1)
    statuses = [one.status for one in strategy.current_node._trials]
    assert statuses == [TrialStatus.COMPLETED, TrialStatus.FAILED]

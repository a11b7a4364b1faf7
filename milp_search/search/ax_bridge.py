"""The search as a plain Ax experiment and generation strategy."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, final

from ax.core.arm import Arm as AxArm
from ax.core.base_trial import TrialStatus as AxStatus
from ax.core.data import Data
from ax.core.experiment import Experiment
from ax.core.metric import Metric
from ax.core.objective import Objective as AxObjective
from ax.core.optimization_config import MultiObjectiveOptimizationConfig, OptimizationConfig
from ax.core.outcome_constraint import OutcomeConstraint as AxConstraint
from ax.core.parameter import ChoiceParameter, ParameterType
from ax.core.search_space import SearchSpace as AxSearchSpace
from ax.core.types import ComparisonOp
from ax.exceptions.core import SearchSpaceExhausted
from ax.generation_strategy.external_generation_node import ExternalGenerationNode
from ax.generation_strategy.generation_strategy import GenerationStrategy
from ax.generation_strategy.transition_criterion import MinTrials

from milp_search.core.arm import Arm
from milp_search.core.errors import SpecError
from milp_search.core.plan import TrialPlan
from milp_search.core.trial import Measurement, Objective, Trial, TrialStatus
from milp_search.search.constraints import OutcomeConstraint, Relation, checked_constraints
from milp_search.search.presets import EngineOptions, usual_initial_trials
from milp_search.search.proposal import Proposer, SpaceExhausted
from milp_search.search.proposers import make_proposer
from milp_search.space.row_space import Space

_TYPES = {
    bool: ParameterType.BOOL,
    int: ParameterType.INT,
    float: ParameterType.FLOAT,
    str: ParameterType.STRING,
}

_STATUSES = {
    AxStatus.CANDIDATE: TrialStatus.ASKED,
    AxStatus.STAGED: TrialStatus.ASKED,
    AxStatus.RUNNING: TrialStatus.RUNNING,
    AxStatus.COMPLETED: TrialStatus.COMPLETED,
    AxStatus.FAILED: TrialStatus.FAILED,
}


def ax_experiment(
    space: Space,
    objectives: Sequence[Objective],
    name: str = "milp-search",
    constraints: Sequence[OutcomeConstraint | str] = (),
) -> Experiment:
    """Returns an Ax experiment over the space.

    Args:
        space: Its searched parameters become ordered choice parameters.
        objectives: Two or more make a multi-objective experiment, whose thresholds are the
            references that are given.
        name: The experiment's name.
        constraints: Bounds on outcomes, or texts such as `rouge_l >= 0.3`. One on an objective
            becomes its threshold, as in Ax's own client; Ax cannot state it for a single
            objective, where it is left out.

    Returns:
        The experiment, without trials or runner.

    Raises:
        SpecError: The constraints are none, or do not go together.
    """
    kept = checked_constraints(constraints, objectives)
    better = {one.metric: one.direction for one in (*(one.objective for one in kept), *objectives)}
    return Experiment(
        name=name,
        search_space=AxSearchSpace([_choice(one.name, one.values) for one in space.parameters]),
        optimization_config=_optimization_config(objectives, kept),
        metrics=[
            Metric(name=metric, lower_is_better=direction == "minimize")
            for metric, direction in better.items()
        ],
    )


def ax_constraints(experiment: Experiment) -> tuple[OutcomeConstraint, ...]:
    """Returns the outcome constraints of an Ax experiment; thresholds are none of them.

    Args:
        experiment: The experiment.

    Returns:
        The constraints, none where the experiment optimises nothing.

    Raises:
        SpecError: One is relative to a status quo, or bounds several metrics together.
    """
    config = experiment.optimization_config
    return tuple(_constraint(one) for one in (config.outcome_constraints if config else ()))


def saas_nehvi_generation_strategy(
    space: Space,
    objectives: Sequence[Objective],
    *,
    initial_trials: int | None = None,
    seed: int = 0,
    preset: str = "default",
    engine: EngineOptions | None = None,
    realise: Callable[[Arm], TrialPlan] | None = None,
    exact: Mapping[str, Callable[[Arm], float]] | None = None,
    constraints: Sequence[OutcomeConstraint | str] = (),
) -> GenerationStrategy:
    """Returns an Ax generation strategy: scrambled Sobol, then SAAS with NEHVI.

    Both nodes ask the proposers that a study asks. Plans that build the same network are never
    proposed twice. A completed trial whose data are missing, NaN or infinite counts as failed.
    The strategy is a function of the experiment's trials. Ax cannot write it to JSON; save the
    experiment alone (`ax.storage`), and make the strategy anew for it: it goes on as it would have.

    Args:
        space: The search space.
        objectives: What is optimised, at least one of it measured.
        initial_trials: Trials of the Sobol node; None goes by the preset and the space.
        seed: Seed of everything that is drawn.
        preset: `default` or `paper`.
        engine: What of the engine differs from the preset; the first node is Sobol's in any case.
        realise: What an arm builds; None is `space.plan`.
        exact: Closed forms of metrics, in natural units; they are never modelled, and their data
            need not be attached.
        constraints: Bounds on outcomes, or texts such as `rouge_l >= 0.3`; the Sobol node does
            not heed them (a study's initial design heeds those on closed forms).

    Returns:
        The strategy; it serves one experiment.

    Raises:
        SpecError: There is no such preset, nothing is left to measure, or the constraints do not
            go together or with the acquisition.
    """
    kept = checked_constraints(constraints, objectives)
    if initial_trials is None:
        initial_trials = usual_initial_trials(preset, space.parameters)

    def proposer(name: str) -> Proposer:
        return make_proposer(
            name,
            space=space,
            objectives=objectives,
            seed=seed,
            initial_trials=initial_trials,
            preset=preset,
            engine=engine,
            realise=realise,
            exact=exact,
            constraints=kept,
        )

    named = dict.fromkeys([one.metric for one in objectives] + [one.metric for one in kept])
    measured = [metric for metric in named if metric not in (exact or {})]
    transition = MinTrials(
        threshold=initial_trials, transition_to="saas_nehvi", use_all_trials_in_exp=True
    )
    return GenerationStrategy(
        name="sobol+saas_nehvi",
        nodes=[
            ProposerNode("sobol", proposer("sobol"), measured, [transition]),
            ProposerNode("saas_nehvi", proposer("saas_nehvi"), measured),
        ],
    )


@final
class ProposerNode(ExternalGenerationNode):  # type: ignore[misc]
    """An Ax generation node that asks a proposer."""

    def __init__(
        self,
        name: str,
        proposer: Proposer,
        measured: Sequence[str],
        transition_criteria: Sequence[MinTrials] | None = None,
    ):
        # The proposer itself never repeats a plan.
        super().__init__(
            name=name, should_deduplicate=False, transition_criteria=transition_criteria
        )
        self._proposer, self._measured = proposer, tuple(measured)
        self._trials: list[Trial] = []

    def update_generator_state(self, experiment: Experiment, data: Data) -> None:
        """Reads the experiment's trials."""
        self._trials = ax_trials(experiment, data, self._measured)

    def get_next_candidate(self, pending_parameters: list[dict[str, Any]]) -> dict[str, Any]:
        """Returns the next candidate's parameters.

        Args:
            pending_parameters: Candidates under evaluation, or handed out and not yet attached.

        Returns:
            Values by name.

        Raises:
            SearchSpaceExhausted: No unseen plan is left.
        """
        known = {trial.arm for trial in self._trials}
        fresh = [arm for arm in map(Arm, pending_parameters) if arm not in known]
        first = len(self._trials)
        asked = [Trial(first + place, arm) for place, arm in enumerate(fresh)]
        self._proposer.observe([*self._trials, *asked])
        try:
            return dict(self._proposer.propose(1)[0].arm)
        except SpaceExhausted as error:
            raise SearchSpaceExhausted(str(error)) from error


def ax_trials(experiment: Experiment, data: Data, measured: Sequence[str]) -> list[Trial]:
    """Returns the experiment's arms as trials, in the order of the experiment.

    Args:
        experiment: The experiment.
        data: Its data.
        measured: The metrics that a completed trial must carry, finite, not to count as failed.

    Returns:
        One trial for each arm.
    """
    found = _measurements(data)
    trials: list[Trial] = []
    for ax_trial, arm in _arms(experiment):
        measurements = found.get((ax_trial.index, arm.name), {})
        status = _STATUSES.get(ax_trial.status, TrialStatus.ABANDONED)
        if any(arm.name == other.name for other in ax_trial.abandoned_arms):
            status = TrialStatus.ABANDONED
        elif status is TrialStatus.COMPLETED and not measurements.keys() >= set(measured):
            status = TrialStatus.FAILED
        trials.append(
            Trial(len(trials), Arm(arm.parameters), status=status, measurements=measurements)
        )
    return trials


def _arms(experiment: Experiment) -> Iterator[tuple[Any, AxArm]]:
    for index in sorted(experiment.trials):
        trial = experiment.trials[index]
        yield from ((trial, arm) for arm in trial.arms)


def _measurements(data: Data) -> dict[tuple[int, str], dict[str, Measurement]]:
    """Returns the finite data by trial and arm; what is NaN or infinite never enters."""
    found: dict[tuple[int, str], dict[str, Measurement]] = {}
    for row in data.df.to_dict("records"):
        mean, sem = float(row["mean"]), float(row["sem"] if row["sem"] is not None else math.nan)
        if math.isfinite(mean):
            known = sem if math.isfinite(sem) and sem >= 0 else None
            arm = found.setdefault((int(row["trial_index"]), str(row["arm_name"])), {})
            arm[str(row["metric_name"])] = Measurement(mean, known)
    return found


def _choice(name: str, values: Sequence[Any]) -> ChoiceParameter:
    kind = type(values[0])
    numeric = kind in (int, float)
    return ChoiceParameter(
        name=name,
        parameter_type=_TYPES[kind],
        values=[*values],
        is_ordered=numeric or len(values) == 2,
        sort_values=numeric,
    )


def _optimization_config(
    objectives: Sequence[Objective], constraints: Sequence[OutcomeConstraint]
) -> OptimizationConfig:
    signed = [one.metric if one.direction == "maximize" else f"-{one.metric}" for one in objectives]
    names = {one.metric: one.metric for one in objectives}
    objective = AxObjective(expression=", ".join(signed), metric_name_to_signature=names)
    bounds = [_ax_constraint(one) for one in constraints if one.metric not in names]
    if len(objectives) == 1:
        return OptimizationConfig(objective=objective, outcome_constraints=bounds)
    thresholds = [
        _ax_constraint(threshold)
        for one in objectives
        if (threshold := _threshold(one, constraints)) is not None
    ]
    return MultiObjectiveOptimizationConfig(
        objective=objective, outcome_constraints=bounds, objective_thresholds=thresholds
    )


def _threshold(
    objective: Objective, constraints: Sequence[OutcomeConstraint]
) -> OutcomeConstraint | None:
    """Returns the tighter of an objective's reference and the bound on it, None without either."""
    relation: Relation = "<=" if objective.direction == "minimize" else ">="
    bounds = [one.bound for one in constraints if one.metric == objective.metric]
    bounds += [] if objective.reference is None else [objective.reference]
    tightest = min if relation == "<=" else max
    return OutcomeConstraint(objective.metric, relation, tightest(bounds)) if bounds else None


def _ax_constraint(constraint: OutcomeConstraint) -> AxConstraint:
    metric = constraint.metric
    return AxConstraint(
        expression=f"{metric} {constraint.relation} {float(constraint.bound)!r}",
        metric_name_to_signature={metric: metric},
    )


def _constraint(constraint: AxConstraint) -> OutcomeConstraint:
    if constraint.relative or len(constraint.metric_names) != 1:
        raise SpecError(
            f"expected Ax constraints of one metric and an absolute bound, got {constraint}",
            remedy="give the constraints yourself",
        )
    relation: Relation = "<=" if constraint.op is ComparisonOp.LEQ else ">="
    return OutcomeConstraint(constraint.metric_names[0], relation, constraint.bound)

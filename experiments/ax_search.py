"""Drives the search from Python with plain Ax objects: experiment, generation strategy, trials.

    python experiments/ax_search.py --trials 8

The trainings are those of the quick start. Ax keeps the trials; our generation strategy proposes:
scrambled Sobol first, then SAAS-GP with noisy expected hypervolume improvement.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import pandas as pd
from ax.core.data import Data
from ax.core.experiment import Experiment
from ax.core.trial import Trial

from milp_search import ax_experiment, load_search_space, saas_nehvi_generation_strategy
from milp_search.core.arm import Arm
from milp_search.core.model_shape import trainable_parameters
from milp_search.dispatch.worker import TrialRunner
from milp_search.study.spec_file import load_study_spec

STUDY = Path(__file__).parent / "quickstart.yaml"


def main() -> None:
    """Runs a small search and prints every trial."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--initial", type=int, default=6)
    arguments = parser.parse_args()

    spec = load_study_spec(STUDY)
    with tempfile.TemporaryDirectory() as folder:
        runner = TrialRunner(Path(folder), spec)
        space = load_search_space(spec.space, layers=runner.base.shape.layers)
        experiment = ax_experiment(space, spec.objectives)
        shape = runner.base.shape

        def parameters(arm: Arm) -> float:
            """Returns the closed form of `trainable_params`, which is never modelled."""
            adapter = space.plan(arm, spec.method).adapter
            return float(trainable_parameters(adapter, shape.targets(adapter.target_maps)))

        strategy = saas_nehvi_generation_strategy(
            space,
            spec.objectives,
            initial_trials=arguments.initial,
            seed=0,
            exact={"trainable_params": parameters},
        )
        for _ in range(arguments.trials):
            (generated,) = strategy.gen(experiment, n=1)[0]
            trial = experiment.new_trial(generator_run=generated)
            trial.mark_running(no_runner_required=True)
            plan = space.plan(Arm(trial.arm.parameters), spec.method, len(runner.task.targets))
            measurements, _ = runner.evaluate(plan, spec.seed, "validation")
            attach(experiment, trial, {o.metric: measurements[o.metric] for o in spec.objectives})


def attach(experiment: Experiment, trial: Trial, measurements: dict) -> None:
    """Gives Ax a trial's measurements and prints them."""
    rows = [
        {
            "trial_index": trial.index,
            "arm_name": trial.arm.name,
            "metric_name": name,
            "metric_signature": name,
            "mean": value.mean,
            "sem": value.sem,
        }
        for name, value in measurements.items()
    ]
    experiment.attach_data(Data(df=pd.DataFrame(rows)))
    trial.mark_completed()
    values = ", ".join(f"{name} {value.mean:.4g}" for name, value in measurements.items())
    print(f"trial {trial.index}: {values}", flush=True)


if __name__ == "__main__":
    main()

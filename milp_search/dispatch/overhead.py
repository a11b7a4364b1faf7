"""What a trial costs in the executor, beyond its training."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from milp_search.core.model_shape import LinearMap, ModelShape
from milp_search.core.trial import Measurement, Objective
from milp_search.dispatch.jobs import Job, Outcome, Pack, RunPack
from milp_search.dispatch.local import run_local
from milp_search.dispatch.ray_tune import ray_settings, run_with_ray
from milp_search.dispatch.source import StudySource
from milp_search.dispatch.worker import write_outcome
from milp_search.space.space_file import load_search_space
from milp_search.study.spec import Budget, DispatchSettings, StudySpec
from milp_search.study.study import Study

_SPACE = "milp"
_SHAPE = ModelShape(8, "model.layers", (LinearMap("up", "mlp.up", 8, 24),))
_OBJECTIVES = (Objective("loss", "minimize", 9.0), Objective("rouge_l", "maximize", 0.0))


@dataclass(frozen=True)
class Overhead:
    """Seconds that the executor takes for trials that train nothing.

    Attributes:
        first_s: Until the first trial is told; through Ray, session and worker come up in it.
        per_trial_s: Of a worker for each trial after it, on average.
    """

    first_s: float
    per_trial_s: float


def measure_overhead(folder: Path, settings: DispatchSettings, trials: int = 40) -> Overhead:
    """Returns what trials cost whose training takes no time and whose arms are drawn at random.

    All else is as in a study: the store's commits, jobs and outcomes on their way between driver
    and worker, result files, the front after each trial.

    Args:
        folder: A folder without a study; it is made where it is not there.
        settings: Here or through Ray, on how many workers, in packs of what size.
        trials: How many, at least 2.

    Returns:
        The overhead.
    """
    spec = StudySpec(
        space=_SPACE,
        objectives=_OBJECTIVES,
        proposer="random",
        initial_trials=1,
        budget=Budget(trials=trials),
        batch=4,
        dispatch=settings,
        test_seeds=(),
    )
    told: list[float] = []
    started = time.monotonic()
    with Study.create(
        folder,
        space=load_search_space(_SPACE, layers=_SHAPE.layers),
        objectives=_OBJECTIVES,
        proposer=spec.proposer,
        initial_trials=spec.initial_trials,
        shape=_SHAPE,
    ) as study:
        source = StudySource(study, spec, on_change=lambda: told.append(time.monotonic()))
        make_runner = partial(_idle_runner, folder.absolute())
        if settings.local:
            run_local(source, make_runner())
        else:
            run_with_ray(source, make_runner=make_runner, settings=ray_settings(settings))
    workers = 1 if settings.local else settings.parallel
    return Overhead(told[0] - started, workers * (told[-1] - told[0]) / (len(told) - 1))


def _idle_runner(folder: Path) -> RunPack:
    return partial(_idle, folder)


def _idle(folder: Path, pack: Pack) -> list[Outcome]:
    return [_measured(folder, job, len(pack)) for job in pack]


def _measured(folder: Path, job: Job, pack: int) -> Outcome:
    values = {"loss": 1.0 + job.trial % 7, "rouge_l": job.trial % 5 / 5}
    measured = {name: Measurement(value, 0.1) for name, value in values.items()}
    outcome = Outcome(measured, None, 0.0, pack)
    write_outcome(folder, job, outcome)
    return outcome

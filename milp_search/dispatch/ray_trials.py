"""The study's jobs as Tune's trials."""

from __future__ import annotations

import json
import logging
import re
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.experiment import Trial as TuneTrial
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from milp_search.core.trial import Failure
from milp_search.dispatch.jobs import (
    Job,
    JobSource,
    Outcome,
    RunJob,
    job_from_dict,
    outcome_from_dict,
)
from milp_search.dispatch.ray_session import signal_handlers_kept
from milp_search.dispatch.ray_tune import RaySettings

logger = logging.getLogger(__name__)

# What crosses between driver and workers is JSON text: Tune flattens, copies and inspects the
# dictionaries that it is given.
_TERMINAL_ESCAPE = re.compile(r"\x1b\[[0-9;]*m")
_JOB, _OUTCOME = "job", "outcome"


def tune_jobs(
    source: JobSource,
    make_runner: Callable[[], RunJob],
    settings: RaySettings,
    on_tick: Callable[[], None],
) -> None:
    """Runs the source's jobs as trials of one Tune experiment, in the connected session."""
    trials = _Trials(source)
    worker = tune.with_parameters(_Worker, make_runner=make_runner)
    resources = {"cpu": settings.cpus_per_trial, "gpu": settings.gpus_per_trial}
    with tempfile.TemporaryDirectory(prefix="milp-tune-") as storage, signal_handlers_kept():
        tuner = tune.Tuner(
            tune.with_resources(worker, resources),
            tune_config=tune.TuneConfig(
                search_alg=_JobSearcher(trials),
                scheduler=_KeepWorkers(settings.parallel),
                num_samples=-1,
                max_concurrent_trials=settings.parallel,
                reuse_actors=True,
                trial_dirname_creator=lambda trial: trial.trial_id,
            ),
            run_config=tune.RunConfig(
                name="milp-search",
                storage_path=storage,
                failure_config=tune.FailureConfig(max_failures=0),
                # A step is a whole job: there is nothing to save.
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                callbacks=[_Deliver(trials, on_tick)],
                verbose=0,
            ),
        )
        tuner.fit()


class _Worker(tune.Trainable):  # type: ignore[misc]
    """A long-lived process that runs one job after the other, each in a single step."""

    def setup(self, config: dict[str, Any], make_runner: Callable[[], RunJob]) -> None:
        self._make_runner = make_runner
        self._run_job: RunJob | None = None
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._job = job_from_dict(json.loads(new_config[_JOB]))
        return True

    def step(self) -> dict[str, Any]:
        return {_OUTCOME: json.dumps(self._outcome().as_dict()), "done": True}

    def _outcome(self) -> Outcome:
        started = time.monotonic()
        try:
            if self._run_job is None:
                self._run_job = self._make_runner()
            return self._run_job(self._job)
        # The boundary of a trial: a runner that cannot be made fails its job, not the study.
        except Exception as error:
            failure = Failure("exception", f"{error!r}\n{traceback.format_exc()}")
            return Outcome({}, failure, time.monotonic() - started)


class _Trials:
    """The jobs that are out, by Tune's ids, and the outcomes that the source has yet to take."""

    def __init__(self, source: JobSource):
        self._source = source
        self._out: dict[str, Job] = {}
        self._ended: list[tuple[Job, Outcome]] = []

    def __getstate__(self) -> dict[str, Any]:
        # Tune pickles what it is given for a restore that we never use.
        return {}

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Returns the next job's configuration, None to be asked again, or FINISHED."""
        job = None if self._source.finished else self._source.next()
        if job is None:
            return Searcher.FINISHED if self._source.finished else None
        logger.debug("%s goes out as Tune's %s", job.name, trial_id)
        self._out[trial_id] = job
        return {_JOB: json.dumps(job.as_dict())}

    def end(self, trial_id: str, outcome: Outcome) -> None:
        """Notes how a job ended; the first note of a job holds."""
        job = self._out.pop(trial_id, None)
        if job is not None:
            self._ended.append((job, outcome))

    def deliver(self) -> None:
        """Hands the noted outcomes to the source."""
        while self._ended:
            self._source.done(*self._ended.pop(0))


class _JobSearcher(Searcher):  # type: ignore[misc]
    """Asks the source for jobs."""

    def __init__(self, trials: _Trials):
        super().__init__()
        self._trials = trials

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        return self._trials.suggest(trial_id)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        if not error and result is not None:
            self._trials.end(trial_id, outcome_from_dict(json.loads(result[_OUTCOME])))

    def save(self, checkpoint_path: str) -> None:
        # Nothing to save, since a study resumes from its own store; Tune wants to see a file.
        Path(checkpoint_path).touch()


class _Deliver(tune.Callback):  # type: ignore[misc]
    """Hands outcomes to the source between Tune's steps.

    Tune swallows what is raised while a trial ends, but not here.
    """

    def __init__(self, trials: _Trials, on_tick: Callable[[], None]):
        self._trials, self._on_tick = trials, on_tick

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def on_trial_error(
        self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any
    ) -> None:
        self._trials.end(trial.trial_id, Outcome({}, _failure(trial)))

    def on_step_end(self, iteration: int, trials: list[TuneTrial], **info: Any) -> None:
        self._trials.deliver()
        self._on_tick()


def _failure(trial: TuneTrial) -> Failure:
    """Returns why a job has no outcome; what its runner raises is an outcome already."""
    text = Path(trial.error_file).read_text(encoding="utf-8", errors="replace")
    # The first line is Tune's count of failures.
    reason = _TERMINAL_ESCAPE.sub("", text.partition("\n")[2])
    # So Ray begins a traceback out of a worker that lives; of a dead one there is none.
    kind = "exception" if "ray::" in reason else "lost_worker"
    return Failure(kind, reason)


class _KeepWorkers(FIFOScheduler):  # type: ignore[misc]
    """Keeps every worker alive while the source has no job for it.

    Tune keeps one idle worker and ends the others; a worker takes half a minute to load.
    """

    def __init__(self, count: int):
        super().__init__()
        self._count = count

    def on_trial_complete(self, tune_controller: Any, trial: TuneTrial, result: Any) -> None:
        tune_controller._actor_cache.increase_max(trial.placement_group_factory, by=self._count)
        self._count = 0

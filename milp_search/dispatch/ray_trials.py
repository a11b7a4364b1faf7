"""The study's packs as Tune's trials."""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.experiment import Trial as TuneTrial
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from milp_search.core.chat import EndpointError
from milp_search.core.errors import MilpSearchError
from milp_search.core.trial import Failure
from milp_search.dispatch.jobs import (
    Job,
    JobSource,
    Outcome,
    Pack,
    RunPack,
    job_from_dict,
    outcome_from_dict,
    raised_at,
)
from milp_search.dispatch.lost_gpu import LostGpuError
from milp_search.dispatch.ray_session import signal_handlers_kept
from milp_search.dispatch.ray_tune import RayError, RaySettings
from milp_search.dispatch.temporary_folder import temporary_folder

logger = logging.getLogger(__name__)

# What crosses between driver and workers is JSON text: Tune flattens, copies and inspects the
# dictionaries that it is given.
_PACK, _OUTCOMES, _NO_RUNNER = "pack", "outcomes", "no_runner"

# What Ray tells of a worker that ended by itself, and of an exception out of one that lives.
_EXIT_DETAIL = re.compile(r"exit detail: ([^\n.]{1,200})")
_RAISED = re.compile(r"^([\w.]+)(?::|$)", re.MULTILINE)


def tune_packs(
    source: JobSource,
    make_runner: Callable[[], RunPack],
    settings: RaySettings,
    on_tick: Callable[[], None],
) -> None:
    """Runs the source's packs as trials of one Tune experiment, in the connected session."""
    trials = _Trials(source)
    worker = tune.with_parameters(_Worker, make_runner=make_runner)
    resources = {"cpu": settings.cpus_per_trial, "gpu": settings.gpus_per_trial}
    with temporary_folder(tempfile.gettempdir()) as storage, signal_handlers_kept():
        tuner = tune.Tuner(
            tune.with_resources(worker, resources),
            tune_config=tune.TuneConfig(
                search_alg=_PackSearcher(trials),
                scheduler=_KeepWorkers(settings.parallel),
                num_samples=-1,
                max_concurrent_trials=settings.parallel,
                reuse_actors=True,
                trial_dirname_creator=lambda trial: trial.trial_id,
            ),
            run_config=tune.RunConfig(
                name="milp-search",
                storage_path=str(storage),
                failure_config=tune.FailureConfig(max_failures=0),
                # A step is a whole pack: there is nothing to save.
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                callbacks=[_Deliver(trials, on_tick)],
                verbose=0,
            ),
        )
        tuner.fit()


class _Worker(tune.Trainable):  # type: ignore[misc]
    """A long-lived process that runs one pack after the other, each in a single step."""

    def setup(self, config: dict[str, Any], make_runner: Callable[[], RunPack]) -> None:
        self._make_runner = make_runner
        self._run_pack: RunPack | None = None
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._pack = tuple(job_from_dict(values) for values in json.loads(new_config[_PACK]))
        return True

    def step(self) -> dict[str, Any]:
        if self._run_pack is None:
            try:
                self._run_pack = self._make_runner()
            # Every trial would fail for this one reason, which is none of theirs.
            except Exception as error:
                known = isinstance(error, MilpSearchError)
                return {_NO_RUNNER: str(error) if known else raised_at(error), "done": True}
        try:
            outcomes = [outcome.as_dict() for outcome in self._outcomes(self._run_pack)]
        except EndpointError as error:
            return {_NO_RUNNER: str(error), "done": True}
        return {_OUTCOMES: json.dumps(outcomes), "done": True}

    def _outcomes(self, run_pack: RunPack) -> list[Outcome]:
        started = time.monotonic()
        try:
            return run_pack(self._pack)
        except EndpointError:
            raise
        except LostGpuError as error:
            sys.stderr.write(f"milp-search: {error}\nThis process ends.\n")
            sys.stderr.flush()
            # In the process that Ray starts next the GPU may work again.
            os._exit(1)
        except Exception as error:  # the boundary of a trial
            failure = Failure("exception", raised_at(error))
            count = len(self._pack)
            return [Outcome({}, failure, (time.monotonic() - started) / count, count)] * count


class _Trials:
    """The packs that are out, by Tune's ids, and the outcomes that the source has yet to take."""

    def __init__(self, source: JobSource):
        self._source = source
        self._out: dict[str, Pack] = {}
        self._ended: list[tuple[Job, Outcome]] = []
        self._no_runner: str | None = None

    def __getstate__(self) -> dict[str, Any]:
        # Tune pickles what it is given for a restore that we never use.
        return {}

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Returns the next pack's configuration, None to be asked again, or FINISHED."""
        pack = () if self._source.finished else self._source.next()
        if not pack:
            return Searcher.FINISHED if self._source.finished else None
        logger.debug("%s goes out as Tune's %s", ", ".join(job.name for job in pack), trial_id)
        self._out[trial_id] = pack
        return {_PACK: json.dumps([job.as_dict() for job in pack])}

    def end(self, trial_id: str, outcomes: Sequence[Outcome]) -> None:
        """Notes how a pack's jobs ended; the first note of a pack holds."""
        pack = self._out.pop(trial_id, None)
        if pack is not None:
            self._ended += zip(pack, outcomes, strict=True)

    def lose(self, trial_id: str, failure: Failure) -> None:
        """Notes that a pack has come to nothing: each of its jobs fails."""
        pack = self._out.get(trial_id, ())
        self.end(trial_id, [Outcome({}, failure, pack=len(pack))] * len(pack))

    def give_up(self, reason: str) -> None:
        """Notes that a worker cannot run anything; its pack stays unfinished."""
        self._no_runner = reason

    def deliver(self) -> None:
        """Hands the noted outcomes to the source; RayError if a worker cannot run anything."""
        while self._ended:
            self._source.done(*self._ended.pop(0))
        if self._no_runner is not None:
            raise RayError(
                f"a worker cannot work: {self._no_runner}",
                remedy="Nothing is lost: mend the cause, then resume the study.",
            )


class _PackSearcher(Searcher):  # type: ignore[misc]
    """Asks the source for packs."""

    def __init__(self, trials: _Trials):
        super().__init__()
        self._trials = trials

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        return self._trials.suggest(trial_id)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        if not error and result is not None and _NO_RUNNER in result:
            self._trials.give_up(result[_NO_RUNNER])
        elif not error and result is not None:
            outcomes = json.loads(result[_OUTCOMES])
            self._trials.end(trial_id, [outcome_from_dict(values) for values in outcomes])

    def save(self, checkpoint_path: str) -> None:
        # Nothing to save, since a study resumes from its own store; Tune wants to see a file.
        Path(checkpoint_path).touch()


class _Deliver(tune.Callback):  # type: ignore[misc]
    """Hands outcomes to the source between Tune's steps.

    Tune swallows what is raised while a trial ends, but not here.
    """

    def __init__(self, trials: _Trials, on_tick: Callable[[], None]):
        self._trials, self._on_tick = trials, on_tick
        self._ended: list[TuneTrial] = []

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def on_trial_error(
        self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any
    ) -> None:
        self._trials.lose(trial.trial_id, _failure(trial))
        self._ended.append(trial)

    def on_trial_complete(
        self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any
    ) -> None:
        self._ended.append(trial)

    def on_step_end(self, iteration: int, trials: list[TuneTrial], **info: Any) -> None:
        while self._ended:
            _slim(self._ended.pop())
        self._trials.deliver()
        self._on_tick()


def _slim(trial: TuneTrial) -> None:
    """Drops what Tune keeps of an ended trial, for good, to compare it with others by."""
    kept = trial.run_metadata
    kept.metric_analysis.clear()
    kept.metric_n_steps.clear()
    # Not empty: Tune would ask the worker for one.
    kept.last_result = {"done": True}


def _failure(trial: TuneTrial) -> Failure:
    """Returns why a pack has no outcomes; what its runner raises is an outcome already.

    Of Ray's text, which may hold anything, only what cannot quote a user is taken over.
    """
    text = Path(trial.error_file).read_text(encoding="utf-8", errors="replace")
    if "OutOfMemoryError" in text:
        return Failure("out_of_memory", "Ray ended its worker: the machine's memory was used up")
    # So Ray begins a traceback out of a worker that lives; of a dead one there is none.
    if "ray::" in text:
        raised = _RAISED.findall(text)
        return Failure("exception", f"{raised[-1] if raised else 'an exception'} in Ray's worker")
    detail = _EXIT_DETAIL.search(text)
    return Failure("lost_worker", detail[1] if detail else "its worker process ended")


class _KeepWorkers(FIFOScheduler):  # type: ignore[misc]
    """Keeps every worker alive while the source has no pack for it.

    Tune keeps one idle worker and ends the others; a worker takes half a minute to load.
    """

    def __init__(self, count: int):
        super().__init__()
        self._count = count

    def on_trial_complete(self, tune_controller: Any, trial: TuneTrial, result: Any) -> None:
        tune_controller._actor_cache.increase_max(trial.placement_group_factory, by=self._count)
        self._count = 0

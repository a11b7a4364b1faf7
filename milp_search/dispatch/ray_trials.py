"""The study's packs as Tune's trials."""

from __future__ import annotations

import json
import logging
import re
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
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
    Pack,
    RunPack,
    job_from_dict,
    outcome_from_dict,
)
from milp_search.dispatch.ray_session import signal_handlers_kept
from milp_search.dispatch.ray_tune import RaySettings

logger = logging.getLogger(__name__)

# What crosses between driver and workers is JSON text: Tune flattens, copies and inspects the
# dictionaries that it is given.
_TERMINAL_ESCAPE = re.compile(r"\x1b\[[0-9;]*m")
_PACK, _OUTCOMES = "pack", "outcomes"


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
    with tempfile.TemporaryDirectory(prefix="milp-tune-") as storage, signal_handlers_kept():
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
                storage_path=storage,
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
        outcomes = [outcome.as_dict() for outcome in self._outcomes()]
        return {_OUTCOMES: json.dumps(outcomes), "done": True}

    def _outcomes(self) -> list[Outcome]:
        started = time.monotonic()
        try:
            if self._run_pack is None:
                self._run_pack = self._make_runner()
            return self._run_pack(self._pack)
        # The boundary of a trial: a runner that cannot be made fails its jobs, not the study.
        except Exception as error:
            failure = Failure("exception", f"{error!r}\n{traceback.format_exc()}")
            count = len(self._pack)
            return [Outcome({}, failure, (time.monotonic() - started) / count, count)] * count


class _Trials:
    """The packs that are out, by Tune's ids, and the outcomes that the source has yet to take."""

    def __init__(self, source: JobSource):
        self._source = source
        self._out: dict[str, Pack] = {}
        self._ended: list[tuple[Job, Outcome]] = []

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

    def deliver(self) -> None:
        """Hands the noted outcomes to the source."""
        while self._ended:
            self._source.done(*self._ended.pop(0))


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
        if not error and result is not None:
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

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def on_trial_error(
        self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any
    ) -> None:
        self._trials.lose(trial.trial_id, _failure(trial))

    def on_step_end(self, iteration: int, trials: list[TuneTrial], **info: Any) -> None:
        self._trials.deliver()
        self._on_tick()


def _failure(trial: TuneTrial) -> Failure:
    """Returns why a pack has no outcomes; what its runner raises is an outcome already."""
    text = Path(trial.error_file).read_text(encoding="utf-8", errors="replace")
    # The first line is Tune's count of failures.
    reason = _TERMINAL_ESCAPE.sub("", text.partition("\n")[2])
    # So Ray begins a traceback out of a worker that lives; of a dead one there is none.
    kind = "exception" if "ray::" in reason else "lost_worker"
    return Failure(kind, reason)


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

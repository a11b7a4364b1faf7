"""Drives a study from its file to its report."""

from __future__ import annotations

import importlib.metadata
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console

from milp_search.adapters.base_model import base_digest, read_config, read_shape
from milp_search.adapters.packed.stack import unknown_blocks
from milp_search.adapters.placed_base import place_base
from milp_search.adapters.quantised import is_quantised
from milp_search.core.errors import DataError, DiskFullError, InputError, ModelError, StudyError
from milp_search.core.model_shape import ModelShape
from milp_search.core.records import PersonalizationTask
from milp_search.data.load import load_task
from milp_search.dispatch.check_base import check_base, for_workers, with_gpus
from milp_search.dispatch.check_endpoint import check_dimensions, check_metrics
from milp_search.dispatch.fence import wait_for_workers
from milp_search.dispatch.local import run_local
from milp_search.dispatch.memory import shared_memory_mib
from milp_search.dispatch.paying import book_lost
from milp_search.dispatch.progress import Progress, ended
from milp_search.dispatch.source import StudySource, drop_results, largest_pack
from milp_search.dispatch.study_log import logged
from milp_search.dispatch.worker import (
    RunnerFactory,
    free_memory,
    measured_metrics,
    staged_base,
    told_metrics,
)
from milp_search.endpoint.client import server_url
from milp_search.endpoint.key import api_key
from milp_search.metrics.table import metrics_for
from milp_search.personalize.chat_prompts import load_prompts
from milp_search.personalize.retention import check_other_targets
from milp_search.search.presets import usual_initial_trials
from milp_search.space.row_space import Space
from milp_search.space.search_space import SearchSpace
from milp_search.space.space_file import load_search_space
from milp_search.space.yaml_reader import read_yaml
from milp_search.study.disk_space import give_up, unless_full, until_there_is_space, wait_again
from milp_search.study.export import export
from milp_search.study.forgetting import check_marks
from milp_search.study.report import write_report
from milp_search.study.spec import StudySpec
from milp_search.study.spec_file import SPEC_NAME, load_study_spec, write_resolved
from milp_search.study.store import begun
from milp_search.study.study import STORE_NAME, Study

NO_TRIAL_SUCCEEDED = 3

# ours: the rest is for what else goes through the object store.
_SHARED_PART = 0.8

_WAITING = "Waiting for the workers of the driver before to end ..."

MakeSpace = Callable[[SearchSpace, PersonalizationTask], Space]
"""Makes the rows of a table, or a part of it, of a search space."""

_logger = logging.getLogger(__name__)

_PACKAGES = ("torch", "transformers", "peft", "ax-platform", "botorch", "gpytorch", "jax",
             "numpyro", "ray", "bitsandbytes", "milp-search")  # fmt: skip


@dataclass(frozen=True)
class Prepared:
    """What a study file names, read: nothing is trained and nothing written yet."""

    spec: StudySpec
    shape: ModelShape | None
    space: Space
    task: PersonalizationTask


def prepare(
    spec: StudySpec, file: Path | None = None, make_space: MakeSpace | None = None
) -> Prepared:
    """Returns the study's base shape, space and data.

    Args:
        spec: The study.
        file: The study file, for the places in error messages.
        make_space: What becomes of the space that the study file names; None leaves it.

    Returns:
        Everything that a study file names, read.

    Raises:
        InputError: Something that the study file names cannot be read or does not fit.
    """
    # Of a model behind an endpoint nothing can be known, and nothing is trained in it.
    asks = spec.endpoint is not None
    spec = with_gpus(spec)
    with _placed(file, "base_model"):
        trusted = spec.trust_remote_code
        shape = None if asks else read_shape(spec.base_model, trust_remote_code=trusted)
    with _placed(file, "space"):
        named = load_search_space(spec.space, layers=0 if shape is None else shape.layers)
        check_dimensions(named, asks=asks)
    with _placed(file, "data"):
        task = load_task(spec.data)
    space: Space = named if make_space is None else make_space(named, task)
    if spec.initial_trials is None:
        usual = usual_initial_trials(spec.preset, space.parameters)
        spec = spec.model_copy(update={"initial_trials": min(usual, spec.budget.trials)})
    with _placed(file, "objectives"):
        metrics = metrics_for(measured_metrics(spec), task.kind)
        check_metrics(metrics, asks=asks, judged=spec.judge is not None)
        if any(metric.needs_retention for metric in metrics):
            check_other_targets(task)
    for key, server in (("endpoint", spec.endpoint), ("judge", spec.judge)):
        if server is not None:
            with _placed(file, key):
                server_url(server)
                api_key(server)
    with _placed(file, "prompts"):
        prompts_fingerprint(spec)
    if asks:
        return Prepared(spec, None, space, task)
    with _placed(file, "base_model"):
        check_base(spec, space, task)
    return Prepared(spec, shape, space, task)


@contextmanager
def _placed(file: Path | None, key: str) -> Iterator[None]:
    """Gives errors that know no place the place of the key in the study file."""
    try:
        yield
    except InputError as error:
        if file is None or error.at is not None:
            raise
        at = read_yaml(file).location((key,))
        raise type(error)(error.message, at=at, remedy=error.remedy) from error


def run_study(prepared: Prepared, folder: Path, console: Console) -> int:
    """Creates a study and drives it to its end; returns the exit code.

    Args:
        prepared: What the study file names.
        folder: Where the study shall live.
        console: Where progress is printed.

    Returns:
        The exit code.

    Raises:
        StudyError: The folder holds a study already.
    """
    spec, task = prepared.spec, prepared.task
    if begun(folder / STORE_NAME):  # asked before the lock is taken, which would outdate workers
        raise StudyError(
            f"{folder} holds a study already",
            remedy=f"Go on with it by `milp-search resume {folder}`, or give another --out.",
        )
    versions = installed_versions()

    def furnish(folder: Path) -> None:
        drop_results(folder)
        write_resolved(spec, folder, versions=versions, data_fingerprint=task.fingerprint)

    with Study.create(
        folder,
        space=prepared.space,
        objectives=spec.objectives,
        seed=spec.seed,
        initial_trials=spec.initial_trials,
        proposer=spec.proposer,
        preset=spec.preset,
        engine=spec.engine,
        method=spec.method,
        metrics=told_metrics(spec),
        constraints=spec.constraints,
        shape=prepared.shape,
        max_communities=len(task.targets),
        settings={
            "name": spec.name,
            "versions": versions,
            "data": task.name,
            "data_fingerprint": task.fingerprint,
            "base_model": spec.endpoint.model if spec.endpoint else spec.base_model,
            "base_digest": None if spec.endpoint else base_digest(spec.base_model),
            "trust_remote_code": spec.trust_remote_code,
            "workers": 1 if spec.dispatch.local else spec.dispatch.parallel,
            "servers": servers(spec),
            "prompts_fingerprint": prompts_fingerprint(spec),
        },
        furnish=furnish,
    ) as study:
        return drive(study, spec, task, console)


def prompts_fingerprint(spec: StudySpec) -> str | None:
    """Returns the fingerprint of what chat models are asked with; None where none is asked.

    Raises PromptError if a prompt of the user's own cannot be used.
    """
    if spec.endpoint is None and spec.judge is None:
        return None
    return load_prompts(None if spec.prompts is None else Path(spec.prompts)).fingerprint()


def servers(spec: StudySpec) -> dict[str, dict[str, Any]]:
    """Returns what a report says of the models that the study asks: names and prices."""
    asked = {"endpoint": spec.endpoint, "judge": spec.judge}
    shown = ("model", "prompt_price", "answer_price", "currency")
    return {
        kind: {name: getattr(one, name) for name in shown}
        for kind, one in asked.items()
        if one is not None
    }


def resume_study(folder: Path, console: Console) -> int:
    """Goes on with a study where it stopped; returns the exit code.

    Args:
        folder: Where the study lives.
        console: Where progress is printed.

    Returns:
        The exit code.

    Raises:
        InputError: There is no study, it was made in Python, another driver runs it, or its data,
            base model or prompts have changed.
    """
    with Study.open(folder) as study:
        if not (folder / SPEC_NAME).exists():
            raise StudyError(
                f"expected a study that `milp-search run` began, got {folder} without {SPEC_NAME}",
                remedy="Go on with it in Python, where it was made: Study.open(DIR).",
            )
        spec = load_study_spec(folder / SPEC_NAME)
        check_marks(study.state, spec.data.forgotten)
        task = load_task(spec.data)
        recorded = study.settings.get("data_fingerprint")
        if recorded not in (None, task.fingerprint):
            raise DataError(
                f"the data has changed since the study began: expected fingerprint {recorded}, "
                f"got {task.fingerprint}",
                remedy="Restore the data, or start a new study.",
            )
        digest = study.settings.get("base_digest")
        if digest is not None and base_digest(spec.base_model) not in (None, digest):
            raise ModelError(
                f"the base model {spec.base_model!r} has changed since the study began: its trials "
                "would not compare",
                remedy="Restore its files, or start a new study.",
            )
        if study.settings.get("prompts_fingerprint") not in (None, prompts_fingerprint(spec)):
            raise StudyError(
                "the prompts have changed since the study began: its trials would not compare",
                remedy="Restore the files that `prompts` names, or start a new study.",
            )
        return drive(study, spec, task, console)


def drive(study: Study, spec: StudySpec, task: PersonalizationTask, console: Console) -> int:
    """Runs a study's remaining jobs, then writes its outputs; returns the exit code."""
    progress = Progress(study, spec.budget.trials, console)
    source = StudySource(study, spec, on_change=progress.show)
    with logged(study.folder), _stopping_on_signals(source, console) as signals:
        wait_for_workers(study.folder, lambda: console.print(_WAITING))
        until_there_is_space(partial(book_lost, study.folder), "the account", study.folder)
        if spec.training.base_training != "none" and task.others and spec.endpoint is None:
            stage = f"Base stage ({spec.training.base_training}) on {len(task.others)} users ..."
            console.print(stage)
            staged_base(study.folder, for_workers(spec), task)
        source.adopt()
        try:
            execute(source, study.folder, spec, task, console)
        finally:
            source.close()
    progress.close()
    # Who asked for an end is not kept waiting for space: a resumed study writes these anew.
    keep = unless_full if signals else until_there_is_space
    keep(partial(_write_outputs, study), "the outputs", study.folder)
    if signals:
        console.print(f"Stopped. Go on with: milp-search resume {study.folder}")
        return 128 + signals[0]
    if study.finished is None:
        study.finish(f"{ended(study.trials)} trials ended")
    return 0 if study.front() else NO_TRIAL_SUCCEEDED


def _write_outputs(study: Study) -> None:
    export(study)
    write_report(study)


def execute(
    source: StudySource, folder: Path, spec: StudySpec, task: PersonalizationTask, console: Console
) -> None:
    """Runs jobs until there are none: in this process, or through Ray Tune."""
    settings, epoch = spec.dispatch, source.study.state.epoch
    reason = None if spec.endpoint else unpacked(spec)
    if settings.trainer == "packed" and reason is not None:
        console.print(f"Plain PEFT trains one adapter after another: no packed path ({reason}).")
    packs = f"in packs of up to {largest_pack(settings, spec.batch)}"
    if settings.local:
        console.print(f"Running trials in this process, {packs}.")
        run_local(source, RunnerFactory(folder, epoch=epoch)())
        return
    # Ray takes seconds to import and is not needed for local runs.
    from milp_search.dispatch.ray_tune import ray_settings, run_with_ray

    console.print(f"Running trials on {settings.parallel} workers through Ray Tune, {packs}.")
    make_runner = replace(sharing_factory(folder.absolute(), spec, task), epoch=epoch)
    placed = make_runner.placed
    shared_mib = 0.0 if placed is None else placed.size_mib
    run_with_ray(source, make_runner=make_runner, settings=ray_settings(settings, shared_mib))


def sharing_factory(folder: Path, spec: StudySpec, task: PersonalizationTask) -> RunnerFactory:
    """Returns a factory that carries the base model, read once for all workers.

    Where this machine's shared memory is too small for it, or its weights are quantised, each
    worker reads its own.
    """
    if spec.endpoint is not None:
        return RunnerFactory(folder)
    # The classes of a model's own code are known to the process only that has read it.
    if spec.trust_remote_code or spec.base_precision != "auto":
        return RunnerFactory(folder)
    if is_quantised(read_config(spec.base_model)):
        return RunnerFactory(folder)
    base, stage = staged_base(folder, for_workers(spec), task)
    settings = spec.dispatch
    on_gpus = settings.gpus > 0 and settings.device != "cpu"
    placed = place_base(base, half=on_gpus)
    del base
    free_memory()
    free_mib = shared_memory_mib()
    if spec.dispatch.ray_address is None and placed.size_mib > _SHARED_PART * free_mib:
        _logger.info("shared memory has %.0f MiB free, too few for the base model", free_mib)
        return RunnerFactory(folder)
    return RunnerFactory(folder, placed, stage)


def unpacked(spec: StudySpec) -> str | None:
    """Returns in a word why the study's base has no packed path, None where it has one."""
    if spec.base_precision != "auto":
        return f"{spec.base_precision} weights"
    config = read_config(spec.base_model, trust_remote_code=spec.trust_remote_code)
    return unknown_blocks(config, spec.training.max_length)


def installed_versions() -> dict[str, str]:
    """Returns the versions of the libraries that decide a study's results."""
    return {name: importlib.metadata.version(name) for name in _PACKAGES if _installed(name)}


def _installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


@contextmanager
def _stopping_on_signals(source: StudySource, console: Console) -> Iterator[list[int]]:
    """Stops asking at the first SIGINT or SIGTERM; the second ends running trials, the third all.

    Where no trial runs the first is the second. Yields the signals that came. Everything that was
    told is on disk already, so that leaving at once loses nothing but the trials in flight.
    """
    came: list[int] = []

    def handle(number: int, _: FrameType | None) -> None:
        came.append(number)
        source.stopping = True
        if len(came) > 2:
            os._exit(128 + number)
        if len(came) == 2 or not source.busy:
            give_up()
            raise KeyboardInterrupt
        console.print("\nStopping: running trials may end. Again to leave at once.")

    if threading.current_thread() is not threading.main_thread():
        yield came
        return
    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield came
    except (KeyboardInterrupt, DiskFullError):
        if not came:
            raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        wait_again()

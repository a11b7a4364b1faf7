"""The worker's half: base model, data and trainer are kept, and jobs run on them."""

from __future__ import annotations

import json
import shutil
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from milp_search.adapters.base_fit import fit_base, load_fitted_base
from milp_search.adapters.base_model import BaseModel, load_base_model
from milp_search.adapters.export import save_stacks
from milp_search.adapters.peft_trainer import PeftTrainer
from milp_search.core.errors import MeasurementError, MilpSearchError
from milp_search.core.model_shape import trainable_parameters
from milp_search.core.plan import TrialPlan
from milp_search.core.records import PersonalizationTask
from milp_search.core.settings import TrainingSettings
from milp_search.core.trial import Failure, Measurement
from milp_search.data.load import load_task
from milp_search.dispatch.folders import RESULTS, adapters_folder
from milp_search.dispatch.jobs import Job, Outcome, RunJob
from milp_search.metrics.table import METRICS, measure
from milp_search.personalize.base_stage import base_examples, base_stage_key
from milp_search.personalize.method import Run, Stacks
from milp_search.personalize.run import Split, answer, train
from milp_search.study.spec import StudySpec
from milp_search.study.spec_file import SPEC_NAME, load_study_spec
from milp_search.study.whole_file import write_whole

TRAINABLE_PARAMS = "trainable_params"


@dataclass(frozen=True)
class RunnerFactory:
    """Makes the runner of a study in whatever process it is called."""

    folder: Path

    def __call__(self) -> RunJob:
        """Returns a function that runs the study's jobs in this process."""
        spec = load_study_spec(self.folder / SPEC_NAME)
        # No more threads than cores set aside: those that wait for one another are slow.
        torch.set_num_threads(max(int(spec.dispatch.cpus_per_trial), 1))
        return TrialRunner(self.folder, spec).run


class TrialRunner:
    """Runs jobs of one study; the base model, data and trainer are loaded once."""

    def __init__(self, folder: Path, spec: StudySpec):
        self.folder, self.spec = folder, spec

    @cached_property
    def task(self) -> PersonalizationTask:
        """The population."""
        return load_task(self.spec.data)

    @property
    def base(self) -> BaseModel:
        """The base model, after the base stage where the study has one."""
        return self._staged[0]

    @cached_property
    def _staged(self) -> tuple[BaseModel, Path | None]:
        return staged_base(self.folder, self.spec, self.task)

    def run(self, job: Job) -> Outcome:
        """Runs a job and keeps its outcome in the study's folder; failures are outcomes too."""
        start = time.monotonic()
        try:
            outcome = Outcome(self._measured(job))
        except Exception as error:  # the trial boundary: whatever happened, the study goes on
            failure = describe_failure(error)
            log_failure(self.folder, job, error)
            outcome = Outcome({}, failure)
        outcome = replace(outcome, duration_s=time.monotonic() - start)
        write_outcome(self.folder, job, outcome)
        return outcome

    def _measured(self, job: Job) -> Mapping[str, Measurement]:
        split: Split = "validation" if job.kind == "search" else "test"
        measurements, stacks = self.evaluate(job.plan, job.seed, split, halvings=job.halvings)
        if job.kind == "search":
            self._keep_adapters(job, stacks)
        return measurements

    def evaluate(
        self, plan: TrialPlan, seed: int, split: Split, *, halvings: int = 0
    ) -> tuple[Mapping[str, Measurement], Stacks]:
        """Trains a plan and returns what it measures on a split, and the adapters."""
        self.trainer.settings = halved(self.spec.training, halvings)
        run = Run(self.task, plan, self.trainer, self.spec.training, seed)
        names = measured_metrics(self.spec)
        generate = any(METRICS[name].needs_generation for name in names)
        stacks = train(run)
        measurements = measure(answer(run, stacks, split, generate=generate), names)
        maps = self.base.shape.targets(plan.adapter.target_maps)
        parameters = Measurement(float(trainable_parameters(plan.adapter, maps)), 0.0)
        return {**measurements, TRAINABLE_PARAMS: parameters}, stacks

    @cached_property
    def trainer(self) -> PeftTrainer:
        """The trainer; what it has embedded once stays."""
        return PeftTrainer(self.base, self.spec.training)

    def _keep_adapters(self, job: Job, stacks: Stacks) -> None:
        """Writes the trial's adapters, complete or not at all."""
        folder = adapters_folder(self.folder, job.trial)
        partial = folder.with_name(folder.name + ".partial")
        for old in (partial, folder):
            shutil.rmtree(old, ignore_errors=True)
        facts = {
            "trial": job.trial,
            "seed": job.seed,
            "plan": job.plan.as_dict(),
            "base_model": self.spec.base_model,
            "base_fingerprint": self.base.fingerprint,
            "base_stage": self._base_stage(),
            "scaling": "PEFT's: every adapter of a stack adds alpha / r * B A to its linear map",
        }
        save_stacks(partial, stacks, self.base.shape, facts)
        partial.rename(folder)

    def _base_stage(self) -> dict[str, str] | None:
        stage = self._staged[1]
        if stage is None:
            return None
        return {"mode": self.spec.training.base_training, "folder": f"../../{stage.name}"}


def staged_base(
    folder: Path, spec: StudySpec, task: PersonalizationTask
) -> tuple[BaseModel, Path | None]:
    """Returns the study's base model and the folder of its base stage, None where it has none.

    The stage is trained now if it is not there yet; its folder is named by what decides it.
    """
    base = load_base_model(spec.base_model, device=spec.dispatch.device)
    mode = spec.training.base_training
    if mode == "none" or not task.others:
        return base, None
    stage = folder / f"base-{base_stage_key(base.fingerprint, task, spec.training, spec.seed)}"
    if not stage.exists():
        fit_base(base, base_examples(task), spec.training, spec.seed, stage)
        base = load_base_model(spec.base_model, device=spec.dispatch.device)
    return load_fitted_base(base, mode, stage), stage


def measured_metrics(spec: StudySpec) -> list[str]:
    """Returns the metrics that a trial of this study measures, each once."""
    named = [*(objective.metric for objective in spec.objectives), *spec.metrics]
    return [name for name in dict.fromkeys(named) if name != TRAINABLE_PARAMS]


def halved(settings: TrainingSettings, halvings: int) -> TrainingSettings:
    """Returns the settings with the micro-batch halved so many times, at least 1."""
    size = settings.micro_batch or settings.batch_size
    return replace(settings, micro_batch=max(size >> halvings, 1))


def describe_failure(error: Exception) -> Failure:
    """Returns what kind of failure an exception is; the reason quotes no user's text."""
    if isinstance(error, MeasurementError):
        return Failure("non_finite", str(error).splitlines()[0])
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return Failure("out_of_memory", type(error).__name__)
    last = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{Path(last.filename).name}:{last.lineno}"
    return Failure("exception", f"{type(error).__name__} at {place}")


def write_outcome(folder: Path, job: Job, outcome: Outcome) -> None:
    """Writes a job's result file, complete or not at all."""
    (folder / RESULTS).mkdir(mode=0o700, exist_ok=True)
    content = {"job": job.as_dict(), "outcome": outcome.as_dict()}
    write_whole(folder / RESULTS / f"{job.name}.json", json.dumps(content, default=_plain) + "\n")


def log_failure(folder: Path, job: Job, error: Exception) -> None:
    """Writes an exception's traceback to the study's log.

    Messages may quote users' texts, so only those of our own, of torch and of the system stand.
    """
    frames = "".join(traceback.format_tb(error.__traceback__))
    told = isinstance(error, MilpSearchError | RuntimeError | OSError)
    message = f": {error}" if told else ""
    with open(folder / "log.txt", "a", encoding="utf-8") as log:
        log.write(f"--- {job.name}\n{frames}{type(error).__name__}{message}\n")


def _plain(value: Any) -> Any:
    if hasattr(value, "item"):
        return value.item()
    raise TypeError(f"no JSON for {type(value).__name__}")

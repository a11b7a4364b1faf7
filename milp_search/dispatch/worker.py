"""The worker's half: base model, data and trainer are kept, and jobs run on them."""

from __future__ import annotations

import gc
import json
import shutil
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch

from milp_search.adapters.base_fit import fit_base, load_fitted_base
from milp_search.adapters.base_model import BaseModel, load_base_model, text_fingerprint
from milp_search.adapters.checkpoints import Checkpoints
from milp_search.adapters.export import save_stacks
from milp_search.adapters.jobs import AdapterTrainer
from milp_search.adapters.packed.memory import is_out_of_memory
from milp_search.adapters.placed_base import PlacedBase, rebuild_base
from milp_search.adapters.stage_cache import StageCache
from milp_search.core.chat import EndpointError
from milp_search.core.errors import (
    InputError,
    MeasurementError,
    MilpSearchError,
    StudyError,
    TrialError,
)
from milp_search.core.methods import METHODS
from milp_search.core.model_shape import trainable_parameters
from milp_search.core.plan import AdapterPlan, TrialPlan
from milp_search.core.private_files import appending, keep_private, own_folder, refuse_link
from milp_search.core.records import PersonalizationTask, Predictions
from milp_search.core.trial import Failure, Measurement
from milp_search.core.whole_file import write_whole
from milp_search.data.load import load_task
from milp_search.dispatch.answers import payer_of
from milp_search.dispatch.check_base import for_workers
from milp_search.dispatch.checkpoints import job_checkpoints
from milp_search.dispatch.fence import at_work
from milp_search.dispatch.folders import LOG_NAME, RESULTS, adapters_folder
from milp_search.dispatch.jobs import Job, Outcome, Pack, RunPack, raised_at
from milp_search.dispatch.judging import Judging
from milp_search.dispatch.lost_gpu import LostGpuError, require_gpu
from milp_search.dispatch.make_trainer import make_cache, make_trainer, reading
from milp_search.dispatch.paying import paid_metrics
from milp_search.dispatch.rendezvous import train_together
from milp_search.dispatch.watchdog import watched
from milp_search.metrics.table import measure, metrics_for, needs_judge
from milp_search.metrics.win_rate import JUDGE_CHECKS, MODEL
from milp_search.personalize.base_stage import base_examples, base_stage_key
from milp_search.personalize.global_chain import even_share
from milp_search.personalize.method import Run, Stacks
from milp_search.personalize.run import Split, answer, train
from milp_search.study.disk_space import unless_full, until_there_is_space
from milp_search.study.examples import chosen_examples, write_examples
from milp_search.study.spec import StudySpec
from milp_search.study.spec_file import SPEC_NAME, load_study_spec

TRAINABLE_PARAMS = "trainable_params"

# Where operations on tensors stand, whose errors tell of shapes, types and devices.
_LIBRARIES = Path(torch.__file__).parents[1]
_OF_NUMBERS = (
    Path(__file__).parents[1],
    *(_LIBRARIES / name for name in ("torch", "transformers", "peft")),
)


@dataclass(frozen=True)
class RunnerFactory:
    """Makes the runner of a study in whatever process it is called.

    Attributes:
        folder: The study's folder.
        placed: The base model, after the base stage, where it need not be read from disk: through
            Ray its arrays come into all workers of a machine as one memory.
        stage: The folder of the base stage, None where the study has none.
        epoch: The driver's; its workers stop working once another driver has taken over.
    """

    folder: Path
    placed: PlacedBase | None = None
    stage: Path | None = None
    epoch: int | None = None

    def __call__(self) -> RunPack:
        """Makes a function that runs the study's packs in this process.

        Returns:
            The function.

        Raises:
            StudyError: It cannot be made; the traceback is in the study's log.
        """
        try:
            return self._run_pack()
        except InputError:
            raise
        except Exception as error:
            log_failure(self.folder, "worker", error)
            raise StudyError(
                f"expected a worker to load model and data, got {describe_failure(error).reason}",
                remedy=f"Look into {self.folder / LOG_NAME}, then resume the study.",
            ) from error

    def _run_pack(self) -> RunPack:
        spec = for_workers(load_study_spec(self.folder / SPEC_NAME))
        if spec.endpoint is not None:
            from milp_search.dispatch.chat_runner import ChatRunner

            return ChatRunner(self.folder, spec, self.epoch).run
        # No more threads than cores set aside: those that wait for one another are slow.
        torch.set_num_threads(max(int(spec.dispatch.cpus_per_trial), 1))
        staged = None
        if self.placed is not None:
            staged = rebuild_base(self.placed, spec.dispatch.device), self.stage
        return TrialRunner(self.folder, spec, staged, self.epoch).run


class TrialRunner:
    """Runs jobs of one study; the base model, data and trainer are loaded once.

    The base model, with the folder of its base stage, may be given; else it is read.
    """

    def __init__(
        self,
        folder: Path,
        spec: StudySpec,
        staged: tuple[BaseModel, Path | None] | None = None,
        epoch: int | None = None,
    ):
        self.folder, self.spec, self.epoch = folder, spec, epoch
        self._given = staged

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
        return self._given or staged_base(self.folder, self.spec, self.task)

    @cached_property
    def _fingerprint(self) -> str:
        return text_fingerprint(self.base, reading(self.base, self.spec, self.task.choices))

    @cached_property
    def cache(self) -> StageCache | None:
        """What trials share, in the study's folder; None where the study keeps nothing."""
        return make_cache(self.spec, self.folder)

    @cached_property
    def trainer(self) -> AdapterTrainer:
        """The trainer; what it has embedded once stays."""
        return make_trainer(self.base, self.spec, self.cache, self.task.choices)

    @cached_property
    def judging(self) -> Judging:
        """The judges, where a metric needs one."""
        return Judging(self.folder, self.spec)

    def run(self, pack: Pack) -> list[Outcome]:
        """Trains jobs together and keeps each one's outcome in the study's folder.

        A job that fails fails alone, and failures are outcomes too.

        Args:
            pack: The jobs.

        Returns:
            One outcome per job, in order.

        Raises:
            EndpointError: A judge that is needed cannot be asked.
            LostGpuError: A job failed, and with it this process's GPU.
            StudyError: Another driver runs the study by now.
        """
        dispatch = self.spec.dispatch
        with (
            at_work(self.folder, self.epoch),
            watched(self.folder, pack, dispatch.hang_after_s, dispatch.time_limit_s),
        ):
            return self._run(pack)

    def _run(self, pack: Pack) -> list[Outcome]:
        if self.cache is not None:
            self.cache.reset_counts()
        start = time.monotonic()
        try:
            self.trainer.halvings = max(job.halvings for job in pack)
            plans = [partial(self._measured, job, len(pack), start) for job in pack]
            results = train_together(self.trainer, plans)
        except Exception as error:  # the trial boundary: whatever happened, the study goes on
            results = [error] * len(pack)
        unasked = next((one for one in results if isinstance(one, EndpointError)), None)
        if unasked is not None:
            # The judge cannot be asked, which is no trial's fault.
            raise unasked
        log_if_gpu_lost(self.folder, pack, results)
        duration_s = (time.monotonic() - start) / len(pack)
        reused = shares({} if self.cache is None else self.cache.counts, len(pack))
        outcomes = [
            ended(self.folder, job, result, Outcome({}, None, duration_s, len(pack), counts))
            for job, result, counts in zip(pack, results, reused, strict=True)
        ]
        if any(outcome.failure is not None for outcome in outcomes):
            # Tracebacks hold what was in memory, which the next attempt needs.
            results.clear()
            free_memory()
        return outcomes

    def evaluate(
        self, plan: TrialPlan, seed: int, split: Split, *, halvings: int = 0
    ) -> tuple[Mapping[str, Measurement], Stacks]:
        """Trains a plan and returns what it measures on a split, and the adapters."""
        self.trainer.halvings = halvings
        return self._evaluated(self.run_of(plan, seed), split)[:2]

    def run_of(self, plan: TrialPlan, seed: int) -> Run:
        """Returns what a method is given to train a plan."""
        settings = self.spec.training
        return Run(self.task, plan, self.trainer, settings, seed, self.cache, self._fingerprint)

    def _measured(
        self, job: Job, pack: int, start: float, trainer: AdapterTrainer
    ) -> Mapping[str, Measurement]:
        split: Split = "validation" if job.kind == "search" else "test"
        place = job_checkpoints(self.folder, job)
        checkpoints = Checkpoints.open(place, self._fingerprint, self.cache)
        run = replace(
            self.run_of(job.plan, job.seed),
            trainer=checkpoints.behind(trainer),
            checkpoints=checkpoints,
        )
        examples = self.spec.examples if job.kind == "test" else 0
        measurements, stacks, predictions = self._evaluated(
            run, split, generate=examples > 0, payer=payer_of(self.folder, job)
        )
        if job.kind == "search":
            keep = partial(self._keep_adapters, job, stacks)
            until_there_is_space(keep, f"the adapters of {job.name}", self.folder)
        if examples:
            users = [target.user for target in self.task.targets]
            kept = chosen_examples(predictions.items, users, examples, job.trial, job.seed)
            write_examples(self.folder, kept)
        if pack > 1:
            # Others of the pack may still work for long: should they, or their process, come to
            # grief, this one is done. Its share of the time is not known before all have ended.
            duration_s = (time.monotonic() - start) / pack
            write_outcome(self.folder, job, Outcome(measurements, None, duration_s, pack))
        return measurements

    def _evaluated(
        self, run: Run, split: Split, *, generate: bool = False, payer: str | None = None
    ) -> tuple[Mapping[str, Measurement], Stacks, Predictions]:
        names = measured_metrics(self.spec)
        metrics = metrics_for(names, self.task.kind)
        trained = train(run)
        predictions = answer(
            run,
            trained,
            split,
            generate=generate or any(metric.needs_generation for metric in metrics),
            topics=any(metric.needs_topics for metric in metrics),
            retention=any(metric.needs_retention for metric in metrics),
        )
        predictions, of_judge = self.judging.judged(
            predictions, metrics, split, lambda: self._rival(run, split), payer
        )
        measurements = measure(predictions, names)
        adapter = run.plan.adapter
        maps = self.base.shape.targets(adapter.target_maps)
        parameters = Measurement(float(trainable_parameters(adapter, maps)), 0.0)
        told = {**measurements, **of_judge, TRAINABLE_PARAMS: parameters}
        return told, trained.stacks, predictions

    def _rival(self, run: Run, split: Split) -> Predictions:
        """Returns TpLP's answers to a split's queries (MiLP, section 4.1)."""
        layers = self.base.shape.layers
        plan = TrialPlan("tplp", AdapterPlan((0,) * layers)).canonical(METHODS["tplp"])
        rival = replace(run, plan=plan)
        return answer(rival, train(rival), split, generate=True)

    def _keep_adapters(self, job: Job, stacks: Stacks) -> None:
        """Writes the trial's adapters, complete or not at all."""
        folder = adapters_folder(self.folder, job.trial)
        unfinished = folder.with_name(folder.name + ".partial")
        own_folder(folder.parent)
        for old in (unfinished, folder):
            refuse_link(old)
            shutil.rmtree(old, ignore_errors=True)
        facts = {
            "trial": job.trial,
            "seed": job.seed,
            "plan": job.plan.as_dict(),
            "base_model": self.spec.base_model,
            "base_fingerprint": self.base.fingerprint,
            "base_precision": self.spec.base_precision,
            "base_stage": self._base_stage(),
            "chat_template": self._chat_template(),
            "choices": [*self.task.choices] if self.base.masked else None,
            "scaling": "PEFT's: every adapter of a stack adds alpha / r * B A to its linear map",
        }
        save_stacks(unfinished, stacks, self.base.shape, facts, masked=self.base.masked)
        keep_private(unfinished)
        unfinished.rename(folder)

    def _chat_template(self) -> str | None:
        """Returns the tokenizer's chat template, in which texts were asked and answered, if any."""
        used = not self.base.masked and reading(self.base, self.spec, self.task.choices)
        return str(self.base.tokenizer.get_chat_template()) if used else None

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
    device, trust = spec.dispatch.device, spec.trust_remote_code
    base = load_base_model(
        spec.base_model, device=device, precision=spec.base_precision, trust_remote_code=trust
    )
    mode = spec.training.base_training
    if mode == "none" or not task.others:
        return base, None
    read = reading(base, spec, task.choices)
    key = base_stage_key(base.fingerprint, task, spec.training, spec.seed, read)
    stage = folder / f"base-{key}"
    if not stage.exists():
        fit_base(base, base_examples(task), spec.training, spec.seed, stage, task.choices)
        base = load_base_model(spec.base_model, device=device, trust_remote_code=trust)
    return load_fitted_base(base, mode, stage, trust_remote_code=trust), stage


def measured_metrics(spec: StudySpec) -> list[str]:
    """Returns the metrics that a trial of this study measures, each once."""
    named = [*(objective.metric for objective in spec.objectives), *spec.metrics]
    return [name for name in dict.fromkeys(named) if name != TRAINABLE_PARAMS]


def told_metrics(spec: StudySpec) -> list[str]:
    """Returns everything that a trial may tell, each once.

    Beside the metrics: the parameters that it trains or what its questions cost, and of a model
    as the judge whether it can be trusted.
    """
    names = measured_metrics(spec)
    judged = any(needs_judge(name) == MODEL for name in names)
    size = [] if spec.endpoint else [TRAINABLE_PARAMS]
    checks = JUDGE_CHECKS if judged else ()
    return [*dict.fromkeys([*names, *checks, *paid_metrics(spec, judged=judged), *size])]


def free_memory() -> None:
    """Gives back what nothing refers to any more."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def shares(counts: Mapping[str, tuple[int, int]], parts: int) -> list[dict[str, tuple[int, int]]]:
    """Returns hits and misses cut evenly, as hits and lookups; the parts' sums are exact.

    What several plans look up in one call cannot be told apart by plan.
    """
    return [
        {
            kind: (found, found + even_share(misses, parts, part))
            for kind, (hits, misses) in sorted(counts.items())
            for found in [even_share(hits, parts, part)]
        }
        for part in range(parts)
    ]


def describe_failure(error: Exception) -> Failure:
    """Returns what kind of failure an exception is; the reason quotes no user's text."""
    if isinstance(error, MeasurementError):
        return Failure("non_finite", str(error).splitlines()[0])
    if isinstance(error, TrialError):
        return Failure(error.kind, error.reason)
    if is_out_of_memory(error):
        return Failure("out_of_memory", type(error).__name__)
    return Failure("exception", raised_at(error))


def log_if_gpu_lost(
    folder: Path, pack: Pack, results: Sequence[Mapping[str, Measurement] | Exception]
) -> None:
    """Raises LostGpuError if jobs failed and the GPU with them, which is no fault of later ones.

    What they failed by is in the study's log then, and no outcome of theirs is written.
    """
    ends = zip(pack, results, strict=True)
    failed = [(job, result) for job, result in ends if isinstance(result, Exception)]
    if not failed:
        return
    try:
        require_gpu()
    except LostGpuError:
        for job, error in failed:
            log_failure(folder, job.name, error)
        raise


def ended(
    folder: Path, job: Job, result: Mapping[str, Measurement] | Exception, outcome: Outcome
) -> Outcome:
    """Returns the outcome with the result in it, which is on disk already."""
    if isinstance(result, Exception):
        log_failure(folder, job.name, result)
        outcome = replace(outcome, failure=describe_failure(result))
    else:
        outcome = replace(outcome, measurements=result)
    write_outcome(folder, job, outcome)
    return outcome


def write_outcome(folder: Path, job: Job, outcome: Outcome) -> None:
    """Writes a job's result file, complete or not at all.

    It is there for when the driver dies; the driver that lives is told the outcome itself, so that
    a full disk fails no trial.
    """
    content = {"job": job.as_dict(), "outcome": outcome.as_dict()}
    text = json.dumps(content, default=_plain) + "\n"

    def write() -> None:
        own_folder(folder / RESULTS)
        write_whole(folder / RESULTS / f"{job.name}.json", text)

    unless_full(write, f"the result file of {job.name}", folder)


def log_failure(folder: Path, name: str, error: Exception) -> None:
    """Writes the traceback of a job's or worker's exception to the study's log.

    Messages may quote users' texts, so only those stand that cannot.
    """
    frames = "".join(traceback.format_tb(error.__traceback__))
    message = f": {error}" if quotes_nobody(error) else ""

    def write() -> None:
        with appending(folder / LOG_NAME) as log:
            log.write(f"--- {name}\n{frames}{type(error).__name__}{message}\n")

    unless_full(write, f"the traceback of {name}", folder)


def quotes_nobody(error: Exception) -> bool:
    """Returns whether an exception's message cannot hold a user's text.

    Ours quote none. The system's tell of files, and carry its error number; other libraries raise
    the same kind with words of their own. Torch's know numbers only: they come out of torch or
    out of an operation in the code of a model, and other libraries' errors of that kind do not.
    """
    if isinstance(error, MilpSearchError):
        return True
    if isinstance(error, OSError):
        return error.errno is not None
    frames = traceback.extract_tb(error.__traceback__)
    innermost = Path(frames[-1].filename) if frames else Path()
    return isinstance(error, RuntimeError) and any(
        innermost.is_relative_to(folder) for folder in _OF_NUMBERS
    )


def _plain(value: Any) -> Any:
    if hasattr(value, "item"):
        return value.item()
    raise TypeError(f"no JSON for {type(value).__name__}")

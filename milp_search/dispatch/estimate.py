"""What a study will cost, from the data's token counts and one timed forward pass."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from milp_search.adapters.base_model import BaseModel
from milp_search.core.plan import TrialPlan
from milp_search.core.records import Interaction, PersonalizationTask
from milp_search.core.settings import TrainingSettings
from milp_search.dispatch.memory import adapters_mib
from milp_search.study.spec import StudySpec

_BACKWARD = 2.0  # ours: a backward pass takes about twice the forward pass
_EXPECTED_FRONT = 8  # ours: the usual size of a front after some dozen trials


@dataclass(frozen=True)
class Estimate:
    """Expected cost of a study.

    Attributes:
        trial_s: Seconds of a trial with a typical plan.
        study_s: Seconds of the whole study, its final tests included.
        disk_mib: Mebibytes of the adapters that are kept.
    """

    trial_s: float
    study_s: float
    disk_mib: float


def estimate(
    spec: StudySpec, task: PersonalizationTask, base: BaseModel, plans: Sequence[TrialPlan]
) -> Estimate:
    """Returns what the study is expected to cost; `plans` are samples of its space."""
    forward_s = seconds_per_token(base)
    seconds = [forward_s * forward_tokens(task, plan, spec.training, base) for plan in plans]
    trial_s = sum(seconds) / len(seconds)
    tests = min(_EXPECTED_FRONT, spec.budget.trials) * len(spec.test_seeds)
    runs = (spec.budget.trials + tests) / spec.dispatch.parallel
    sizes = [adapters_mib(plan, len(task.targets), base.shape) for plan in plans]
    return Estimate(trial_s, trial_s * runs, _EXPECTED_FRONT * sum(sizes) / len(sizes))


def forward_tokens(
    task: PersonalizationTask, plan: TrialPlan, settings: TrainingSettings, base: BaseModel
) -> float:
    """Returns a trial's work, in tokens of forward passes."""
    size = _mean_tokens(task, base)
    prompted = min(size * (1 + plan.retrieved_items), settings.max_length)
    items = sum(len(user.history) for user in task.targets)
    asked = sum(len(user.validation) for user in task.targets)
    training = items * (settings.injection_epochs * size + settings.tuning_epochs * prompted)
    training += plan.communities * settings.global_steps * settings.batch_size * size
    trained = training * (1 + _BACKWARD) if plan.adapter.total_rank else 0.0
    return trained + asked * (2 * prompted + settings.max_new_tokens)


@torch.no_grad()
def seconds_per_token(base: BaseModel, rows: int = 8, length: int = 64) -> float:
    """Returns the measured time of a forward pass per token; the second of two passes counts."""
    ids = torch.ones((rows, length), dtype=torch.long, device=base.device)
    for _ in range(2):
        start = time.perf_counter()
        base.model(input_ids=ids)
        if base.device.type == "cuda":
            torch.cuda.synchronize()
    return (time.perf_counter() - start) / (rows * length)


def _mean_tokens(task: PersonalizationTask, base: BaseModel) -> float:
    items: list[Interaction] = [item for user in task.targets for item in user.history[:20]]
    texts = [f"{item.query} {item.response}" for item in items[:200]]
    lengths = [len(ids) for ids in base.tokenizer(texts)["input_ids"]]
    return sum(lengths) / max(len(lengths), 1)

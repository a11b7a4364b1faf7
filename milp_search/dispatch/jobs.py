"""What an executor is handed and what it hands back."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from milp_search.core.plan import TrialPlan, plan_from_dict
from milp_search.core.trial import Failure, Measurement


@dataclass(frozen=True)
class Job:
    """One training run.

    Attributes:
        kind: `search` is measured on validation queries; `test`, the final test of a trial of the
            front, and `row`, a trial of a table, on test queries.
        trial: The trial's index.
        attempt: 0 at first, one more after each retry.
        plan: What to train.
        seed: Seed of the training.
        halvings: How often what goes through the model in one pass is halved, for want of memory.
    """

    kind: Literal["search", "test", "row"]
    trial: int
    attempt: int
    plan: TrialPlan
    seed: int
    halvings: int = 0

    @property
    def run(self) -> str:
        """What is run, the same in every attempt."""
        extra = f"-seed{self.seed}" if self.kind == "test" else ""
        return f"{self.kind}-{self.trial:05d}{extra}"

    @property
    def name(self) -> str:
        """A name unique in the study, fit for a file name."""
        return f"{self.run}-{self.attempt}"

    def as_dict(self) -> dict[str, Any]:
        """Returns plain JSON values; `job_from_dict` is the inverse."""
        return {**asdict(self), "plan": self.plan.as_dict()}


def job_from_dict(values: Mapping[str, Any]) -> Job:
    """Returns the job that `Job.as_dict` wrote."""
    return Job(**{**values, "plan": plan_from_dict(values["plan"])})


Pack = tuple[Job, ...]
"""Jobs that one worker trains together; each keeps its own attempt, outcome and result file."""


@dataclass(frozen=True)
class Outcome:
    """How a job ended: with measurements, or with a failure.

    Attributes:
        measurements: Metric name to value; empty after a failure.
        failure: Why it failed, if it did.
        duration_s: The job's even share of its pack's seconds.
        pack: How many jobs were trained together.
        reused: What was looked up in the study's cache, by kind, as hits and lookups; the job's
            share of its pack's.
    """

    measurements: Mapping[str, Measurement]
    failure: Failure | None = None
    duration_s: float | None = None
    pack: int = 1
    reused: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Returns plain JSON values; `outcome_from_dict` is the inverse."""
        return asdict(self)


def outcome_from_dict(values: Mapping[str, Any]) -> Outcome:
    """Returns the outcome that `Outcome.as_dict` wrote."""
    measurements = {
        name: Measurement(m["mean"], m["sem"], tuple(m["per_user"]))
        for name, m in values["measurements"].items()
    }
    failure = values["failure"]
    return Outcome(
        measurements,
        failure and Failure(**failure),
        values["duration_s"],
        # Result files of earlier versions have neither of these.
        values.get("pack", 1),
        {kind: (hits, asked) for kind, (hits, asked) in values.get("reused", {}).items()},
    )


def raised_at(error: BaseException) -> str:
    """Returns an exception's type and where it was raised, which quotes nobody's text."""
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return type(error).__name__
    return f"{type(error).__name__} at {Path(frames[-1].filename).name}:{frames[-1].lineno}"


RunPack = Callable[[Pack], list[Outcome]]
"""Runs a pack in the process that it is called in and returns one outcome per job, in order; the
failure of a job is an outcome."""


class JobSource(Protocol):
    """Where an executor gets its jobs from; called from the driver's process only."""

    @property
    def finished(self) -> bool:
        """Whether there will be no more jobs."""
        ...

    def next(self) -> Pack:
        """Returns the next pack, empty while a job has to end before the next is known."""
        ...

    def done(self, job: Job, outcome: Outcome) -> None:
        """Takes the outcome of one job of a pack."""
        ...

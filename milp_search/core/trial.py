"""Measurements, objectives and trials."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import ClassVar, Literal

from milp_search.core.arm import Arm
from milp_search.core.errors import MeasurementError, SpecError
from milp_search.core.plan import TrialPlan

Direction = Literal["minimize", "maximize"]


@dataclass(frozen=True)
class Measurement:
    """A metric's value with its standard error.

    Attributes:
        mean: The value.
        sem: Its standard error over users; None where it is not known, 0 where it is exact.
        per_user: The users' values behind the mean, in the task's order of users; empty where
            they are not known, or a user was forgotten. Trials of one study see the same users,
            so these allow paired comparison, which a standard error over users does not.
    """

    mean: float
    sem: float | None = None
    per_user: tuple[float, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        if not math.isfinite(self.mean):
            raise MeasurementError(f"expected a finite mean, got {self.mean}")
        if self.sem is not None and not (math.isfinite(self.sem) and self.sem >= 0):
            raise MeasurementError(f"expected a finite, non-negative sem, got {self.sem}")


@dataclass(frozen=True)
class Objective:
    """A metric to be optimised.

    Attributes:
        metric: The metric's name.
        direction: Whether smaller or larger is better.
        reference: The worst acceptable value, fixed for a study; None to infer it once from the
            initial trials.
    """

    metric: str
    direction: Direction
    reference: float | None = None

    # For pydantic, where a study file names objectives: refuse unknown keys.
    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    def __post_init__(self) -> None:
        if self.direction not in ("minimize", "maximize"):
            raise SpecError(
                f"expected direction 'minimize' or 'maximize' for {self.metric!r}, "
                f"got {self.direction!r}"
            )
        if self.reference is not None and not math.isfinite(self.reference):
            raise SpecError(f"expected a finite reference for {self.metric!r}")


class TrialStatus(StrEnum):
    """Where a trial stands; the last three are terminal."""

    ASKED = "asked"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    ABANDONED = "abandoned"

    @property
    def terminal(self) -> bool:
        """Whether nothing more will happen to the trial."""
        return self in (TrialStatus.COMPLETED, TrialStatus.FAILED, TrialStatus.ABANDONED)


@dataclass(frozen=True)
class Failure:
    """Why a trial ended without measurements.

    `kind` is one of `exception`, `out_of_memory`, `non_finite`, `lost_worker`, `lost_driver`,
    `hang`, `refused` (a question of it, by the model's server) and `told`.
    """

    kind: str
    reason: str


@dataclass(frozen=True)
class Trial:
    """An arm that is being evaluated or has been.

    Attributes:
        index: Its number in the study, from 0.
        arm: The values that were proposed.
        plan: What they mean for training; None in a study without a training half.
        status: Where it stands.
        origin: What proposed it (`sobol`, `saas_nehvi`, ...).
        measurements: Metric name to value; the objectives' and any others.
        failure: Why it failed, if it did.
        duration_s: Its even share of the seconds of all trials trained together, if known.
        pack: How many trials were trained together.
        reused: What was taken from the study's cache, by kind, as hits and lookups; the trial's
            share of its pack's.
    """

    index: int
    arm: Arm
    plan: TrialPlan | None = None
    status: TrialStatus = TrialStatus.ASKED
    origin: str = ""
    measurements: Mapping[str, Measurement] = field(default_factory=dict)
    failure: Failure | None = None
    duration_s: float | None = None
    pack: int = 1
    reused: Mapping[str, tuple[int, int]] = field(default_factory=dict)

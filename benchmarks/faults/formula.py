"""The product's own worker with a formula in place of the training."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from inflict import Fault, strike
from ledger import ledgered
from milp_search_study import FINAL_TEST

from milp_search.core.plan import TrialPlan
from milp_search.core.records import Predictions
from milp_search.core.trial import Measurement
from milp_search.dispatch import worker
from milp_search.dispatch.jobs import Job, RunPack
from milp_search.dispatch.worker import RunnerFactory, TrialRunner
from milp_search.personalize.method import Run, Stacks
from milp_search.personalize.run import Split


@dataclass(frozen=True)
class FormulaFactory(RunnerFactory):
    """Makes what `RunnerFactory` makes, its runner's trials being a formula.

    Attributes:
        ledger: The file that trials write to.
        seconds: How long a trial takes.
        faults: What befalls which trial.
    """

    ledger: Path = Path()
    seconds: float = 0.0
    faults: Mapping[int, Fault] = field(default_factory=dict)

    def __call__(self) -> RunPack:
        """Returns a function that runs the study's packs in this process."""
        worker.TrialRunner = partial(_FormulaRunner, self)  # type: ignore[misc, assignment]
        return super().__call__()


class _FormulaRunner(TrialRunner):
    """Everything is the product's but what stands between plan and measurement."""

    def __init__(self, factory: FormulaFactory, *given: Any):
        super().__init__(*given)
        self._factory = factory
        self._current = threading.local()

    def _measured(self, job: Job, *given: Any) -> Mapping[str, Measurement]:
        self._current.job = job
        return super()._measured(job, *given)

    def _evaluated(
        self, run: Run, split: Split, *, generate: bool = False, payer: str | None = None
    ) -> tuple[Mapping[str, Measurement], Stacks, Predictions]:
        job, factory = self._current.job, self._factory
        trial = job.trial + (FINAL_TEST if job.kind == "test" else 0)
        with ledgered(factory.ledger, trial, job.attempt):
            time.sleep(factory.seconds)
            forced = strike(factory.faults, trial, job.attempt)
        loss = formula(run.plan) if forced is None else forced
        return {"loss": Measurement(loss, 0.0)}, {}, Predictions((), self.task)


def formula(plan: TrialPlan) -> float:
    """Returns a plan's loss: the more rank, periods and items, the lower, with less and less gain.

    Args:
        plan: The trial's.

    Returns:
        A number between 1 and 4.
    """
    share = 1.0 / (1 + plan.adapter.total_rank)
    return 1.0 + share + 1.0 / (1 + plan.time_splits) + 1.0 / (1 + plan.retrieved_items)

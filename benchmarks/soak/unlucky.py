"""A worker whose trials train nothing and fail by the draw, and that keeps a ledger of its own."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from luck import Luck, formula

from milp_search.core.errors import MeasurementError
from milp_search.core.trial import Measurement
from milp_search.dispatch.fence import at_work
from milp_search.dispatch.jobs import Job, Outcome, Pack, RunPack
from milp_search.dispatch.watchdog import watched
from milp_search.dispatch.worker import describe_failure, log_failure, write_outcome

# Far above what a trial takes here; the watchdog then ends the process.
_LIMIT_S = 5.0


@dataclass(frozen=True)
class UnluckyWorker:
    """Makes a runner; what it does stands in the ledger, a folder with a file per process.

    Attributes:
        folder: The study's.
        ledger: The ledger's.
        luck: What becomes of the attempts.
    """

    folder: Path
    ledger: Path
    luck: Luck

    def __call__(self) -> RunPack:
        """Returns a function that runs packs in this process."""
        self._note("made")
        return self._run

    def _run(self, pack: Pack) -> list[Outcome]:
        # As in `TrialRunner.run`.
        with at_work(self.folder, None), watched(self.folder, pack, None, _LIMIT_S):
            return [self._ended(job, len(pack)) for job in pack]

    def _ended(self, job: Job, pack: int) -> Outcome:
        """Returns a job's outcome, which is on disk already, as a real worker's is."""
        started = time.monotonic()
        fate = self.luck.fate(job.trial, job.attempt)
        self._note(f"{job.name} {fate}")
        if fate == "lost_worker":
            os.kill(os.getpid(), signal.SIGKILL)
        try:
            measured, failure = _measured(job, fate), None
        except Exception as error:  # the trial boundary, as in `TrialRunner.run`
            log_failure(self.folder, job.name, error)
            measured, failure = {}, describe_failure(error)
        outcome = Outcome(measured, failure, time.monotonic() - started, pack)
        write_outcome(self.folder, job, outcome)
        return outcome

    def _note(self, line: str) -> None:
        with (self.ledger / str(os.getpid())).open("a") as file:
            file.write(f"{line}\n")


def _measured(job: Job, fate: str) -> dict[str, Measurement]:
    if fate == "exception":
        raise ValueError("bad luck")
    if fate == "out_of_memory":
        bytearray(1 << 62)
    while fate == "hang":
        time.sleep(1.0)
    if fate == "non_finite":
        raise MeasurementError("loss is nan")
    return {name: Measurement(value, 0.1) for name, value in formula(job.trial).items()}

"""A ledger of what is really trained, written by the trainer itself.

As a program it runs a study in this process and hangs in the middle of a training:
`python -m dispatch.training_ledger STUDY.yaml FOLDER LEDGER`.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console

from milp_search.adapters.jobs import Adapter, TrainJob
from milp_search.adapters.packed.trainer import PackedTrainer
from milp_search.dispatch.drive import prepare, run_study
from milp_search.study.spec_file import load_study_spec

Train = Callable[[PackedTrainer, Sequence[TrainJob]], list[Adapter]]

HANGS = "hangs"


def noting(ledger: Path, *, hang_in: str = "") -> Train:
    """Returns a `PackedTrainer.train` that notes each job's stage once it is trained.

    In the stage to hang in it trains one job for nothing, notes that it hangs, and stays there.
    """
    train = PackedTrainer.train

    def noted(trainer: PackedTrainer, jobs: Sequence[TrainJob]) -> list[Adapter]:
        if stage(jobs[0]) == hang_in:
            train(trainer, jobs[:1])
            _note(ledger, HANGS)
            while True:
                time.sleep(1)
        adapters = train(trainer, jobs)
        for job in jobs:
            _note(ledger, stage(job))
        return adapters

    return noted


def stage(job: TrainJob) -> str:
    """Returns `global`, `memory` or `tuning`."""
    if job.key.startswith("global:"):
        return "global"
    return "tuning" if job.examples[0].prompt else "memory"


def noted(ledger: Path) -> Counter[str]:
    """Returns how many jobs of each stage were trained so far, and whether it hangs."""
    return Counter(ledger.read_text().splitlines() if ledger.exists() else ())


def _note(ledger: Path, line: str) -> None:
    with ledger.open("a") as file:
        file.write(f"{line}\n")


def main(study: str, folder: str, ledger: str) -> None:
    PackedTrainer.train = noting(Path(ledger), hang_in="tuning")  # type: ignore[method-assign, assignment]
    file = Path(study)
    run_study(prepare(load_study_spec(file), file), Path(folder), Console(quiet=True))


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Where the checkpoints of a study's jobs lie, and when they go; the driver's half."""

from __future__ import annotations

import re
import shutil
from contextlib import suppress
from pathlib import Path

from milp_search.dispatch.folders import CHECKPOINTS, checkpoints_folder
from milp_search.dispatch.jobs import Job
from milp_search.study.study import Study

_NAME = re.compile(r"trial-(\d+)(?:-seed(\d+))?")


def job_checkpoints(folder: Path, job: Job) -> Path:
    """Returns where the checkpoints of a job lie, in a study's folder, for all of its attempts."""
    return checkpoints_folder(folder, job.trial, job.seed if job.kind == "test" else None)


def drop_checkpoints(folder: Path, job: Job) -> None:
    """Removes the checkpoints of a job that has ended for good."""
    shutil.rmtree(job_checkpoints(folder, job), ignore_errors=True)


def sweep_checkpoints(study: Study) -> None:
    """Removes what a driver left that was killed between a job's end and the removal."""
    for path in (study.folder / CHECKPOINTS).glob("trial-*"):
        name = _NAME.fullmatch(path.name)
        if name is not None and _ended(study, int(name[1]), name[2]):
            shutil.rmtree(path, ignore_errors=True)


def remove_empty(folder: Path) -> None:
    """Removes the folder of all checkpoints where none are left; call it while no job runs."""
    with suppress(OSError):
        (folder / CHECKPOINTS).rmdir()


def _ended(study: Study, trial: int, seed: str | None) -> bool:
    if trial >= len(study.trials):
        return False
    return study.trial(trial).status.terminal if seed is None else int(seed) in study.tests(trial)

"""Runs a study's jobs in this process."""

from __future__ import annotations

import time

from milp_search.dispatch.jobs import JobSource, RunJob

# ours: how often a source without a job is asked again; unnoticeable beside a training.
POLL_S = 0.05


def run_local(source: JobSource, run_job: RunJob) -> None:
    """Runs the source's jobs one at a time until it is finished."""
    while not source.finished:
        job = source.next()
        if job is not None:
            source.done(job, run_job(job))
        elif not source.finished:
            time.sleep(POLL_S)

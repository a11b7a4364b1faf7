"""Runs a study's jobs in this process."""

from __future__ import annotations

import time

from milp_search.dispatch.jobs import JobSource, RunPack

# ours: how often a source without a job is asked again; unnoticeable beside a training.
POLL_S = 0.05


def run_local(source: JobSource, run_pack: RunPack) -> None:
    """Runs the source's packs one at a time until it is finished."""
    while not source.finished:
        pack = source.next()
        for job, outcome in zip(pack, run_pack(pack) if pack else (), strict=True):
            source.done(job, outcome)
        if not pack and not source.finished:
            time.sleep(POLL_S)

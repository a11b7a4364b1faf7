"""Where a study keeps the answers that it paid for."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from milp_search.core.settings import EndpointSettings
from milp_search.dispatch.folders import RESPONSES
from milp_search.dispatch.jobs import Job
from milp_search.endpoint.response_cache import ResponseCache
from milp_search.study.spec import StudySpec


def kept_answers(folder: Path, server: EndpointSettings) -> ResponseCache:
    """Returns the answers of a server that a study in this folder asks."""
    return ResponseCache(folder / RESPONSES if server.responses is None else Path(server.responses))


def payer_of(folder: Path, job: Job) -> str:
    """Returns who pays for a job's answers, whatever the attempt.

    Studies that share answers number their trials alike; their folders tell them apart.
    """
    study = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:12]
    return f"{study}-{job.run}"


def shared_answers(spec: StudySpec) -> list[ResponseCache]:
    """Returns the answers that lie outside of the study's folder, and may be others' too."""
    servers = (spec.endpoint, spec.judge)
    folders = {one.responses for one in servers if one is not None and one.responses is not None}
    return [ResponseCache(Path(folder)) for folder in sorted(folders)]

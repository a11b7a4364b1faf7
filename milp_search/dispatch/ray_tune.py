"""Runs a study's jobs through Ray Tune, which owns placement; the study owns the truth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from milp_search.core.errors import InputError
from milp_search.dispatch.jobs import JobSource, RunPack
from milp_search.study.spec import DispatchSettings


class RayError(InputError):
    """A Ray session that cannot be had, or one that cannot hold a trial."""


@dataclass(frozen=True)
class RaySettings:
    """Where trials run, and on how much.

    Attributes:
        parallel: How many jobs run at once, each in a worker process of its own.
        cpus_per_trial: CPU cores of a job; also the threads its worker may use.
        gpus_per_trial: GPUs of a job; a fraction shares one, without isolating its memory.
        shared_mib: What the workers share through the object store, in MiB.
        address: The cluster to connect to, as Ray writes it ("auto" finds one on this machine);
            None for a session of our own, on this machine and reachable from it only.
    """

    parallel: int = 1
    cpus_per_trial: float = 1.0
    gpus_per_trial: float = 0.0
    shared_mib: float = 0.0
    address: str | None = None

    def __post_init__(self) -> None:
        if self.parallel < 1:
            raise RayError(f"expected at least 1 parallel trial, got {self.parallel}")
        if not self.cpus_per_trial > 0:
            raise RayError(f"expected a positive cpus_per_trial, got {self.cpus_per_trial}")
        if not self.gpus_per_trial >= 0:
            raise RayError(f"expected no negative gpus_per_trial, got {self.gpus_per_trial}")


def ray_settings(settings: DispatchSettings, shared_mib: float = 0.0) -> RaySettings:
    """Returns what a study file says of Ray; the workers are to share so much memory."""
    return RaySettings(
        parallel=settings.parallel,
        cpus_per_trial=settings.cpus_per_trial,
        gpus_per_trial=settings.gpus,
        shared_mib=shared_mib,
        address=settings.ray_address,
    )


def run_with_ray(
    source: JobSource,
    *,
    make_runner: Callable[[], RunPack],
    settings: RaySettings,
    on_tick: Callable[[], None] | None = None,
) -> None:
    """Runs the source's jobs until it is finished and no job is running.

    Signals stay the caller's: its handlers are in force while this runs. To stop gently, let the
    source become finished; to stop at once, raise KeyboardInterrupt in the handler or in
    `on_tick`: it comes out of here after the session has ended, and the jobs with it.

    Args:
        source: Where the jobs come from; called in this thread only.
        make_runner: Called once in each worker process, before its first pack; it and what it
            holds must survive pickling. NumPy arrays in it lie once on each machine, in Ray's
            object store, for all workers to read.
        settings: Where and how many at once.
        on_tick: Called in this thread about ten times a second, save while the source works.

    Raises:
        RayError: If Ray cannot be imported or started, or has no room for a job.
    """
    try:
        from milp_search.dispatch import ray_session, ray_trials
    except ImportError as error:
        raise RayError(
            f"expected Ray to be importable, got {error}",
            remedy="install `ray[tune]`, or run with --local to do without Ray",
        ) from error
    with ray_session.ray_session(settings):
        ray_trials.tune_packs(source, make_runner, settings, on_tick or (lambda: None))

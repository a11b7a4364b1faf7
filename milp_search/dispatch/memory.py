"""How much memory a worker may fill, and how many plans fit in it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from milp_search.core.methods import KNOWN_METHODS, MOST_SHARERS
from milp_search.core.model_shape import ModelShape, trainable_parameters
from milp_search.core.plan import TrialPlan
from milp_search.study.spec import DispatchSettings

_GIB = 2**30
_MIB = 2**20
_FLOAT32 = 4

# ours: the other half is for what goes through the model, which the trainer sees to.
SHARE_OF_ADAPTERS = 0.5

_CGROUP = Path("/sys/fs/cgroup")


def worker_memory_mib(settings: DispatchSettings) -> float:
    """Returns the main memory that one of the workers may fill, in MiB.

    What the study file says, or what is free on this machine, shared by as many workers as run
    side by side.
    """
    if settings.memory_gib is not None:
        return settings.memory_gib * _GIB / _MIB
    return free_bytes() / _MIB / (1 if settings.local else settings.parallel)


def free_bytes(meminfo: Path = Path("/proc/meminfo"), cgroup: Path = _CGROUP) -> int:
    """Returns the memory that this machine, or the container that we are in, has left, in bytes."""
    free = _available(meminfo)
    try:
        limit = (cgroup / "memory.max").read_text().strip()
        used = (cgroup / "memory.current").read_text()
        return free if limit == "max" else max(min(free, int(limit) - int(used)), 0)
    except (OSError, ValueError):  # no container, or one that tells nothing
        return free


def shared_memory_mib(folder: Path = Path("/dev/shm")) -> float:
    """Returns what is free for memory that processes share, in MiB; 0 where there is none."""
    try:
        return shutil.disk_usage(folder).free / _MIB
    except OSError:
        return 0.0


def plans_that_fit(
    plans: Sequence[TrialPlan], users: int, shape: ModelShape | None, memory_mib: float
) -> int:
    """Returns how many of the plans, from the first on, may be trained together; at least one.

    All adapters of a plan are kept until it has been measured; see `training_mib`. Without the
    base's shape their size is not known, and all plans fit.
    """
    if shape is None:
        return len(plans)
    left = memory_mib * SHARE_OF_ADAPTERS
    for count, plan in enumerate(plans):
        left -= training_mib(plan, users, shape)
        if left < 0:
            return max(count, 1)
    return len(plans)


def adapters_mib(plan: TrialPlan, users: int, shape: ModelShape) -> float:
    """Returns the size of a plan's adapters, float32, in MiB: one per user and per community."""
    return _mib(plan, KNOWN_METHODS[plan.method].pieces * users + plan.communities, shape)


def training_mib(plan: TrialPlan, users: int, shape: ModelShape) -> float:
    """Returns the size of a plan's adapters while they are trained, float32, in MiB.

    Injected memories are there until the adapters that begin with them are, and so are adapters
    of which others are made.
    """
    traits = KNOWN_METHODS[plan.method]
    first = users if traits.injection else 0
    if traits.pieces > 1:
        # Those who share need not be targets.
        first = max(users, MOST_SHARERS)
    return adapters_mib(plan, users, shape) + _mib(plan, first, shape)


def _mib(plan: TrialPlan, count: int, shape: ModelShape) -> float:
    maps = shape.targets(plan.adapter.target_maps)
    return trainable_parameters(plan.adapter, maps) * count * _FLOAT32 / _MIB


def _available(meminfo: Path) -> int:
    try:
        lines = meminfo.read_text().splitlines()
        kib = next(line.split()[1] for line in lines if line.startswith("MemAvailable:"))
        return int(kib) * 1024
    except (OSError, StopIteration, ValueError):  # not Linux: what is there stands for what is free
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")

"""What the samples of a soak say: slopes, and whether each is flat."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from slopes import Slope, last_three_quarters, slope
from soaked import Samples


@dataclass(frozen=True)
class Figure:
    """One quantity along the way.

    Attributes:
        name: What it is, with its unit.
        first: Its value at the first look that counts.
        last: Its value at the last.
        line: The line through all that count.
        most: The rise over 1,000 trials that still counts as flat; None is told and not judged.
    """

    name: str
    first: float
    last: float
    line: Slope
    most: float | None

    @property
    def flat(self) -> bool:
        """Whether it is flat, or not judged."""
        return self.most is None or self.line.flat(self.most)


def figures(samples: Samples) -> list[Figure]:
    """Returns the driver's figures over trials, and the workers' over what each has run."""
    looks = samples.driver
    at = [look["trials"] for look in looks]
    counted = last_three_quarters(at)

    def held(name: str, key: str, most: float | None) -> Figure:
        return _figure(name, [at[i] for i in counted], [looks[i][key] for i in counted], most)

    def spent(name: str, key: str, most: float | None) -> Figure:
        """Milliseconds a trial between each two looks."""
        pairs = [(one, other) for one, other in pairwise(looks[i] for i in counted)]
        costs = [
            1000 * (other[key] - one[key]) / (other["trials"] - one["trials"])
            for one, other in pairs
        ]
        return _figure(name, [other["trials"] for _, other in pairs], costs, most)

    return [
        # ours: a study has its trials in memory, arm, plan and measurements, about 9 KiB each, and
        # Tune its own; 25 MiB in 1,000 trials are 250 MiB in the longest search one would wait for.
        held("driver: memory, MiB", "resident_mib", 25.0),
        held("driver: open descriptors", "descriptors", 1.0),
        held("driver: threads", "threads", 1.0),
        # ours: Tune and the progress line look over all trials at each event; after 1,000 trials
        # that may be 1.5 % of a trial that trains for a second.
        spent("driver: CPU a trial, ms", "cpu_s", 15.0),
        spent("wall clock a trial, ms", "wall_s", None),
        *_workers(samples.workers),
        held("Ray's own processes: memory, MiB", "ray_mib", None),
        held("Ray's session: files, MiB", "ray_files_mib", None),
        held("store, MiB", "store_mib", None),
        held("study's folder, MiB", "folder_mib", None),
    ]


def _workers(looks: list[dict[str, Any]]) -> list[Figure]:
    """Returns the worker's figures for the one that lived longest."""
    if not looks:
        return []
    longest = max(looks, key=lambda look: look["attempts"])["pid"]
    mine = [look for look in looks if look["pid"] == longest]
    counted = [mine[i] for i in last_three_quarters([look["attempts"] for look in mine])]
    if len({look["attempts"] for look in counted}) < 2:
        return []
    at = [look["attempts"] for look in counted]
    named = {"resident_mib": ("memory, MiB", 10.0), "descriptors": ("open descriptors", 1.0),
             "threads": ("threads", 1.0)}  # fmt: skip
    return [
        _figure(f"a worker, over its own trials: {name}", at, [look[key] for look in counted], most)
        for key, (name, most) in named.items()
    ]


def _figure(name: str, at: list[float], values: list[float], most: float | None) -> Figure:
    return Figure(name, values[0], values[-1], slope(at, values), most)

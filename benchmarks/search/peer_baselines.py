"""Sobol and random points: what a search must beat. Neither looks at an outcome."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import final

import numpy as np
from method import Method, Outcome, Task
from peer_levels import Levels

from milp_search.core.arm import Arm

# A power of two keeps a Sobol sequence balanced.
_CHUNK = 64

Points = Iterator[Sequence[int]]


def sobol(task: Task, seed: int) -> Method:
    """Returns the points of one scrambled Sobol sequence, uniform over the levels."""
    return _Sequence(task, seed, _sobol_points)


def random_search(task: Task, seed: int) -> Method:
    """Returns independent points, uniform over the levels; they may repeat."""
    return _Sequence(task, seed, _random_points)


@final
class _Sequence:
    def __init__(self, task: Task, seed: int, points: Callable[[tuple[int, ...], int], Points]):
        self._levels = Levels(task.parameters)
        self._points = points(self._levels.sizes, seed)

    def ask(self, count: int) -> list[Arm]:
        return [self._levels.arm(point) for point in islice(self._points, count)]

    def tell(self, arm: Arm, outcome: Outcome) -> None:
        """Learns nothing."""


def _sobol_points(sizes: tuple[int, ...], seed: int) -> Points:
    from scipy.stats import qmc

    sequence = qmc.Sobol(d=len(sizes), scramble=True, rng=np.random.default_rng(seed))
    while True:
        for row in sequence.random(_CHUNK):
            yield (row * sizes).astype(int).tolist()


def _random_points(sizes: tuple[int, ...], seed: int) -> Points:
    rng = np.random.default_rng(seed)
    while True:
        yield rng.integers(0, sizes).tolist()

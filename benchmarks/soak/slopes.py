"""Lines through samples: does something grow with the number of trials?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Slope:
    """A least-squares line through samples over the number of trials.

    Attributes:
        per_thousand: Its rise over 1,000 trials.
        error: The standard error of the rise; 0 where the samples are too few to tell.
        mean: The samples' mean.
    """

    per_thousand: float
    error: float
    mean: float

    def flat(self, most: float) -> bool:
        """Returns whether the rise, its error allowed for, is at most so much."""
        return self.per_thousand - 2 * self.error <= most


def slope(trials: Sequence[float], values: Sequence[float]) -> Slope:
    """Returns the line through the samples, at least two at different numbers of trials."""
    x, y = np.asarray(trials, float) / 1000, np.asarray(values, float)
    centred = x - x.mean()
    spread = (centred**2).sum()
    rise = float((centred * (y - y.mean())).sum() / spread)
    rest = y - y.mean() - rise * centred
    freedom = len(x) - 2
    error = float(np.sqrt((rest**2).sum() / freedom / spread)) if freedom > 0 else 0.0
    return Slope(rise, error, float(y.mean()))


def last_three_quarters(trials: Sequence[float]) -> list[int]:
    """Returns the places of the samples after the first quarter of the trials.

    What is loaded once, and caches that fill, belong to the first.
    """
    start = trials[-1] / 4
    return [place for place, count in enumerate(trials) if count >= start]

"""Bringing outcomes to unit scale for the surrogate."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from milp_search.search.orientation import Array

# Relative to their size, outcomes that differ by less are constant: they differ by rounding.
ROUNDING = 1e-9
# The square of a smaller scale underflows.
_LEAST_SCALE = 1e-150


@dataclass(frozen=True)
class OutcomeScale:
    """An increasing, piecewise linear map from maximised outcomes to unit scale.

    Attributes:
        knots: Outcomes, increasing, at least two.
        heights: What they become, increasing.
        noise_factor: What a noise variance is multiplied by; None where noise has no image.
    """

    knots: Array
    heights: Array
    noise_factor: float | None

    def __call__(self, outcomes: Array) -> Array:
        """Returns the outcomes on unit scale; beyond the knots the mean slope continues."""
        low, high = self.knots[0], self.knots[-1]
        slope = (self.heights[-1] - self.heights[0]) / (high - low)
        beyond = outcomes - np.clip(outcomes, low, high)
        return np.asarray(np.interp(outcomes, self.knots, self.heights) + slope * beyond)


def standardized(outcomes: Array) -> OutcomeScale:
    """Returns the map to zero mean and unit variance; constant outcomes are only centred.

    Outcomes count as constant by their own size, so that their unit does not matter. Constant ones
    of more than 10^9 are also brought to a scale at which rounding is small.
    """
    centre, scale = float(outcomes.mean()), float(outcomes.std(ddof=1)) if len(outcomes) > 1 else 0
    rounding = ROUNDING * abs(centre)
    if scale <= max(rounding, _LEAST_SCALE):
        scale = max(1.0, rounding)
    knots = np.array([centre, centre + scale])
    return OutcomeScale(knots, np.array([0.0, 1.0]), 1.0 / scale**2)


def normal_copula(outcomes: Array) -> OutcomeScale:
    """Returns the map of each outcome to the normal quantile of its rank; ties share a mean rank.

    Noise has no image under it and is then inferred. Constant outcomes are only centred.

    Source: Salinas et al., "A quantile-based approach for hyperparameter transfer learning",
    2020, section 4, with quantiles (rank - 1/2) / n instead of clipped ones, so that no two
    distinct outcomes become equal.
    """
    from scipy.stats import norm, rankdata

    knots, first = np.unique(outcomes, return_index=True)
    if len(knots) == 1:
        return standardized(outcomes)
    ranks = rankdata(outcomes)[first]
    return OutcomeScale(knots, norm.ppf((ranks - 0.5) / len(outcomes)), None)


OUTCOME_TRANSFORMS = {"standardize": standardized, "copula": normal_copula}

"""Logistic regression on a few of many inputs, which inputs being weighed by their evidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, log_expit

from milp_search.search.orientation import Array

# ours: resources are sums of few terms: adapters, activations, the prompt.
_TERMS = 4
# ours: subsets that are extended by one more input.
_BEAM = 4
# ours: prior deviations of a weight, over inputs whose range is about 1: a slope that leaves
# doubt over half the range, one that does over a twelfth, and one that is a threshold.
_DEVIATIONS = (4.0, 24.0, 150.0)
_INTERCEPT_DEVIATION = 6.0
# A subset that explains worse than the best by a factor e^12 counts for nothing.
_HOPELESS = 12.0
_NEWTON_STEPS = 60
_HALVINGS = 6
_TOLERANCE = 1e-6

Subset = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class LinearLogit:
    """A logit that is linear in some columns, by Laplace's approximation.

    Attributes:
        columns: The inputs that it sees.
        centre: What is subtracted from them.
        weights: At the mode, the intercept first, shape `p`.
        covariance: Of the weights, shape `p x p`.
        evidence: The logarithm of the marginal likelihood.
        log_prior: Of this subset and deviation among all.
    """

    columns: Array
    centre: Array
    weights: Array
    covariance: Array
    evidence: float
    log_prior: float

    def logits(self, inputs: Array) -> tuple[Array, Array]:
        """Returns means and variances of the logits at inputs of shape `N x d`."""
        seen = inputs[:, self.columns.astype(int)] - self.centre
        design = np.column_stack([np.ones(len(inputs)), seen])
        return design @ self.weights, ((design @ self.covariance) * design).sum(axis=1)


def sparse_logits(inputs: Array, succeeded: Array, base: float) -> list[LinearLogit]:
    """Returns the linear explanations that count, grown input by input from the best ones.

    Args:
        inputs: Shape `n x d`, in about [0, 1].
        succeeded: 1 or 0, shape `n`.
        base: The rate of success about which the intercept is expected.

    Returns:
        Explanations of one to four inputs. Their priors are those of subsets of `s` inputs with
        probability `2^-s`, each subset of a size alike.
    """
    centre = inputs.mean(axis=0)
    seen = inputs - centre
    varying = np.flatnonzero(np.ptp(inputs, axis=0) > 0).tolist()
    prior_logit = float(np.log(base / (1.0 - base)))
    found: list[LinearLogit] = []
    beam: list[Subset] = [()]
    log_count = 0.0
    best = -np.inf
    for size in range(1, min(_TERMS, len(varying)) + 1):
        log_count += np.log((len(varying) - size + 1) / size)
        grown = sorted(
            {
                tuple(sorted((*one, column)))
                for one in beam
                for column in varying
                if column not in one
            }
        )
        log_prior = -size * np.log(2.0) - log_count - np.log(len(_DEVIATIONS))
        fits = [
            LinearLogit(np.array(columns), centre[[*columns]], *fit, log_prior)
            for deviation in _DEVIATIONS
            for columns, fit in zip(
                grown, _laplace(seen, succeeded, grown, prior_logit, deviation), strict=True
            )
        ]
        worth = np.array([one.evidence + one.log_prior for one in fits])
        if worth.max() < best - _HOPELESS:
            break
        best = max(best, float(worth.max()))
        found += fits
        order = np.argsort(-worth, kind="stable")
        beam = [*dict.fromkeys(tuple(fits[place].columns.astype(int).tolist()) for place in order)][
            :_BEAM
        ]
    return [one for one in found if one.evidence + one.log_prior > best - _HOPELESS]


def _laplace(
    inputs: Array,
    succeeded: Array,
    subsets: Sequence[Subset],
    prior_logit: float,
    deviation: float,
) -> list[tuple[Array, Array, float]]:
    """Returns mode, covariance and log evidence for subsets of one size, all at once."""
    many, width = len(subsets), len(subsets[0]) + 1
    design = np.ones((many, len(inputs), width))
    design[:, :, 1:] = inputs[:, np.array(subsets)].transpose(1, 0, 2)
    signs = 2.0 * succeeded - 1.0
    mean = np.zeros(width)
    mean[0] = prior_logit
    precision = np.full(width, deviation**-2)
    precision[0] = _INTERCEPT_DEVIATION**-2

    def heights(weights: Array) -> Array:
        logits = np.einsum("mnp,mp->mn", design, weights)
        penalty = 0.5 * (precision * (weights - mean) ** 2).sum(axis=1)
        return np.asarray(log_expit(signs * logits).sum(axis=1) - penalty)

    weights = np.tile(mean, (many, 1))
    height = heights(weights)
    for _ in range(_NEWTON_STEPS):
        chance = expit(np.einsum("mnp,mp->mn", design, weights))
        slopes = np.einsum("mn,mnp->mp", succeeded - chance, design)
        slopes -= precision * (weights - mean)
        curvature = _curvature(design, chance, precision)
        step = np.linalg.solve(curvature, slopes[:, :, None])[:, :, 0]
        gained = np.zeros(many)
        for _ in range(_HALVINGS):
            reached = heights(weights + step)
            better = reached > height
            weights = np.where(better[:, None], weights + step, weights)
            gained += np.where(better, reached - height, 0.0)
            height = np.where(better, reached, height)
            step = np.where(better[:, None], 0.0, 0.5 * step)
            if better.all():
                break
        if gained.max() < _TOLERANCE:
            break
    chance = expit(np.einsum("mnp,mp->mn", design, weights))
    curvature = _curvature(design, chance, precision)
    evidence = height + 0.5 * np.log(precision).sum() - 0.5 * np.linalg.slogdet(curvature)[1]
    return [*zip(weights, np.linalg.inv(curvature), evidence.tolist(), strict=True)]


def _curvature(design: Array, chance: Array, precision: Array) -> Array:
    weighted = design * (chance * (1.0 - chance))[:, :, None]
    return np.asarray(np.swapaxes(design, 1, 2) @ weighted + np.diag(precision))

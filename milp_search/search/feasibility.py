"""The probability that a plan can be trained at all, learned from the trials that failed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
from scipy.linalg import cho_factor, cho_solve, solve_triangular
from scipy.special import expit, log_expit, logsumexp

from milp_search.core.trial import Trial, TrialStatus
from milp_search.search.orientation import Array
from milp_search.search.sparse_logit import LinearLogit, sparse_logits

# Failures that say nothing about the plan: it may succeed on another machine at another time.
_CHANCE = ("lost_worker", "lost_driver")
# ours: logits of two plans differ by up to about five; more would rule plans out for ever.
_VARIANCE = 4.0
# ours: relative to the range of an input, which is about 1.
_LENGTHSCALES = (0.2, 0.7)
# ours: explanations that carry less than a hundredth of the evidence are dropped.
_NEGLIGIBLE = 0.01
_NEWTON_STEPS = 50
_TOLERANCE = 1e-9


def is_infeasible(trial: Trial) -> bool:
    """Returns whether the trial failed for a reason that its plan may be blamed for."""
    blamed = trial.failure is None or trial.failure.kind not in _CHANCE
    return trial.status is TrialStatus.FAILED and blamed


@dataclass(frozen=True, eq=False)
class _SmoothLogit:
    """A logistic Gaussian process over some columns, by Laplace's approximation.

    Attributes:
        columns: The inputs that it sees.
        lengthscale: Of the kernel, over the root mean square distance in these columns.
        points: Distinct inputs, shape `u x len(columns)`.
        mean: The prior logit.
        slopes: The log likelihood's gradient at the mode, shape `u`.
        root: Square roots of its negative curvature, shape `u`.
        factor: Cholesky factor of `I + root K root`, lower, shape `u x u`.
        evidence: The logarithm of the marginal likelihood.
        log_prior: Of these columns and this lengthscale among all.
    """

    columns: Array
    lengthscale: float
    points: Array
    mean: float
    slopes: Array
    root: Array
    factor: Array
    evidence: float
    log_prior: float

    def logits(self, inputs: Array) -> tuple[Array, Array]:
        """Returns means and variances of the logits at inputs of shape `N x d`."""
        covariance = _kernel(self.points, inputs[:, self.columns.astype(int)], self.lengthscale)
        weighted = solve_triangular(self.factor, self.root[:, None] * covariance, lower=True)
        variance = np.maximum(_VARIANCE - (weighted**2).sum(axis=0), 0.0)
        return self.mean + self.slopes @ covariance, variance


_Explanation = _SmoothLogit | LinearLogit


@final
@dataclass(frozen=True, eq=False)
class Feasibility:
    """The probability of success, a mixture of explanations weighted by their evidence.

    Attributes:
        base: The success rate, smoothed; what counts if failures have no cause that is seen.
        base_weight: That case's weight.
        explanations: The others, with their weights.
    """

    base: float
    base_weight: float
    explanations: tuple[tuple[float, _Explanation], ...]

    def log_probability(self, inputs: Array) -> Array:
        """Returns the logarithms of success probabilities at inputs of shape `N x d`."""
        total = np.full(len(inputs), self.base_weight * self.base)
        for weight, one in self.explanations:
            logit, variance = one.logits(inputs)
            # MacKay, "The evidence framework applied to classification networks", 1992, Eq. 10.
            total += weight * expit(logit / np.sqrt(1.0 + np.pi * variance / 8.0))
        return np.asarray(np.log(total))


def learn_feasibility(feasible: Array, infeasible: Array) -> Feasibility:
    """Returns the probability of success learned from trials; 1 everywhere while none failed.

    What makes a plan fail is usually one quantity, such as memory, or a sum of few: adapters,
    activations, the prompt. No input at all, every input alone, few inputs in a weighted sum and
    all inputs together are tried as the explanation, and share the weight by how well they
    explain the trials: a quarter each to begin with.

    Args:
        feasible: Inputs of trials that succeeded, shape `n x d`, in about [0, 1].
        infeasible: Inputs of trials that failed, shape `f x d`.

    Returns:
        The probability.

    Source: Rasmussen and Williams, "Gaussian processes for machine learning", 2006,
    Algorithms 3.1 and 3.2.
    """
    failed, total = len(infeasible), len(feasible) + len(infeasible)
    if failed == 0:
        return Feasibility(1.0, 1.0, ())
    inputs = np.concatenate([feasible, infeasible])
    succeeded = (np.arange(total) < len(feasible)).astype(float)
    base = (len(feasible) + 1.0) / (total + 2.0)
    width = inputs.shape[1]
    columns = [np.array([column]) for column in range(width)]
    varying = [one for one in columns if np.ptp(inputs[:, one]) > 0]
    families = [varying, [np.arange(width)] if len(varying) > 1 else []]
    found: list[_Explanation] = [*sparse_logits(inputs, succeeded, base)]
    for family in families:
        log_prior = -np.log(max(len(family), 1) * len(_LENGTHSCALES))
        for chosen in family:
            for lengthscale in _LENGTHSCALES:
                found.append(_smooth(inputs, succeeded, chosen, lengthscale, base, log_prior))
    constant = len(feasible) * np.log(base) + failed * np.log1p(-base)
    logs = np.array([*(one.evidence + one.log_prior for one in found), constant])
    weights = np.exp(logs - logsumexp(logs))
    kept = weights >= min(_NEGLIGIBLE, weights.max())
    weights = np.where(kept, weights, 0.0) / weights[kept].sum()
    pairs = tuple(
        (float(weight), one) for weight, one in zip(weights[:-1], found, strict=True) if weight > 0
    )
    return Feasibility(base, float(weights[-1]), pairs)


def _smooth(
    inputs: Array,
    succeeded: Array,
    columns: Array,
    lengthscale: float,
    base: float,
    log_prior: float,
) -> _SmoothLogit:
    """Returns the explanation by given columns, found by Newton's method."""
    points, places = np.unique(inputs[:, columns], axis=0, return_inverse=True)
    good = np.bincount(places.ravel(), weights=succeeded, minlength=len(points))
    count = np.bincount(places.ravel(), minlength=len(points)).astype(float)
    mean = float(np.log(base / (1.0 - base)))
    kernel = _kernel(points, points, lengthscale)
    weights = np.zeros(len(points))
    height = -np.inf
    for _ in range(_NEWTON_STEPS):
        logit = mean + kernel @ weights
        chance = expit(logit)
        slopes = good - count * chance
        root = np.sqrt(count * chance * (1.0 - chance))
        matrix = np.eye(len(points)) + root[:, None] * kernel * root
        factor = cho_factor(matrix, lower=True)
        likelihood = float((good * log_expit(logit) + (count - good) * log_expit(-logit)).sum())
        reached = likelihood - 0.5 * float(weights @ (logit - mean))
        if reached - height < _TOLERANCE:
            break
        height = reached
        right = root**2 * (logit - mean) + slopes
        weights = right - root * cho_solve(factor, root * (kernel @ right))
    evidence = reached - float(np.log(np.diag(factor[0])).sum())
    lower = np.tril(factor[0])
    return _SmoothLogit(
        columns, lengthscale, points, mean, slopes, root, lower, evidence, log_prior
    )


def _kernel(left: Array, right: Array, lengthscale: float) -> Array:
    """Returns squared-exponential covariances over root mean square distances."""
    squares = (left**2).sum(axis=1)[:, None] + (right**2).sum(axis=1) - 2.0 * left @ right.T
    scaled = np.maximum(squares, 0.0) / left.shape[1] / lengthscale**2
    return np.asarray(_VARIANCE * np.exp(-0.5 * scaled))

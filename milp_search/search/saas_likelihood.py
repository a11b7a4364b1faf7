"""The SAAS model's log density and gradient, by hand, over LAPACK.

One Cholesky factorisation and one inverse from it serve value and gradient. Nothing is compiled
and no row is padded; at the sizes of a study this is as fast as a compiled program.
"""

from __future__ import annotations

from typing import final

import numpy as np
from scipy.linalg.lapack import dpotrf, dpotri

from milp_search.search.orientation import Array
from milp_search.search.posterior import Draws

# BoTorch's floor of an inferred noise variance.
NOISE_FLOOR = 1e-4

# BoTorch's priors (`SaasPyroModel`): scale of the global shrinkage, shape and rate of the output
# scale and of the noise.
_SHRINKAGE = 0.1
_OUTPUTSCALE = (2.0, 0.15)
_NOISE = (0.9, 10.0)

# Where a position keeps its numbers; the d local shrinkages lie between, the noise comes last.
_LOCAL = 3


@final
class SaasDensity:
    """The log posterior density of the SAAS hyperparameters given one metric's observations.

    A position holds `d + 4` numbers: log output scale, mean, log global shrinkage, the `d` log
    local shrinkages and log noise above the floor. Where noise variances are known, the last
    number means nothing and is standard normal, so that all metrics' positions have one shape.

    Source: Eriksson and Jankowiak, "High-dimensional Bayesian optimization with sparse
    axis-aligned subspaces", 2021, Eq. 8; priors as BoTorch has them.
    """

    def __init__(self, inputs: Array, targets: Array, noise: Array | None):
        self.inputs, self.targets, self.noise = inputs, targets, noise
        n = len(targets)
        self._squares = inputs * inputs
        self._r, self._decay, self._kernel, self._work, self._precision = np.empty((5, n, n))

    @property
    def dimension(self) -> int:
        """The length of a position."""
        return int(self.inputs.shape[1]) + 4

    def __call__(self, position: Array) -> tuple[float, Array]:
        """Returns the log density, up to a constant, and its gradient.

        Args:
            position: Shape `d + 4`.

        Returns:
            The log density and its gradient; minus infinity and zeros where numbers overflow or
            the covariance is numerically singular.
        """
        with np.errstate(all="ignore"):
            value, gradient = self._evaluate(position)
        if not (np.isfinite(value) and np.isfinite(gradient).all()):
            return -np.inf, np.zeros_like(position)
        return value, gradient

    def _evaluate(self, position: Array) -> tuple[float, Array]:
        outputscale, mean, shrinkage = np.exp(position[0]), position[1], np.exp(position[2])
        local = np.exp(position[_LOCAL:-1])
        variances = NOISE_FLOOR + np.exp(position[-1]) if self.noise is None else self.noise
        likelihood = self._likelihood(shrinkage * local, outputscale, mean, variances)
        if likelihood is None:
            return -np.inf, np.zeros_like(position)
        value, by_weight, by_outputscale, by_mean, by_noise = likelihood
        value += _log_gamma(position[0], outputscale, *_OUTPUTSCALE) - 0.5 * mean * mean
        value += _log_half_cauchy(position[2], shrinkage / _SHRINKAGE)
        value += float(np.sum(_log_half_cauchy(position[_LOCAL:-1], local)))
        by_weight *= shrinkage * local
        gradient = np.empty_like(position)
        gradient[0] = by_outputscale * outputscale + _OUTPUTSCALE[0] - _OUTPUTSCALE[1] * outputscale
        gradient[1] = by_mean - mean
        gradient[2] = by_weight.sum() + _half_cauchy_slope(shrinkage / _SHRINKAGE)
        gradient[_LOCAL:-1] = by_weight + _half_cauchy_slope(local)
        if self.noise is None:
            noise = np.exp(position[-1])
            value += _log_gamma(position[-1], noise, *_NOISE)
            gradient[-1] = by_noise * noise + _NOISE[0] - _NOISE[1] * noise
        else:
            value -= 0.5 * position[-1] ** 2
            gradient[-1] = -position[-1]
        return float(value), gradient

    def _likelihood(
        self, weights: Array, outputscale: float, mean: float, variances: Array | float
    ) -> tuple[float, Array, float, float, float] | None:
        """Returns the marginal likelihood and its derivatives, all work done in place.

        With s the squared distance, the Matern-5/2 kernel's slope is -5/6 (1 + r) exp(-r) at
        r = sqrt(5 s), free of the division by r that its usual form has.
        """
        r, decay, kernel, work = self._r, self._decay, self._kernel, self._work
        scaled = self.inputs * np.sqrt(weights)
        np.matmul(scaled, scaled.T, out=r)
        norms = r.diagonal().copy()
        r *= -2.0
        r += norms[:, None]
        r += norms
        np.maximum(r, 0.0, out=r)
        r *= 5.0
        np.multiply(r, 1.0 / 3.0, out=kernel)
        np.sqrt(r, out=r)
        np.exp(np.negative(r, out=decay), out=decay)
        r += 1.0
        kernel += r
        kernel *= decay
        np.multiply(kernel, outputscale, out=work)
        work.flat[:: len(work) + 1] += variances
        # The transpose of a symmetric matrix in rows is itself in columns, LAPACK's order.
        factor, info = dpotrf(work.T, lower=1, clean=1, overwrite_a=1)
        if info != 0:
            return None
        log_determinant = float(np.log(factor.diagonal()).sum())
        half, _ = dpotri(factor, lower=1, overwrite_c=1)
        precision = np.add(half, half.T, out=self._precision)
        precision.flat[:: len(precision) + 1] *= 0.5
        residuals = self.targets - mean
        solved = precision @ residuals
        value = -0.5 * float(residuals @ solved) - log_determinant
        # From here on `precision` is twice the derivative by the covariance, its sign reversed.
        precision -= np.multiply(solved[:, None], solved, out=work)
        by_outputscale = -0.5 * float(np.vdot(precision, kernel))
        by_noise = -0.5 * float(np.trace(precision))
        r *= decay
        r *= precision
        # d value / d s of each pair of rows; s = sum_k weight_k (x_ik - x_jk)^2, and the sum over
        # all pairs splits into two products.
        r *= 5.0 / 12.0 * outputscale
        by_weight = 2.0 * (r.sum(axis=1) @ self._squares)
        by_weight -= 2.0 * np.einsum("nd,nd->d", self.inputs, r @ self.inputs)
        return value, by_weight, by_outputscale, float(solved.sum()), by_noise


def _log_gamma(log_value: float, value: float, shape: float, rate: float) -> float:
    return shape * log_value - rate * value


def _log_half_cauchy(log_value: Array, value: Array) -> Array:
    return log_value - np.log1p(value * value)


def _half_cauchy_slope(value: Array) -> Array:
    return 1.0 - 2.0 / (1.0 + 1.0 / (value * value))


def draws_at(density: SaasDensity, positions: Array) -> Draws:
    """Returns the hyperparameters that positions of shape `S x (d + 4)` stand for."""
    values = np.exp(positions)
    return Draws(
        inverse_lengthscales=values[:, [2]] * values[:, _LOCAL:-1],
        outputscale=values[:, 0],
        mean=positions[:, 1].copy(),
        noise=NOISE_FLOOR + values[:, -1] if density.noise is None else None,
    )

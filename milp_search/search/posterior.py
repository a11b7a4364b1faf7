"""One metric's posterior: a mixture of Gaussian processes, one for each hyperparameter draw."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.linalg.lapack import dtrtri

from milp_search.core.errors import MilpSearchError
from milp_search.search.orientation import Array

# ours: relative to the output scale; repaired covariances are off by less than any noise.
_JITTERS = (0.0, 1e-10, 1e-8, 1e-6, 1e-4)


class SingularCovarianceError(MilpSearchError, ArithmeticError):
    """A covariance that no jitter makes positive definite."""


@dataclass(frozen=True, eq=False)
class Draws:
    """Hyperparameter draws of one metric, `S` of them.

    Attributes:
        inverse_lengthscales: One over each squared lengthscale, shape `S x d`.
        outputscale: The prior variance, shape `S`.
        mean: The prior mean, shape `S`.
        noise: The noise variance, shape `S`; None where variances are known.
    """

    inverse_lengthscales: Array
    outputscale: Array
    mean: Array
    noise: Array | None

    def __len__(self) -> int:
        return len(self.mean)


@dataclass(frozen=True, eq=False)
class Surrogate:
    """One metric's fitted mixture of `S` Gaussian processes over `n` observations.

    Everything is about the noise-free function, on the scale of the targets.

    Attributes:
        inputs: Shape `n x d`.
        targets: Shape `n`, about standardised, larger is better.
        noise: Known noise variances, shape `n`, or None where the draws hold one.
        draws: The hyperparameters.
    """

    inputs: Array
    targets: Array
    noise: Array | None
    draws: Draws

    def kernel(self, left: Array, right: Array) -> Array:
        """Returns prior covariances under each draw, shape `S x N x M`.

        Args:
            left: Inputs, shape `N x d`.
            right: Inputs, shape `M x d`.

        Returns:
            The Matern-5/2 covariances.
        """
        return matern52(left, right, self.draws)

    @cached_property
    def noise_variances(self) -> Array:
        """The noise variance of each observation under each draw, shape `S x n`."""
        shape = (len(self.draws), len(self.targets))
        if self.noise is not None:
            return np.broadcast_to(self.noise, shape)
        assert self.draws.noise is not None  # variances are known or drawn
        return np.broadcast_to(self.draws.noise[:, None], shape)

    @cached_property
    def inverse_factor(self) -> Array:
        """The inverse of the lower Cholesky factor of the targets' covariance, `S x n x n`."""
        covariance = self.kernel(self.inputs, self.inputs)
        diagonal = np.arange(len(self.targets))
        covariance[:, diagonal, diagonal] += self.noise_variances
        return inverse_factors(covariance, self.draws.outputscale)

    @cached_property
    def whitened_targets(self) -> Array:
        """The inverse factor times the targets less their prior mean, shape `S x n`."""
        residuals = self.targets - self.draws.mean[:, None]
        return np.asarray((self.inverse_factor @ residuals[..., None])[..., 0])

    def whitened(self, inputs: Array) -> Array:
        """Returns the inverse factor times the prior covariance with `N` inputs, `S x n x N`."""
        return np.asarray(self.inverse_factor @ self.kernel(self.inputs, inputs))

    def predict(self, inputs: Array) -> tuple[Array, Array]:
        """Returns means and variances at inputs of shape `N x d`, each of shape `S x N`."""
        whitened = self.whitened(inputs)
        mean = self.draws.mean[:, None] + np.einsum("sn,snk->sk", self.whitened_targets, whitened)
        variance = self.draws.outputscale[:, None] - np.einsum("snk,snk->sk", whitened, whitened)
        return mean, np.maximum(variance, 0.0)

    def joint(self, inputs: Array) -> tuple[Array, Array]:
        """Returns the joint means `S x J` and covariances `S x J x J` at inputs `J x d`."""
        whitened = self.whitened(inputs)
        mean = self.draws.mean[:, None] + np.einsum("sn,snk->sk", self.whitened_targets, whitened)
        covariance = self.kernel(inputs, inputs) - whitened.transpose(0, 2, 1) @ whitened
        return mean, covariance


def matern52(left: Array, right: Array, draws: Draws) -> Array:
    """Returns Matern-5/2 covariances under each draw, shape `S x N x M`.

    Args:
        left: Inputs, shape `N x d`.
        right: Inputs, shape `M x d`.
        draws: The `S` hyperparameter draws.

    Returns:
        The covariances.

    Source: Rasmussen and Williams, "Gaussian processes for machine learning", 2006, Eq. 4.17.
    """
    scales = np.sqrt(draws.inverse_lengthscales)[:, None, :]
    a, b = left * scales, right * scales
    products = a @ b.transpose(0, 2, 1)
    norms = (a * a).sum(axis=-1)[:, :, None] + (b * b).sum(axis=-1)[:, None, :]
    # The kernel is smooth in the squared distance at 0, so that cancellation does no harm.
    r = np.sqrt(np.maximum(5.0 * (norms - 2.0 * products), 0.0))
    return np.asarray(draws.outputscale[:, None, None] * (1.0 + r + r * r / 3.0) * np.exp(-r))


def inverse_factors(covariances: Array, scales: Array) -> Array:
    """Returns the inverses of the lower Cholesky factors, with jitter where one needs it.

    Args:
        covariances: Shape `S x k x k`.
        scales: What jitter is relative to, shape `S`.

    Returns:
        Lower triangular matrices W with W' W the inverse covariance, shape `S x k x k`.

    Raises:
        SingularCovarianceError: A covariance holds NaN or is far from positive definite.
    """
    inverses = np.empty_like(covariances)
    for place, covariance in enumerate(covariances):
        inverses[place], _ = dtrtri(_cholesky(covariance, float(scales[place])), lower=1)
    return inverses


def _cholesky(covariance: Array, scale: float) -> Array:
    smallest = float("nan")
    if np.isfinite(covariance).all():
        for jitter in _JITTERS:
            try:
                jittered = covariance + jitter * scale * np.eye(len(covariance))
                return np.asarray(np.linalg.cholesky(jittered), dtype=np.float64)
            except np.linalg.LinAlgError:
                continue
        smallest = float(np.linalg.eigvalsh(covariance)[0])
    raise SingularCovarianceError(
        f"expected a covariance that jitter of {_JITTERS[-1]:g} makes positive definite, got "
        f"smallest eigenvalue {smallest:.3g}"
    )

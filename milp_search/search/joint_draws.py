"""One metric given joint draws of its function at observed and at pending points."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Self, final

import numpy as np

from milp_search.search.orientation import Array
from milp_search.search.posterior import Draws, Surrogate, inverse_factors

# ours: the variance, relative to the output scale, that a drawn function value keeps. Without it
# points that the kernel hardly tells apart make covariances singular.
_NUGGET = 1e-6


@final
@dataclass(frozen=True, eq=False)
class JointDraws:
    """A metric's process given `J` joint draws under each of `S` hyperparameter draws.

    The conditions are noisy observations and drawn function values in one. Both are kept as
    standard normal numbers, the conditions' values multiplied by the inverse Cholesky factor of
    their covariance, which a further point only appends a row to.

    Attributes:
        draws: The hyperparameters.
        scaled: The conditions' inputs, each divided by the lengthscales, shape `S x u x d`.
        inverse_factor: Of the conditions' covariance, shape `S x u x u`.
        whitened: The conditions' whitened values, shape `S x J x u`.
        values: Drawn function values at baseline and pending points, shape `S x J x b`.
    """

    draws: Draws
    scaled: Array
    inverse_factor: Array
    whitened: Array
    values: Array

    @property
    def shape(self) -> tuple[int, int]:
        """`S` and `J`."""
        return self.whitened.shape[0], self.whitened.shape[1]

    def predict(self, inputs: Array) -> tuple[Array, Array]:
        """Returns means `S x J x N` and standard deviations `S x N` at inputs of shape `N x d`.

        Noise-free, given each draw.
        """
        count, joint = self.shape
        means = np.empty((count, joint, len(inputs)))
        variances = np.empty((count, len(inputs)))
        for place, weighted in enumerate(self._weighted(inputs)):
            np.matmul(self.whitened[place], weighted, out=means[place])
            means[place] += self.draws.mean[place]
            np.einsum("un,un->n", weighted, weighted, out=variances[place])
        variances -= self.draws.outputscale[:, None]
        np.negative(variances, out=variances)
        return means, np.sqrt(np.maximum(variances, _NUGGET * self.draws.outputscale[:, None]))

    def with_point(self, point: Array, normals: Array) -> Self:
        """Returns the process given a draw at one more point in each joint draw.

        Args:
            point: Shape `d`.
            normals: Standard normal numbers that make the draws, shape `S x J`.

        Returns:
            The process; `values` has the new draws in its last column.
        """
        weighted = np.stack([*self._weighted(point[None])])[..., 0]
        scales = self.draws.outputscale
        variance = scales * (1.0 + _NUGGET) - (weighted**2).sum(axis=-1)
        deviation = np.sqrt(np.maximum(variance, _NUGGET * scales))
        mean = self.draws.mean[:, None] + np.einsum("sju,su->sj", self.whitened, weighted)
        drawn = mean + deviation[:, None] * normals
        row = -np.einsum("su,suv->sv", weighted, self.inverse_factor) / deviation[:, None]
        size = row.shape[1]
        factor = np.zeros((len(row), size + 1, size + 1))
        factor[:, :size, :size] = self.inverse_factor
        factor[:, size, :size], factor[:, size, size] = row, 1.0 / deviation
        added = (point * np.sqrt(self.draws.inverse_lengthscales))[:, None]
        return replace(
            self,
            scaled=np.concatenate([self.scaled, added], axis=1),
            inverse_factor=factor,
            whitened=np.concatenate([self.whitened, normals[..., None]], axis=2),
            values=np.concatenate([self.values, drawn[..., None]], axis=2),
        )

    def _weighted(self, inputs: Array) -> Iterator[Array]:
        """Yields, draw by draw, the inverse factor times the covariances with inputs, `u x N`."""
        for place, (scaled, weights) in enumerate(
            zip(self.scaled, np.sqrt(self.draws.inverse_lengthscales), strict=True)
        ):
            covariance = _matern52(scaled, inputs * weights)
            covariance *= self.draws.outputscale[place]
            yield self.inverse_factor[place] @ covariance


def condition(surrogate: Surrogate, baseline: Array, normals: Array) -> JointDraws:
    """Returns the process given joint draws of its function at the baseline.

    Observations at a baseline point tell nothing beside the function's value there and are left
    out.

    Args:
        surrogate: The metric's posterior.
        baseline: Distinct inputs of observed points, shape `b x d`; none is fine.
        normals: Standard normal numbers that make the draws, shape `S x J x b`.

    Returns:
        The process.
    """
    draws = surrogate.draws
    values = draw_jointly(surrogate, baseline, normals)
    known = {row.tobytes() for row in baseline}
    rest = np.array([row.tobytes() not in known for row in surrogate.inputs], dtype=bool)
    inputs = np.concatenate([surrogate.inputs[rest], baseline])
    nugget = np.broadcast_to(_NUGGET * draws.outputscale[:, None], (len(draws), len(baseline)))
    noise = np.concatenate([surrogate.noise_variances[:, rest], nugget], axis=1)
    covariance = surrogate.kernel(inputs, inputs)
    places = np.arange(len(inputs))
    covariance[:, places, places] += noise
    inverse_factor = inverse_factors(covariance, draws.outputscale)
    observed = np.broadcast_to(surrogate.targets[rest], (*values.shape[:2], int(rest.sum())))
    residuals = np.concatenate([observed, values], axis=2) - draws.mean[:, None, None]
    return JointDraws(
        draws,
        inputs * np.sqrt(draws.inverse_lengthscales)[:, None, :],
        inverse_factor,
        residuals @ inverse_factor.transpose(0, 2, 1),
        values,
    )


def draw_jointly(surrogate: Surrogate, points: Array, normals: Array) -> Array:
    """Returns joint draws of the function at points, shape `S x J x b`.

    Args:
        surrogate: The metric's posterior.
        points: Shape `b x d`.
        normals: Standard normal numbers that make the draws, shape `S x J x b`.

    Returns:
        The draws.
    """
    if len(points) == 0:
        return np.zeros(normals.shape)
    mean, covariance = surrogate.joint(points)
    scales = surrogate.draws.outputscale
    places = np.arange(len(points))
    covariance[:, places, places] += _NUGGET * scales[:, None]
    inverse = inverse_factors(covariance, scales)
    shifts = np.linalg.solve(inverse, normals.transpose(0, 2, 1)).transpose(0, 2, 1)
    return np.asarray(mean[:, None] + shifts)


def _matern52(left: Array, right: Array) -> Array:
    """Returns unit Matern-5/2 covariances of inputs in lengthscales, `u x d` and `N x d`.

    As `posterior.matern52`, for one hyperparameter draw and without temporaries.
    """
    root = np.sqrt(5.0)
    left, right = root * left, root * right
    ones_left, ones_right = np.ones((len(left), 1)), np.ones((len(right), 1))
    # One product gives squared distances: |a|^2 + |b|^2 - 2 a b.
    a = np.hstack([-2.0 * left, (left * left).sum(axis=1, keepdims=True), ones_left])
    b = np.hstack([right, ones_right, (right * right).sum(axis=1, keepdims=True)])
    distance = a @ b.T
    np.maximum(distance, 0.0, out=distance)
    shape = distance / 3.0
    np.sqrt(distance, out=distance)
    shape += distance
    shape += 1.0
    np.negative(distance, out=distance)
    np.exp(distance, out=distance)
    distance *= shape
    return np.asarray(distance)

"""Noisy expected hypervolume improvement in closed form, given joint draws of what is not seen.

Source: Daulton, Balandat and Bakshy, "Parallel Bayesian optimization of multiple noisy objectives
with expected hypervolume improvement", 2021, Eq. 4, with the inner expectation in closed form:
Yang et al., "Efficient computation of expected hypervolume improvement using box decomposition
algorithms", 2019.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Self, final

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr, ndtr, ndtri
from scipy.stats import qmc

from milp_search.search.cells import Cells, undominated, undominated_cells
from milp_search.search.expected_excess import expected_excess, log_expected_excess
from milp_search.search.joint_draws import JointDraws, condition, draw_jointly
from milp_search.search.orientation import Array
from milp_search.search.posterior import Surrogate

# Candidates in one block; it fits the processor's cache.
_BLOCK = 256
# Values below it are computed again as logarithms.
_TINY = 1e-200
# ours: what a candidate scores that gains nothing in any draw, less its distance from gaining.
_NO_GAIN = -1e9
# ours: below it logarithms of gains fall only logarithmically, and thereby never to `_NO_GAIN`; a
# metric that hardly varies may lie millions of deviations below its bound.
_FAR = -1e6
# ours: a point that is on the front in fewer than one draw in some hundreds is left out.
_PRUNING_DRAWS = 256

_Draw = tuple[Cells, list[Array], list[Array]]


@dataclass(frozen=True, eq=False)
class Target:
    """What counts as an improvement; everything is maximised.

    Attributes:
        reference: The reference point, shape `m`, modelled objectives first, exact ones after.
        bounds: Least values of the modelled metrics that are constrained and no objectives,
            shape `c`.
    """

    reference: Array
    bounds: Array


@final
@dataclass(frozen=True, eq=False)
class ExactNehvi:
    """The acquisition function.

    The front of each joint draw leaves a region, cut into boxes; a candidate's expected gain is
    the sum over boxes of the product over objectives of how far it is expected to reach in. An
    exact objective reaches as far as it does. The draw's gain counts by the probability that the
    constrained metrics keep their bounds in it.

    Attributes:
        target: What counts as an improvement.
        metrics: The modelled objectives, then the constrained metrics.
        exact: Exact objectives at baseline and pending points, shape `b x e`.
        allowed: Which of these points keep the exact constraints, shape `b`.
        cells: One decomposition for each of the `S J` draws.
    """

    target: Target
    metrics: tuple[JointDraws, ...]
    exact: Array
    allowed: NDArray[np.bool_]
    cells: tuple[Cells, ...]

    def log_values(self, inputs: Array, exact: Array) -> Array:
        """Returns the logarithms of the expected gains, shape `N`, always finite.

        A candidate that gains nothing in any draw, its exact objectives being too low, gets a
        value below all others, which rises with them. Logarithms below -10^6 are raised above
        that value, in their order.

        Args:
            inputs: Shape `N x d`.
            exact: Exact objectives, shape `N x e`.

        Returns:
            The logarithms.
        """
        blocks = range(0, len(inputs), _BLOCK)
        values = [
            self._block(inputs[start : start + _BLOCK], exact[start : start + _BLOCK])
            for start in blocks
        ]
        return np.concatenate(values) if values else np.zeros(0)

    def with_pending(
        self, inputs: Array, exact: Array, *, allowed: bool, rng: np.random.Generator
    ) -> Self:
        """Returns the acquisition function given draws at one more pending point.

        Args:
            inputs: The point's inputs, shape `d`.
            exact: Its exact objectives, shape `e`.
            allowed: Whether it keeps the exact constraints.
            rng: Makes the draws.

        Returns:
            The acquisition function.
        """
        metrics = tuple(
            metric.with_point(inputs, rng.standard_normal(metric.shape)) for metric in self.metrics
        )
        exacts = np.concatenate([self.exact, exact[None]])
        alloweds = np.append(self.allowed, allowed)
        cells = _cells(self.target, [metric.values for metric in metrics], exacts, alloweds)
        return replace(self, metrics=metrics, exact=exacts, allowed=alloweds, cells=cells)

    def _block(self, inputs: Array, exact: Array) -> Array:
        short = self.target.reference[len(self.target.reference) - exact.shape[1] :] - exact
        hopeful = (short < 0.0).all(axis=1)
        values = _NO_GAIN * (1.0 + np.maximum(short, 0.0).sum(axis=1))
        if hopeful.any():
            values[hopeful] = self._gains(inputs[hopeful], exact[hopeful])
        return np.asarray(values)

    def _gains(self, inputs: Array, exact: Array) -> Array:
        """Returns the logarithms for candidates whose exact objectives pass the reference."""
        predictions = [metric.predict(inputs) for metric in self.metrics]
        total = np.zeros(len(inputs))
        for cells, means, deviations in self._draws(predictions):
            gain = _volume(cells, _reach(cells, *self._objectives(means, deviations), exact))
            for margin in self._margins(means, deviations):
                gain *= ndtr(margin)
            total += gain
        faint = np.flatnonzero(total <= _TINY)
        values = np.log(np.maximum(total, _TINY) / len(self.cells))
        if len(faint) > 0:
            chosen = [(mean[..., faint], deviation[:, faint]) for mean, deviation in predictions]
            values[faint] = self._faint_gains(chosen, exact[faint])
        return np.asarray(values)

    def _faint_gains(self, predictions: Sequence[tuple[Array, Array]], exact: Array) -> Array:
        """Returns the logarithms of gains that underflow."""
        logs = np.empty((len(self.cells), len(exact)))
        for place, (cells, means, deviations) in enumerate(self._draws(predictions)):
            logs[place] = _log_volume(cells, *self._objectives(means, deviations), exact)
            for margin in self._margins(means, deviations):
                logs[place] += log_ndtr(margin)
        return _bounded(_log_sum(logs) - np.log(len(logs)))

    def _objectives(
        self, means: Sequence[Array], deviations: Sequence[Array]
    ) -> tuple[Sequence[Array], Sequence[Array]]:
        count = len(self.metrics) - len(self.target.bounds)
        return means[:count], deviations[:count]

    def _draws(self, predictions: Sequence[tuple[Array, Array]]) -> Iterator[_Draw]:
        """Yields each draw's cells with every metric's means and deviations, each of shape `N`."""
        joint = self.metrics[0].shape[1]
        for place, cells in enumerate(self.cells):
            outer, inner = divmod(place, joint)
            means = [mean[outer, inner] for mean, _ in predictions]
            deviations = [deviation[outer] for _, deviation in predictions]
            yield cells, means, deviations

    def _margins(self, means: Sequence[Array], deviations: Sequence[Array]) -> list[Array]:
        """Returns how many deviations each constrained metric lies above its bound."""
        first = len(self.metrics) - len(self.target.bounds)
        return [
            (mean - bound) / deviation
            for bound, mean, deviation in zip(
                self.target.bounds, means[first:], deviations[first:], strict=True
            )
        ]


def exact_nehvi(
    surrogates: Sequence[Surrogate],
    target: Target,
    inputs: Array,
    exact: Array,
    allowed: NDArray[np.bool_],
    *,
    joint: int,
    seed: int,
) -> ExactNehvi:
    """Returns the acquisition function given joint draws at the observed points.

    Observed points that are on the front in no draw are not drawn at: they cannot change a gain.

    Args:
        surrogates: The modelled objectives, then the constrained metrics; equally many
            hyperparameter draws each.
        target: What counts as an improvement.
        inputs: Distinct observed inputs, shape `n x d`.
        exact: Their exact objectives, shape `n x e`.
        allowed: Which of them keep the exact constraints, shape `n`.
        joint: Joint draws under each hyperparameter draw.
        seed: Seed of the draws.

    Returns:
        The acquisition function.
    """
    rng = np.random.default_rng(seed)
    kept = _relevant(surrogates, target, inputs, exact, allowed, rng)
    baseline = inputs[kept]
    normals = _normals(len(surrogates), len(surrogates[0].draws), joint, len(baseline), rng)
    metrics = tuple(
        condition(surrogate, baseline, columns)
        for surrogate, columns in zip(surrogates, normals, strict=True)
    )
    cells = _cells(target, [one.values for one in metrics], exact[kept], allowed[kept])
    return ExactNehvi(target, metrics, exact[kept], allowed[kept], cells)


def _relevant(
    surrogates: Sequence[Surrogate],
    target: Target,
    inputs: Array,
    exact: Array,
    allowed: NDArray[np.bool_],
    rng: np.random.Generator,
) -> NDArray[np.bool_]:
    """Returns which observed points are on the front in some joint draw, shape `n`."""
    draws = len(surrogates[0].draws)
    shape = (draws, -(-_PRUNING_DRAWS // draws), len(inputs))
    values = [draw_jointly(one, inputs, rng.standard_normal(shape)) for one in surrogates]
    kept = np.zeros(len(inputs), dtype=bool)
    for points, counts in _outcomes(target, values, exact, allowed):
        kept |= (undominated(np.where(counts[..., None], points, -np.inf)) & counts).any(axis=0)
    return kept


def _cells(
    target: Target, values: Sequence[Array], exact: Array, allowed: NDArray[np.bool_]
) -> tuple[Cells, ...]:
    """Returns the decomposition of every draw, the hyperparameter draws varying slowest."""
    cells: list[Cells] = []
    for points, counts in _outcomes(target, values, exact, allowed):
        fronts = undominated(np.where(counts[..., None], points, -np.inf)) & counts
        for one, front in zip(points, fronts, strict=True):
            cells.append(undominated_cells(np.unique(one[front], axis=0), target.reference))
    return tuple(cells)


def _outcomes(
    target: Target, values: Sequence[Array], exact: Array, allowed: NDArray[np.bool_]
) -> Iterator[tuple[Array, NDArray[np.bool_]]]:
    """Yields, for each hyperparameter draw, all objectives and which points count.

    Their shapes are `J x b x m` and `J x b`. A point counts if it is above the reference and keeps
    all constraints.
    """
    modelled = len(values) - len(target.bounds)
    for drawn in zip(*values, strict=True):
        shape = (*drawn[0].shape, exact.shape[1])
        points = np.concatenate(
            [np.stack(drawn[:modelled], axis=-1), np.broadcast_to(exact, shape)], axis=-1
        )
        counts = allowed & (points > target.reference).all(axis=-1)
        for bound, constrained in zip(target.bounds, drawn[modelled:], strict=True):
            counts = counts & (constrained >= bound)
        yield points, counts


def _normals(metrics: int, draws: int, joint: int, points: int, rng: np.random.Generator) -> Array:
    """Returns quasi-random standard normal numbers, shape `metrics x draws x joint x points`."""
    if points == 0:
        return np.zeros((metrics, draws, joint, 0))
    sequence = qmc.Sobol(metrics * points, scramble=True, rng=rng)
    uniform = sequence.random_base2((draws * joint - 1).bit_length())[: draws * joint]
    # Never exactly 0 or 1, whose normal quantiles are infinite.
    inner = 0.5 + (1.0 - 1e-10) * (uniform - 0.5)
    return np.asarray(ndtri(inner).reshape(draws, joint, metrics, points).transpose(2, 0, 1, 3))


def _reach(
    cells: Cells, means: Sequence[Array], deviations: Sequence[Array], exact: Array
) -> list[Array]:
    """Returns how far each objective is expected to exceed each level, `F + 2 x N` each.

    The last row is infinity's: nothing exceeds it.
    """
    modelled = len(means)
    reach = [
        expected_excess(levels, mean, deviation)
        for levels, mean, deviation in zip(cells.levels[:modelled], means, deviations, strict=True)
    ]
    reach += [
        np.maximum(values - levels[:, None], 0.0)
        for levels, values in zip(cells.levels[modelled:], exact.T, strict=True)
    ]
    return [np.vstack([one, np.zeros((1, one.shape[1]))]) for one in reach]


def _volume(cells: Cells, reach: Sequence[Array]) -> Array:
    """Returns the expected volume gained in all cells, shape `N`."""
    product: Array | None = None
    for one, lower, upper in zip(reach, cells.lower, cells.upper, strict=True):
        side = one[lower]
        if (upper < len(one) - 1).any():
            side -= one[upper]
        product = side if product is None else np.multiply(product, side, out=product)
    assert product is not None  # there is at least one objective
    return np.asarray(product.sum(axis=0))


def _log_volume(
    cells: Cells, means: Sequence[Array], deviations: Sequence[Array], exact: Array
) -> Array:
    """Returns the logarithms of the expected volume gained in all cells, shape `N`."""
    modelled = len(means)
    logs = [
        log_expected_excess(levels, mean, deviation)
        for levels, mean, deviation in zip(cells.levels[:modelled], means, deviations, strict=True)
    ]
    with np.errstate(divide="ignore", invalid="ignore"):
        logs += [
            np.log(np.maximum(values - levels[:, None], 0.0))
            for levels, values in zip(cells.levels[modelled:], exact.T, strict=True)
        ]
        total = np.zeros(())
        for one, lower, upper in zip(logs, cells.lower, cells.upper, strict=True):
            beyond = np.vstack([one, np.full((1, one.shape[1]), -np.inf)])
            low, high = beyond[lower], beyond[upper]
            side = low + np.log1p(-np.exp(np.minimum(high - low, 0.0)))
            total = total + np.where(np.isneginf(low), -np.inf, side)
    return _log_sum(total)


def _bounded(logs: Array) -> Array:
    """Returns the logarithms, those far below zero raised in their order."""
    times = np.maximum(logs / _FAR, 1.0)
    return np.asarray(np.where(times > 1.0, _FAR * (1.0 + np.log(times)), logs))


def _log_sum(logs: Array) -> Array:
    """Returns the logarithm of the sum over the first axis; -inf where all are."""
    highest = np.maximum(logs.max(axis=0), np.finfo(float).min)
    with np.errstate(divide="ignore"):
        return np.asarray(highest + np.log(np.exp(logs - highest).sum(axis=0)))

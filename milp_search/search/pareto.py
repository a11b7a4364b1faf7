"""Pareto fronts and hypervolume of finished trials, in natural units."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from milp_search.core.errors import MeasurementError
from milp_search.core.trial import Objective, Trial, TrialStatus
from milp_search.search.orientation import Array, maximised, maximised_reference


def non_dominated(values: Array, objectives: Sequence[Objective]) -> NDArray[np.bool_]:
    """Returns which points no other point dominates, as a mask of shape `n`.

    Args:
        values: Shape `n x m`, finite, in natural units. Equal points are all kept.
        objectives: The `m` objectives.

    Returns:
        True where a point is on the front.
    """
    return _undominated(maximised(_finite(values), objectives))


def _undominated(points: Array) -> NDArray[np.bool_]:
    """Returns `non_dominated` of points that are maximised, one pass for each that stays."""
    # Points with a large sum first: they dominate most others, which are then looked at no more.
    left = np.argsort(-points.sum(axis=1), kind="stable")
    place = 0
    while place < len(left):
        point, others = points[left[place]], points[left]
        kept = ~(others <= point).all(axis=1) | (others == point).all(axis=1)
        place = int(kept[: place + 1].sum())
        left = left[kept]
    mask = np.zeros(len(points), dtype=np.bool_)
    mask[left] = True
    return mask


def hypervolume(values: Array, objectives: Sequence[Objective]) -> float:
    """Returns the volume between the points and the reference, exactly.

    Args:
        values: Shape `n x m`, finite, in natural units, in any order. A point that is not better
            than the reference in every objective contributes nothing; no points give 0.
        objectives: The `m` objectives, each with its reference.

    Returns:
        The volume, in the product of the objectives' units.

    Raises:
        SpecError: An objective has no reference.
    """
    reference = maximised_reference(objectives)
    points = maximised(_finite(values), objectives)
    points = np.unique(points[(points > reference).all(axis=-1)], axis=0)
    if len(points) == 0:
        return 0.0
    if len(objectives) == 1:
        return float(points.max() - reference[0])
    return _volume(points[_undominated(points)], reference)


def front(trials: Sequence[Trial], objectives: Sequence[Objective]) -> list[Trial]:
    """Returns the completed trials that no other completed trial dominates, by index."""
    completed = sorted(
        (trial for trial in trials if trial.status is TrialStatus.COMPLETED),
        key=lambda trial: trial.index,
    )
    mask = non_dominated(objective_values(completed, objectives), objectives)
    return [trial for trial, kept in zip(completed, mask, strict=True) if kept]


def objective_values(trials: Sequence[Trial], objectives: Sequence[Objective]) -> Array:
    """Returns the objectives' means in natural units, shape `n x m`.

    Args:
        trials: The `n` trials.
        objectives: The `m` objectives.

    Returns:
        One row a trial, in the given order.

    Raises:
        MeasurementError: A trial lacks an objective's metric.
    """
    rows = [[_mean(trial, one.metric) for one in objectives] for trial in trials]
    return np.array(rows, dtype=np.float64).reshape(len(trials), len(objectives))


def _mean(trial: Trial, metric: str) -> float:
    if metric not in trial.measurements:
        raise MeasurementError(
            f"expected trial {trial.index} to carry {metric!r}, got {sorted(trial.measurements)}"
        )
    return trial.measurements[metric].mean


def _finite(values: Array) -> Array:
    array = np.asarray(values, dtype=np.float64)
    if not np.isfinite(array).all():
        raise MeasurementError("expected finite objective values, got NaN or infinity")
    return array


def _volume(front: Array, reference: Array) -> float:
    """Returns the exact volume of a front of two or more objectives, all maximised.

    Source: Fonseca, Paquete, Lopez-Ibanez, "An improved dimension-sweep algorithm for the
    hypervolume indicator", 2006 (BoTorch's implementation), and box decompositions.
    """
    import torch
    from botorch.utils.multi_objective.hypervolume import Hypervolume

    volume = Hypervolume(ref_point=torch.from_numpy(reference))
    return float(volume.compute(torch.from_numpy(front)))

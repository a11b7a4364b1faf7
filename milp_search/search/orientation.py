"""The only place where signs flip: inside the search everything is maximised."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from milp_search.core.errors import SpecError
from milp_search.core.trial import Objective

Array = NDArray[np.float64]


def signs(objectives: Sequence[Objective]) -> Array:
    """Returns +1 for each objective to maximise and -1 for each to minimise, shape `m`."""
    return np.array([1.0 if one.direction == "maximize" else -1.0 for one in objectives])


def maximised(values: Array, objectives: Sequence[Objective]) -> Array:
    """Returns `n x m` values in natural units so that larger is better in every column."""
    return np.asarray(values, dtype=np.float64).reshape(-1, len(objectives)) * signs(objectives)


def maximised_reference(objectives: Sequence[Objective]) -> Array:
    """Returns the reference point where larger is better, shape `m`.

    Args:
        objectives: The `m` objectives.

    Returns:
        The references, those to minimise with their sign flipped.

    Raises:
        SpecError: An objective has no reference value.
    """
    missing = [one.metric for one in objectives if one.reference is None]
    if missing:
        raise SpecError(
            f"expected a reference value for every objective, got none for {missing}",
            remedy="give one, or infer it from the initial trials with `infer_reference`",
        )
    return np.array([one.reference for one in objectives], dtype=np.float64) * signs(objectives)

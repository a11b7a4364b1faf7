"""Whether chains went stale: how new observations surprise them before they are added."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.special import ndtr, ndtri

from milp_search.search.fit_state import Fingerprints, MetricState
from milp_search.search.posterior import SingularCovarianceError, Surrogate
from milp_search.search.saas_likelihood import SaasDensity, draws_at


def scored(state: MetricState, density: SaasDensity, rows: Fingerprints) -> MetricState:
    """Returns the state with the rows scored that it has not seen, before they are added.

    A row's probability under the chains' mixture becomes a standard normal number, whose square
    is 1 on average where the chains are right.
    """
    old = np.isin(rows, state.seen)
    if old.all() or not old.any():
        return state
    noise = density.noise
    surrogate = Surrogate(
        density.inputs[old],
        density.targets[old],
        None if noise is None else noise[old],
        draws_at(density, state.positions),
    )
    try:
        mean, variance = surrogate.predict(density.inputs[~old])
    except SingularCovarianceError:
        return state
    if noise is None:
        variance = variance + surrogate.noise_variances[:, :1]
    else:
        variance = variance + noise[~old]
    below = ndtr((density.targets[~old] - mean) / np.sqrt(variance)).mean(axis=0)
    normal = ndtri(np.clip(below, 1e-12, 1.0 - 1e-12))
    return replace(
        state,
        surprise=state.surprise + float(normal @ normal),
        scored=state.scored + int((~old).sum()),
    )

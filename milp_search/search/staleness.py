"""Which chains start anew: in turn as observations come in, sooner where new ones surprise them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.special import ndtr, ndtri
from scipy.stats import chi2

from milp_search.search.fit_state import Fingerprints, MetricState
from milp_search.search.orientation import Array
from milp_search.search.posterior import SingularCovarianceError, Surrogate
from milp_search.search.saas_chains import Mask
from milp_search.search.saas_likelihood import SaasDensity, draws_at

# ours: chains are stale where new observations are this improbable under them.
_STALE = 1e-3
# ours: a misfit that no restart mends must not cost one at every fit.
_REST = 8
# ours: chains that start anew in one fit, at most; what more is due waits for the next.
_AT_ONCE = 2


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


def improbability(state: MetricState) -> float:
    """Returns how probable rows as surprising as those scored are, by chance."""
    return float(chi2.sf(state.surprise, state.scored)) if state.scored > 0.0 else 1.0


def outdated(
    state: MetricState, density: SaasDensity, growth: float
) -> tuple[MetricState, Mask, str | None]:
    """Returns the state, marked for the chains that are to start anew; these; and why.

    Args:
        state: The chains, with the newest rows scored.
        density: Of all rows.
        growth: Between a chain's starts the rows grow so many times.

    Returns:
        The state with the next schedule, a mask of chains, and the reason if there are any.
    """
    rows, due, why = len(density.targets), state.due, f"due at {state.due.min():.0f} observations"
    stale = improbability(state) < _STALE and state.scored >= _REST
    if stale:
        due = np.minimum(due, rows)
        why = f"new observations have probability {improbability(state):.1e} under the old chains"
    lost = ~np.array([np.isfinite(density(position)[0]) for position in state.positions])
    if lost.any():
        due = np.where(lost, 0.0, due)
        why = "an old chain's hyperparameters have no finite density"
    first = np.argsort(due, kind="stable")[:_AT_ONCE]
    chosen = np.zeros(len(due), dtype=np.bool_)
    chosen[first] = due[first] <= rows
    stayed = 0.0 if stale else 1.0 - float(chosen.mean())
    marked = replace(
        state,
        due=schedule(due, chosen, rows, growth),
        surprise=stayed * state.surprise,
        scored=stayed * state.scored,
    )
    return marked, chosen, why if chosen.any() else None


def schedule(due: Array, chosen: Mask, rows: int, growth: float) -> Array:
    """Returns when chains are due once the chosen ones started: after all others, one by one."""
    after = due.copy()
    turns = np.arange(1, chosen.sum() + 1) / len(due)
    after[chosen] = max(float(due.max()), rows) * growth**turns
    return after

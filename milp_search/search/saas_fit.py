"""Fitting the SAAS surrogate of every modelled metric: several chains, started warm where it pays.

The first fit disperses its chains and adapts step sizes and a dense mass matrix, pooled over the
chains, in a few windows. A warm fit continues where the last fit ended and freezes both, since a
short adaptation spoils them; one chain after another starts anew. Chains whose log density lags
behind are left out and moved.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from milp_search.search.fit_state import FitState, MetricState, fingerprints
from milp_search.search.nuts import Stretch
from milp_search.search.orientation import Array
from milp_search.search.posterior import Draws
from milp_search.search.presets import FitSettings
from milp_search.search.saas_chains import (
    LARGE,
    FitError,
    Mask,
    advance,
    cold_start,
    levelled,
    moved,
    not_lagging,
    nudge,
    refreshed,
    renewed,
)
from milp_search.search.saas_likelihood import NOISE_FLOOR, SaasDensity, draws_at
from milp_search.search.staleness import improbability, outdated, schedule, scored

__all__ = ["FitError", "FitSettings", "MetricReport", "fit"]


@dataclass(frozen=True, eq=False)
class MetricReport:
    """What happened in one metric's fit.

    Attributes:
        cold: Why chains started cold, or None where all started warm.
        fresh: Which chains started cold, shape `C`.
        log_densities: Each chain's mean log density, shape `C`.
        kept: Which chains the draws are from, shape `C`.
        acceptance: Each chain's mean acceptance statistic, shape `C`.
        gradients: Density evaluations of all chains.
        improbability: How probable new observations as surprising as those scored since the last
            restart are, by chance.
    """

    cold: str | None
    fresh: Mask
    log_densities: Array
    kept: Mask
    acceptance: Array
    gradients: int
    improbability: float


def fit(
    inputs: Array,
    targets: Sequence[Array],
    noise: Sequence[Array | None],
    settings: FitSettings,
    seed: int,
    state: FitState | None = None,
) -> tuple[list[Draws], FitState, list[MetricReport]]:
    """Returns hyperparameter draws of each metric, and what the next fit starts from.

    The order of the rows does not matter. Known noise variances count as at least `NOISE_FLOOR`.

    Args:
        inputs: Shape `n x d`, in about [0, 1].
        targets: Each metric's targets, shape `n`, about standardised.
        noise: Each metric's noise variances, shape `n`, or None to infer one.
        settings: The numbers.
        seed: Seed of the chains.
        state: Where the last fit ended; None starts cold, and so does a state of another shape.

    Returns:
        The draws, the state and a report for each metric.

    Raises:
        FitError: A metric's chains found no finite density.
    """
    before = _usable(state, len(targets), inputs.shape[1] + 4, settings)
    fits = [
        _fit_metric(
            _density(inputs, target, known),
            settings,
            [seed, metric],
            before[metric],
        )
        for metric, (target, known) in enumerate(zip(targets, noise, strict=True))
    ]
    return (
        [one[0] for one in fits],
        FitState(tuple(one[1] for one in fits)),
        [one[2] for one in fits],
    )


def _usable(
    state: FitState | None, metrics: int, dimension: int, settings: FitSettings
) -> list[MetricState | None]:
    shape = (settings.chains, dimension)
    if state is None or not settings.warm or len(state.metrics) != metrics:
        return [None] * metrics
    return [one if one.positions.shape == shape and _sound(one) else None for one in state.metrics]


def _sound(state: MetricState) -> bool:
    """Whether the numbers are such as a fit leaves behind."""
    finite = all(np.isfinite(each).all() for each in (state.positions, state.factor))
    positive = (state.step_sizes > 0).all() and (np.diag(state.factor) > 0).all()
    return finite and bool(positive) and len(state.due) == len(state.positions)


def _density(inputs: Array, targets: Array, noise: Array | None) -> SaasDensity:
    """Returns the density, its rows in an order of their own."""
    keys = [targets, *inputs.T] if noise is None else [noise, targets, *inputs.T]
    order = np.lexsort(keys)
    known = None if noise is None else np.maximum(noise[order], NOISE_FLOOR)
    return SaasDensity(inputs[order], targets[order], known)


def _fit_metric(
    density: SaasDensity,
    settings: FitSettings,
    seed: Sequence[int],
    state: MetricState | None,
) -> tuple[Draws, MetricState, MetricReport]:
    rngs = [np.random.default_rng([*seed, chain]) for chain in range(settings.chains)]
    rows = fingerprints(density.inputs)
    cold: str | None
    if state is None:
        cold, fresh, chance = "first fit", np.ones(settings.chains, dtype=np.bool_), 1.0
        state, spent = cold_start(
            density, rngs, windows=settings.windows, max_tree_depth=settings.max_tree_depth
        )
        state = replace(state, due=schedule(state.due, fresh, len(rows), settings.growth))
    else:
        state = scored(state, density, rows)
        chance = improbability(state)
        state, fresh, cold = outdated(state, density, settings.growth)
        state, spent = renewed(density, state, fresh, rngs, max_tree_depth=settings.max_tree_depth)
    samples = settings.samples if len(rows) < LARGE else (settings.samples + 1) // 2
    stretches = advance(
        density,
        state,
        rngs,
        steps=settings.warmup + samples,
        max_tree_depth=settings.max_tree_depth,
    )
    values = np.array([one.values[settings.warmup :].mean() for one in stretches])
    kept = not_lagging(values)
    acceptance = np.array([one.acceptance for one in stretches])
    draws = _draws(density, stretches, kept, settings)
    after = replace(
        moved(state, stretches, kept, rngs[0]),
        log_densities=values,
        seen=np.sort(rows),
        step_sizes=levelled(state.step_sizes * nudge(acceptance), kept),
        factor=refreshed(
            state.factor,
            [one.positions for one, keep in zip(stretches, kept, strict=True) if keep],
        ),
    )
    spent += sum(one.gradients for one in stretches)
    return draws, after, MetricReport(cold, fresh, values, kept, acceptance, spent, chance)


def _draws(
    density: SaasDensity,
    stretches: Sequence[Stretch],
    kept: Mask,
    settings: FitSettings,
) -> Draws:
    pool = np.concatenate(
        [
            one.positions[settings.warmup :]
            for one, keep in zip(stretches, kept, strict=True)
            if keep
        ]
    )
    rows = np.linspace(0, len(pool) - 1, settings.draws).round().astype(int)
    return draws_at(density, pool[rows])

"""Chains over one metric's hyperparameters: dispersed starts, adaptation, screening.

Step sizes and the mass matrix are frozen while a fit samples, since a short adaptation spoils
them; between fits they move a little with what the last fit saw.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from milp_search.core.errors import MilpSearchError
from milp_search.search.fit_state import MetricState
from milp_search.search.nuts import Stretch, run_chain
from milp_search.search.orientation import Array
from milp_search.search.saas_likelihood import SaasDensity

Mask = np.ndarray[tuple[int], np.dtype[np.bool_]]

# ours: dispersed starts are uniform within this, as NumPyro's and Stan's are.
_DISPERSION = 2.0
# ours: the adaptation that costs least gradients at the usual quality.
_TARGET = 0.8
# ours: between warm fits step sizes move towards this acceptance, which wastes no trajectory.
_WARM_TARGET = 0.85
# ours: the old mass matrix weighs as much as so many samples of a warm fit; without any refresh a
# step took 36 leaps instead of 15 once observations had doubled.
_MASS_MEMORY = 300.0
# ours: steps of the windows in which a chain that starts anew, with the others' mass matrix, finds
# its way in and adapts its step size.
_RENEWAL = (30, 20)
# ours: a chain is left out where its mean log density lies this far below the best; chains of one
# mode differ by 1 to 3 at the usual number of samples.
_LAG = 10.0
# ours: from so many rows on a cold start adapts on a sample of them until its last windows, and
# chains are half as long: a gradient costs n^3 there, and posteriors are narrow.
LARGE, _SAMPLE_ROWS, _FULL_WINDOWS = 200, 128, 2


class FitError(MilpSearchError, RuntimeError):
    """A surrogate that could not be fitted."""


def cold_start(
    density: SaasDensity,
    rngs: Sequence[np.random.Generator],
    *,
    windows: Sequence[int],
    max_tree_depth: int,
    others: MetricState | None = None,
) -> tuple[MetricState, int]:
    """Returns adapted chains, and the gradients that took.

    Chains that join others keep to their mass factor and begin with their step size.
    """
    state = MetricState(
        np.array([_start(density, rng) for rng in rngs]),
        np.full(len(rngs), 0.1 if others is None else np.median(others.step_sizes)),
        np.eye(density.dimension) if others is None else others.factor,
        np.zeros(len(rngs)),
        np.empty(0, dtype=np.uint64),
        np.zeros(len(rngs)),
        0.0,
        0.0,
    )
    spent = 0
    sampled = _sampled(density, rngs[0])
    last = len(windows) - 1
    for window, steps in enumerate(windows):
        target = density if last - window < _FULL_WINDOWS else sampled
        stretches = advance(
            target, state, rngs, steps=steps, max_tree_depth=max_tree_depth, adapt=True
        )
        spent += sum(one.gradients for one in stretches)
        kept = not_lagging(np.array([one.values[steps // 2 :].mean() for one in stretches]))
        state = replace(
            moved(state, stretches, kept, rngs[0]),
            step_sizes=levelled(np.array([one.step_size for one in stretches]), kept),
        )
        if others is None and 0 < window < last:
            samples = [one.positions for one, good in zip(stretches, kept, strict=True) if good]
            learned = _mass_factor(samples)
            state = replace(state, factor=learned, step_sizes=np.full(len(rngs), 0.3))
    return state, spent


def renewed(
    density: SaasDensity,
    state: MetricState,
    chosen: Mask,
    rngs: Sequence[np.random.Generator],
    *,
    max_tree_depth: int,
) -> tuple[MetricState, int]:
    """Returns the state with the chosen chains started anew, and the gradients that took."""
    if not chosen.any():
        return state, 0
    some, spent = cold_start(
        density,
        [rng for rng, one in zip(rngs, chosen, strict=True) if one],
        windows=_RENEWAL,
        max_tree_depth=max_tree_depth,
        others=state,
    )
    positions, step_sizes = state.positions.copy(), state.step_sizes.copy()
    positions[chosen], step_sizes[chosen] = some.positions, some.step_sizes
    return replace(state, positions=positions, step_sizes=step_sizes), spent


def _sampled(density: SaasDensity, rng: np.random.Generator) -> SaasDensity:
    """Returns the density of a sample of the rows where they are many."""
    total, noise = len(density.targets), density.noise
    if total < LARGE:
        return density
    rows = np.sort(rng.permutation(total)[:_SAMPLE_ROWS])
    known = None if noise is None else noise[rows]
    return SaasDensity(density.inputs[rows], density.targets[rows], known)


def _start(density: SaasDensity, rng: np.random.Generator) -> Array:
    for _ in range(100):
        position = rng.uniform(-_DISPERSION, _DISPERSION, density.dimension)
        if np.isfinite(density(position)[0]):
            return position
    raise FitError("expected a finite density at one of 100 dispersed starts, got none")


def advance(
    density: SaasDensity,
    state: MetricState,
    rngs: Sequence[np.random.Generator],
    *,
    steps: int,
    max_tree_depth: int,
    adapt: bool = False,
) -> list[Stretch]:
    # A trajectory that leaves for far away overflows there, which ends it.
    with np.errstate(over="ignore", invalid="ignore"):
        return [
            run_chain(
                density,
                position,
                state.factor,
                float(step_size),
                steps=steps,
                max_tree_depth=max_tree_depth,
                target=_TARGET if adapt else None,
                rng=rng,
            )
            for position, step_size, rng in zip(
                state.positions, state.step_sizes, rngs, strict=True
            )
        ]


def not_lagging(values: Array) -> Mask:
    """Returns which chains' mean log densities are near the best one's, if any is finite."""
    finite = np.where(np.isfinite(values), values, -np.inf)
    if not np.isfinite(finite).any():
        raise FitError("expected a finite log density in some chain, got none")
    return np.asarray(finite >= finite.max() - _LAG)


def moved(
    state: MetricState,
    stretches: Sequence[Stretch],
    kept: Mask,
    rng: np.random.Generator,
) -> MetricState:
    """Returns the chains where they ended; those left out continue where a kept one was."""
    good = [one.positions for one, keep in zip(stretches, kept, strict=True) if keep]
    pool = np.concatenate([positions[len(positions) // 2 :] for positions in good])
    ends = [
        one.positions[-1] if keep else pool[rng.integers(len(pool))]
        for one, keep in zip(stretches, kept, strict=True)
    ]
    return replace(state, positions=np.array(ends))


def levelled(step_sizes: Array, kept: Mask) -> Array:
    """Returns the step sizes, those of chains left out made the others' median."""
    return np.where(kept, step_sizes, np.median(step_sizes[kept]))


def nudge(acceptance: Array) -> Array:
    """Returns factors for the step sizes: posteriors tighten as observations come in."""
    return np.asarray(np.exp(acceptance - _WARM_TARGET))


def _mass_factor(samples: Sequence[Array]) -> Array:
    """Returns the factor of the covariance within chains, shrunk as Stan shrinks it."""
    covariance, count = _covariance(samples)
    shrunk = covariance * (count / (count + 5.0))
    shrunk[np.diag_indices_from(shrunk)] += 1e-3 * 5.0 / (count + 5.0)
    return _factor(shrunk)


def refreshed(factor: Array, samples: Sequence[Array]) -> Array:
    """Returns the mass factor with a warm fit's samples worked in, for the next fit.

    Within a fit it is frozen: a few samples alone make a bad mass matrix.
    """
    covariance, count = _covariance(samples)
    share = count / (count + _MASS_MEMORY)
    return _factor((1.0 - share) * (factor @ factor.T) + share * covariance)


def _covariance(samples: Sequence[Array]) -> tuple[Array, int]:
    """Returns the covariance within chains, pooled, and the number of samples."""
    centred = np.concatenate([one - one.mean(axis=0) for one in samples])
    return centred.T @ centred / max(len(centred) - len(samples), 1), len(centred)


def _factor(covariance: Array) -> Array:
    # What a store keeps in single precision must not differ from what this process goes on with.
    return np.linalg.cholesky(covariance).astype(np.float32).astype(np.float64)

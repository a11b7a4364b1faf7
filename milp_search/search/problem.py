"""What finished trials ask of the surrogate and the acquisition: maximised, on unit scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from milp_search.core.errors import SpecError
from milp_search.core.trial import Objective
from milp_search.search.constraints import OutcomeConstraint
from milp_search.search.domain import Candidate, Domain
from milp_search.search.observations import Observations
from milp_search.search.orientation import Array, signs
from milp_search.search.outcomes import OUTCOME_TRANSFORMS, OutcomeScale
from milp_search.search.presets import EngineSettings
from milp_search.search.reference import with_reference


@dataclass(frozen=True)
class ExactBound:
    """A bound on a closed-form metric: `sign` times it is at least `least`.

    Attributes:
        place: The metric's place among the domain's closed forms.
        sign: +1 or -1.
        least: The least value allowed.
    """

    place: int
    sign: float
    least: float

    def excess(self, candidates: Sequence[Candidate]) -> Array:
        """Returns by how much candidates break the bound, relative to its size, shape `N`."""
        values = self.sign * np.array([candidate.exact[self.place] for candidate in candidates])
        return np.maximum(self.least - values, 0.0) / (abs(self.least) or 1.0)


@dataclass(frozen=True)
class Problem:
    """Observations as the surrogate and the acquisition want them.

    Objectives that are measured come first, closed-form ones after them.

    Attributes:
        domain: The space.
        measured: The number of measured objectives.
        outcomes: The modelled metrics: measured objectives, then measured metrics that are only
            constrained; shape `n x (measured + c)`.
        noise: The noise variances of each, shape `n`, or None.
        reference: The reference point, shape `m`.
        bounds: The least values of the constrained metrics, shape `c`.
        exact_scales: For each closed-form objective its place among the domain's closed forms,
            its sign and its map to unit scale.
        exact_bounds: The constraints on closed forms.
    """

    domain: Domain
    measured: int
    outcomes: Array
    noise: tuple[Array | None, ...]
    reference: Array
    bounds: Array
    exact_scales: tuple[tuple[int, float, OutcomeScale], ...]
    exact_bounds: tuple[ExactBound, ...]

    def features(self, candidates: Sequence[Candidate]) -> Array:
        """Returns what the surrogate sees, shape `n x d`."""
        return self.domain.inputs(candidates)

    def exact(self, candidates: Sequence[Candidate]) -> Array:
        """Returns the closed-form objectives, shape `n x e`."""
        columns = [
            scale(sign * np.array([candidate.exact[place] for candidate in candidates]))
            for place, sign, scale in self.exact_scales
        ]
        return np.array(columns).reshape(len(columns), len(candidates)).T

    def excess(self, candidates: Sequence[Candidate]) -> Array:
        """Returns by how much candidates break bounds on closed forms, shape `n`; 0 for none."""
        total = np.zeros(len(candidates))
        for bound in self.exact_bounds:
            total += bound.excess(candidates)
        return total


def watched(
    objectives: Sequence[Objective], constraints: Sequence[OutcomeConstraint], domain: Domain
) -> list[Objective]:
    """Returns the objectives, and after them the measured metrics that are only constrained."""
    names = {one.metric for one in objectives} | set(domain.exact)
    return [*objectives, *(one.objective for one in constraints if one.metric not in names)]


def pose(
    domain: Domain,
    observed: Observations,
    objectives: Sequence[Objective],
    settings: EngineSettings,
    constraints: Sequence[OutcomeConstraint] = (),
) -> Problem:
    """Returns the problem that observations and objectives pose.

    A missing reference is inferred from the first completed trials, as many as the initial design
    has, so that it stays once they are there. A constraint on an objective becomes its reference:
    what breaks it gains nothing.

    Args:
        domain: The space.
        observed: The values of `watched` metrics.
        objectives: At least one of them measured.
        settings: The outcome transform and the size of the initial design.
        constraints: Bounds on objectives, closed forms and other measured metrics.

    Returns:
        The problem.
    """
    count = len(objectives)
    initial = observed.values[: max(2, settings.initial_trials), :count]
    complete = _tightened(with_reference(initial, objectives), constraints)
    metrics = watched(complete, constraints, domain)
    flips = signs(metrics)
    scales = [
        OUTCOME_TRANSFORMS[settings.outcome_transform](flip * column)
        for flip, column in zip(flips, observed.values.T, strict=True)
    ]
    limits = [
        float(scale(np.array(flip * one.reference)))
        for one, flip, scale in zip(metrics, flips, scales, strict=True)
    ]
    places = {metric: place for place, metric in enumerate(domain.exact)}
    modelled = [row for row, one in enumerate(metrics) if one.metric not in places]
    exact = [row for row, one in enumerate(metrics) if one.metric in places]
    measured = count - len(exact)
    named = {one.metric for one in objectives}
    return Problem(
        domain,
        measured,
        np.column_stack([scales[row](flips[row] * observed.values[:, row]) for row in modelled]),
        tuple(_scaled_noise(scales[row], observed.noise[row]) for row in modelled),
        np.array([limits[row] for row in [*modelled[:measured], *exact]]),
        np.array([limits[row] for row in modelled[measured:]]),
        tuple((places[metrics[row].metric], float(flips[row]), scales[row]) for row in exact),
        tuple(
            _exact_bound(places[one.metric], one)
            for one in constraints
            if one.metric in places and one.metric not in named
        ),
    )


def _tightened(
    objectives: Sequence[Objective], constraints: Sequence[OutcomeConstraint]
) -> list[Objective]:
    tightened = {one.metric: one for one in objectives}
    for constraint in constraints:
        if constraint.metric not in tightened:
            continue
        objective, bound = tightened[constraint.metric], constraint.objective
        if bound.direction != objective.direction:
            raise SpecError(
                f"expected a constraint that {objective.metric!r} keeps by getting better, got "
                f"{constraint.relation} {constraint.bound} with direction {objective.direction}",
                remedy="turn the relation, or leave the metric out of the objectives",
            )
        assert objective.reference is not None  # inferred before
        worse = min if objective.direction == "minimize" else max
        reference = worse(objective.reference, constraint.bound)
        tightened[constraint.metric] = replace(objective, reference=reference)
    return [*tightened.values()]


def _exact_bound(place: int, constraint: OutcomeConstraint) -> ExactBound:
    sign = float(signs([constraint.objective])[0])
    return ExactBound(place, sign, sign * constraint.bound)


def _scaled_noise(scale: OutcomeScale, noise: Array | None) -> Array | None:
    return None if noise is None or scale.noise_factor is None else noise * scale.noise_factor

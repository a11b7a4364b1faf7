"""The finite space that is searched, with what each of its arms builds."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import final

import numpy as np

from milp_search.core.arm import Arm
from milp_search.core.plan import TrialPlan
from milp_search.search.features import features_by
from milp_search.search.orientation import Array
from milp_search.search.presets import Inputs
from milp_search.space.parameter import Parameter

# A position of each parameter's value in its list.
Point = tuple[int, ...]

_STEPS = tuple(2**power for power in range(32))
# ours: candidates kept, some 5 kB each; a search looks at fewer.
_KEPT = 16_384
# ours: enough arms to meet the rare extremes of a feature to within a few percent.
_RANGE_SAMPLE = 1024


@dataclass(frozen=True, eq=False)
class Candidate:
    """An arm with the network it builds.

    Attributes:
        arm: The values of the searched parameters.
        plan: What is built: equal plans are one candidate.
        features: What the surrogate sees, not normalised, shape `d`.
        exact: The closed-form metrics, in natural units, shape `e`.
    """

    arm: Arm
    plan: TrialPlan
    features: Array
    exact: Array

    @cached_property
    def fingerprint(self) -> str:
        """The plan's fingerprint, made when first asked for: a search looks at thousands."""
        return self.plan.fingerprint()


@final
class Domain:
    """A space's points, their neighbours and what they build; candidates are kept for a while."""

    def __init__(
        self,
        parameters: Sequence[Parameter],
        realise: Callable[[Arm], TrialPlan],
        exact: Mapping[str, Callable[[Arm], float]],
        inputs: Inputs = "realised",
    ):
        self._parameters = tuple(parameters)
        self._features = features_by(inputs, self._parameters)
        self._realise, self.exact = realise, dict(exact)
        self._made: dict[Arm, Candidate] = {}
        self._placed: dict[Point, Candidate] = {}

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """The number of values of each parameter."""
        return tuple(len(parameter.values) for parameter in self._parameters)

    @property
    def size(self) -> int:
        """The number of arms."""
        return math.prod(self.sizes)

    def candidate(self, point: Point) -> Candidate:
        """Returns what the point builds."""
        if point not in self._placed:
            values = {
                parameter.name: parameter.values[position]
                for parameter, position in zip(self._parameters, point, strict=True)
            }
            self._placed[point] = self.describe(Arm(values))
        return self._placed[point]

    def describe(self, arm: Arm) -> Candidate:
        """Returns what the arm builds."""
        if arm not in self._made:
            if len(self._made) >= _KEPT:
                self._made.clear()
                self._placed.clear()
            plan = self._realise(arm)
            exact = np.array([float(formula(arm)) for formula in self.exact.values()])
            self._made[arm] = Candidate(arm, plan, self._features(arm, plan), exact)
        return self._made[arm]

    def point(self, arm: Arm) -> Point | None:
        """Returns where the arm lies, or None where it is not of this space."""
        try:
            return tuple(
                parameter.values.index(arm[parameter.name]) for parameter in self._parameters
            )
        except (KeyError, ValueError):
            return None

    def neighbours(self, point: Point) -> Iterator[Point]:
        """Yields every point that differs in exactly one parameter."""
        for axis, size in enumerate(self.sizes):
            for position in range(size):
                if position != point[axis]:
                    yield (*point[:axis], position, *point[axis + 1 :])

    def steps(self, point: Point) -> Iterator[Point]:
        """Yields the neighbours by steps of 1, 2, 4, ... values either way along one parameter.

        Short lists are thereby tried nearly in full, and long ones cost only their logarithm.
        """
        for axis, size in enumerate(self.sizes):
            for length in _STEPS[: (size - 1).bit_length()]:
                for position in (point[axis] - length, point[axis] + length):
                    if 0 <= position < size:
                        yield (*point[:axis], position, *point[axis + 1 :])

    def points(self) -> Iterator[Point]:
        """Yields every point of the space."""
        return itertools.product(*(range(size) for size in self.sizes))

    def inputs(self, candidates: Sequence[Candidate]) -> Array:
        """Returns the surrogate's inputs, shape `n x d`, normalised to about [0, 1].

        Features that never vary are left out. The ranges come from a fixed sample of the space,
        so that inputs do not change while a study grows; a rare extreme may lie a little outside.
        """
        low, span, varies = self._ranges
        features = np.array([candidate.features for candidate in candidates])
        return np.asarray(((features - low) / span)[:, varies])

    @cached_property
    def _ranges(self) -> tuple[Array, Array, np.ndarray[tuple[int], np.dtype[np.bool_]]]:
        sample = np.array([candidate.features for candidate in self._sample()])
        low, span = sample.min(axis=0), np.ptp(sample, axis=0)
        varies = span > 0
        if not varies.any():
            # A single plan still needs one input; it is constant.
            varies = np.arange(len(span)) == 0
        return low, np.where(span > 0, span, 1.0), varies

    def _sample(self) -> list[Candidate]:
        rng = np.random.default_rng(0)
        corners = [tuple(0 for _ in self.sizes), tuple(size - 1 for size in self.sizes)]
        drawn = rng.integers(0, self.sizes, size=(_RANGE_SAMPLE, len(self.sizes)))
        return [self.candidate(point) for point in [*corners, *map(tuple, drawn.tolist())]]

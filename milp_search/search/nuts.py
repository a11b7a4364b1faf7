"""The No-U-Turn sampler for densities of some tens of dimensions, in plain NumPy."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import numpy as np

from milp_search.search.orientation import Array

LogDensity = Callable[[Array], tuple[float, Array]]

# As NumPyro and Stan: a leap that loses so much energy has left the trajectory.
_DIVERGENCE = 1000.0


@dataclass(frozen=True, eq=False)
class Stretch:
    """What one chain went through.

    Attributes:
        positions: Where the chain was after each step, shape `s x D`.
        values: The log densities there, shape `s`.
        step_size: The step size: as given, or adapted.
        acceptance: The mean acceptance statistic.
        gradients: Density evaluations made.
    """

    positions: Array
    values: Array
    step_size: float
    acceptance: float
    gradients: int


def run_chain(
    density: LogDensity,
    position: Array,
    factor: Array,
    step_size: float,
    *,
    steps: int,
    max_tree_depth: int,
    target: float | None,
    rng: np.random.Generator,
) -> Stretch:
    """Returns a stretch of one chain.

    Args:
        density: Log density and gradient at a position.
        position: Where the chain starts, shape `D`.
        factor: C with C C' the inverse mass matrix, shape `D x D`.
        step_size: Of the leapfrog integrator, in units of the mass matrix.
        steps: How many transitions.
        max_tree_depth: A trajectory is doubled at most so often.
        target: The acceptance that the step size is adapted to; None freezes it.
        rng: Where randomness comes from.

    Returns:
        The stretch.

    Source: Hoffman and Gelman, "The No-U-Turn sampler", 2014, section 3.2 for the step size;
    Betancourt, "A conceptual introduction to Hamiltonian Monte Carlo", 2017, appendix A, for
    multinomial sampling and the criterion.
    """
    # Coordinates v with position = C v have unit mass.
    leapfrog = _Leapfrog(density, factor)
    leaf = leapfrog.start(np.asarray(np.linalg.solve(factor, position), dtype=np.float64))
    averaging = _DualAveraging(step_size, target or 0.8)
    positions, values = np.empty((steps, len(position))), np.empty(steps)
    acceptance = 0.0
    for step in range(steps):
        size = step_size if target is None else averaging.step_size
        leaf, accepted = _transition(leapfrog, leaf, size, max_tree_depth, rng)
        averaging.update(accepted)
        positions[step], values[step] = factor @ leaf.position, leaf.value
        acceptance += accepted / steps
    adapted = step_size if target is None or steps == 0 else averaging.averaged
    return Stretch(positions, values, adapted, acceptance, leapfrog.gradients)


@dataclass(slots=True, eq=False)
class _Leaf:
    position: Array
    momentum: Array
    slope: Array
    value: float

    def energy(self) -> float:
        energy = 0.5 * float(self.momentum @ self.momentum) - self.value
        return energy if energy < math.inf else math.inf


@dataclass(slots=True, eq=False)
class _Tree:
    left: _Leaf
    right: _Leaf
    proposal: _Leaf
    log_weight: float
    momentum: Array
    accepted: float
    leaves: int
    stopped: bool


@final
class _Leapfrog:
    def __init__(self, density: LogDensity, factor: Array):
        self._density, self._factor = density, factor
        self._transposed = np.ascontiguousarray(factor.T)
        self.gradients = 0

    def start(self, position: Array) -> _Leaf:
        value, slope = self._evaluate(position)
        return _Leaf(position, np.zeros_like(position), slope, value)

    def step(self, leaf: _Leaf, size: float) -> _Leaf:
        momentum = leaf.momentum + 0.5 * size * leaf.slope
        position = leaf.position + size * momentum
        value, slope = self._evaluate(position)
        momentum += 0.5 * size * slope
        return _Leaf(position, momentum, slope, value)

    def _evaluate(self, position: Array) -> tuple[float, Array]:
        self.gradients += 1
        value, gradient = self._density(self._factor @ position)
        return value, self._transposed @ gradient


def _transition(
    leapfrog: _Leapfrog, leaf: _Leaf, size: float, max_depth: int, rng: np.random.Generator
) -> tuple[_Leaf, float]:
    """Returns the next leaf and the trajectory's mean acceptance."""
    start = _Leaf(leaf.position, rng.standard_normal(len(leaf.position)), leaf.slope, leaf.value)
    energy = start.energy()
    tree = _Tree(start, start, start, 0.0, start.momentum, 0.0, 0, False)
    for depth in range(max_depth):
        forward = rng.random() < 0.5
        edge = tree.right if forward else tree.left
        grown = _grow(leapfrog, edge, size if forward else -size, depth, energy, rng)
        if grown.stopped:
            tree.accepted += grown.accepted
            tree.leaves += grown.leaves
            break
        # Biased towards the new half, which is what carries the chain far.
        if math.log(1.0 - rng.random()) < grown.log_weight - tree.log_weight:
            tree.proposal = grown.proposal
        tree = _joined(tree, grown, tree.proposal, forward=forward)
        if tree.stopped:
            break
    return tree.proposal, tree.accepted / max(tree.leaves, 1)


def _grow(
    leapfrog: _Leapfrog,
    edge: _Leaf,
    size: float,
    depth: int,
    energy: float,
    rng: np.random.Generator,
) -> _Tree:
    """Returns the `2 ** depth` leaves beyond an edge, or as many as came before it stopped."""
    if depth == 0:
        leaf = leapfrog.step(edge, size)
        loss = leaf.energy() - energy
        accepted = math.exp(min(0.0, -loss))
        stopped = not loss < _DIVERGENCE
        return _Tree(leaf, leaf, leaf, -loss, leaf.momentum, accepted, 1, stopped)
    first = _grow(leapfrog, edge, size, depth - 1, energy, rng)
    if first.stopped:
        return first
    edge = first.right if size > 0 else first.left
    second = _grow(leapfrog, edge, size, depth - 1, energy, rng)
    second_share = second.log_weight - _log_sum(first.log_weight, second.log_weight)
    chosen = second if math.log(1.0 - rng.random()) < second_share else first
    joined = _joined(first, second, chosen.proposal, forward=size > 0)
    joined.stopped = joined.stopped or second.stopped
    return joined


def _joined(first: _Tree, second: _Tree, proposal: _Leaf, *, forward: bool) -> _Tree:
    left, right = (first.left, second.right) if forward else (second.left, first.right)
    momentum = first.momentum + second.momentum
    inner = momentum - 0.5 * (left.momentum + right.momentum)
    turned = left.momentum @ inner <= 0 or right.momentum @ inner <= 0
    return _Tree(
        left,
        right,
        proposal,
        _log_sum(first.log_weight, second.log_weight),
        momentum,
        first.accepted + second.accepted,
        first.leaves + second.leaves,
        bool(turned),
    )


def _log_sum(one: float, other: float) -> float:
    low, high = (one, other) if one < other else (other, one)
    return high if low == -math.inf else high + math.log1p(math.exp(low - high))


@final
class _DualAveraging:
    """Hoffman and Gelman, 2014, Eq. 6, with the paper's constants."""

    def __init__(self, step_size: float, target: float):
        self._centre, self._target = math.log(10.0 * step_size), target
        self._steps, self._error, self._log, self._average = 0, 0.0, math.log(step_size), 0.0

    @property
    def step_size(self) -> float:
        return math.exp(self._log)

    @property
    def averaged(self) -> float:
        return math.exp(self._average)

    def update(self, accepted: float) -> None:
        self._steps += 1
        t = self._steps
        self._error += (self._target - accepted - self._error) / (t + 10.0)
        self._log = self._centre - math.sqrt(t) / 0.05 * self._error
        share = t**-0.75
        self._average = share * self._log + (1.0 - share) * self._average

"""Analytic problems of our shape: 37 mixed parameters, a noisy loss and the size of the adapters.

The space is the shipped `milp_logo` for a base model of 32 layers: LoRA count n, rank r, a bit for
each layer, T, k and c. Each family states what the loss depends on; which layers, settings and
weights matter is drawn anew for every instance. The number of trainable parameters is that of
LoRA on the three feed-forward maps of a 7B LLaMA. They were written before any method ran on them;
what ours has learned from them since stands in the README of the benchmarks.

- `sparse`: four of the layers matter, the more the larger their rank, and one value of k and of T.
- `dense`: all layers matter, around a preferred depth; the gain saturates and very large adapters
  overfit; c has a smooth optimum.
- `count`: only the number of active layers and the total rank matter, wherever they are, and one
  value each of T, k and c; too much rank overfits, the more the larger T is.
- `interacting`: five pairs of layers help only where both carry LoRA, a layer alone does harm; k
  helps with few communities and harms with many.
- `infeasible`: as `dense`, but trials that need too much memory fail: large adapters, adapters
  that begin low, and long prompts each take their share. About four in ten random arms fail.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cache, cached_property

import numpy as np
from method import Outcome, Task
from problem import BUDGET, INITIAL

from milp_search.core.arm import Arm
from milp_search.core.plan import TrialPlan
from milp_search.core.trial import Measurement, Objective
from milp_search.space.search_space import SearchSpace
from milp_search.space.space_file import load_search_space

LAYERS = 32
NOISE = 0.015
PARAMS_PER_RANK = 3 * (4096 + 11008)
OBJECTIVES = (
    Objective("loss", "minimize", 3.05),
    Objective("trainable_params", "minimize", 768.0 * PARAMS_PER_RANK),
)
MEMORY = 0.7

Gain = Callable[[TrialPlan], float]


@cache
def space() -> SearchSpace:
    """Returns the space of all families."""
    return load_search_space("milp_logo", layers=LAYERS)


class Family:
    """One instance of a family; `problem.Problem` says what its methods mean."""

    def __init__(self, name: str, instance: int):
        rng = np.random.default_rng([[*FAMILIES].index(name), instance])
        self._limited = name == "infeasible"
        self.task = Task(space().parameters, OBJECTIVES, INITIAL, BUDGET, self._limited)
        self.exact: Mapping[str, Callable[[Arm], float]] = {"trainable_params": self._params}
        self._gain = FAMILIES[name](rng)
        self._plans: dict[Arm, TrialPlan] = {}

    def plan(self, arm: Arm) -> TrialPlan:
        """Returns what the arm builds."""
        if arm not in self._plans:
            self._plans[arm] = space().plan(arm)
        return self._plans[arm]

    def measure(self, arm: Arm, rng: np.random.Generator) -> Outcome:
        """Returns a noisy loss and the exact size, None where memory runs out."""
        values = self.truth(arm)
        if values is None:
            return None
        loss = Measurement(values[0] + NOISE * float(rng.standard_normal()), NOISE)
        return {"loss": loss, "trainable_params": Measurement(values[1], 0.0)}

    def truth(self, arm: Arm) -> tuple[float, float] | None:
        """Returns loss and size."""
        plan = self.plan(arm)
        if self._limited and memory(plan) > MEMORY:
            return None
        return 3.0 - self._gain(plan), self._params(arm)

    @cached_property
    def _front(self) -> np.ndarray:
        from best_known import best_known

        return best_known(self)

    def best_front(self) -> np.ndarray:
        """Returns the front of a long search without noise."""
        return self._front

    def _params(self, arm: Arm) -> float:
        return float(PARAMS_PER_RANK * self.plan(arm).adapter.total_rank)


@cache
def strength(rank: int) -> float:
    """Returns what a layer's rank is worth, from 0 to 1: half at rank 17."""
    return 1.0 - math.exp(-rank / 24.0)


def memory(plan: TrialPlan) -> float:
    """Returns the memory of a trial, in units of the device."""
    first = next(iter(plan.adapter.active_layers), LAYERS)
    return (
        0.6 * plan.adapter.total_rank / 1536.0
        + 0.35 * (LAYERS - first) / LAYERS
        + 0.25 * plan.retrieved_items / 4.0
    )


def _sparse(rng: np.random.Generator) -> Gain:
    layers = rng.choice(LAYERS, 4, replace=False).tolist()
    weights = rng.uniform(0.12, 0.28, 4).tolist()
    items, splits = rng.choice([1, 2, 4]), rng.choice([1, 5, 10])

    def gain(plan: TrialPlan) -> float:
        ranks = plan.adapter.ranks
        found = sum(w * strength(ranks[one]) for w, one in zip(weights, layers, strict=True))
        return float(
            found + 0.12 * (plan.retrieved_items == items) + 0.06 * (plan.time_splits == splits)
        )

    return gain


def _dense(rng: np.random.Generator) -> Gain:
    centre, width = rng.uniform(0, LAYERS - 1), rng.uniform(4.0, 9.0)
    weights = np.exp(-0.5 * ((np.arange(LAYERS) - centre) / width) ** 2)
    weights /= weights.sum()
    best = math.log(rng.uniform(1.0, 20.0))

    def gain(plan: TrialPlan) -> float:
        spread = float(weights @ [strength(rank) for rank in plan.adapter.ranks])
        communities = math.log(max(plan.communities, 1))
        return (
            0.8 * (1.0 - math.exp(-3.0 * spread))
            - 0.25 * (plan.adapter.total_rank / 1536.0) ** 2
            - 0.03 * (communities - best) ** 2
            + 0.05 * math.log2(plan.retrieved_items)
        )

    return gain


def _count(rng: np.random.Generator) -> Gain:
    wide, rich = rng.uniform(3.0, 9.0), rng.uniform(80.0, 240.0)
    limit = rng.uniform(300.0, 700.0)
    splits, items, communities = (
        rng.choice(one) for one in ([1, 5, 10], [1, 2, 4], [1, 5, 10, 20])
    )

    def gain(plan: TrialPlan) -> float:
        active, total = len(plan.adapter.active_layers), plan.adapter.total_rank
        over = max(0.0, total - limit) / 1000.0
        return (
            0.5 * (1.0 - math.exp(-active / wide))
            + 0.3 * (1.0 - math.exp(-total / rich))
            - 0.1 * over * (1.0 + plan.time_splits / 5.0)
            + 0.1 * (plan.time_splits == splits)
            + 0.1 * (plan.retrieved_items == items)
            + 0.1 * (plan.communities == communities)
        )

    return gain


def _interacting(rng: np.random.Generator) -> Gain:
    pairs = rng.permutation(LAYERS)[:10].reshape(5, 2).tolist()
    weights = rng.uniform(0.12, 0.28, 5).tolist()

    def gain(plan: TrialPlan) -> float:
        total = 0.0
        for (one, other), weight in zip(pairs, weights, strict=True):
            a, b = strength(plan.adapter.ranks[one]), strength(plan.adapter.ranks[other])
            total += weight * a * b - 0.06 * abs(a - b)
        crowded = 1.0 if plan.communities >= 10 else -1.0
        return total - 0.05 * crowded * math.log2(plan.retrieved_items)

    return gain


FAMILIES: dict[str, Callable[[np.random.Generator], Gain]] = {
    "sparse": _sparse,
    "dense": _dense,
    "count": _count,
    "interacting": _interacting,
    "infeasible": _dense,
}

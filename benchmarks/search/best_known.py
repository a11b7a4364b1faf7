"""The front of a long search without noise, by which hypervolumes are divided."""

from __future__ import annotations

import random

import numpy as np
from problem import Problem

from milp_search.core.arm import Arm

# Prices of the last objective over its reference, dear to cheap, and descents for each.
_PRICES = tuple(np.geomspace(8.0, 0.02, 16).tolist())
_STARTS = 3
# Rounds in which every arm of the front is changed in one to three parameters.
_ROUNDS, _CHILDREN = 60, 400

Values = tuple[float, ...]


def best_known(problem: Problem) -> np.ndarray:
    """Returns the front of all arms that a long search looked at, shape `n x 2`.

    First local searches, one parameter at a time, for prices of size against loss; then random
    changes and crossings of the arms of the front.
    """
    search = _Search(problem)
    dice = random.Random(0)
    arm = search.random(dice)
    for price in _PRICES:
        starts = [arm, *(search.random(dice) for _ in range(_STARTS - 1))]
        arm = min(
            (search.descended(one, price, dice) for one in starts),
            key=lambda one: search.cost(one, price),
        )
    for _ in range(_ROUNDS):
        front = search.front()
        for _ in range(_CHILDREN):
            search.look(search.child(dice.choice(front), dice.choice(front), dice))
    return np.array(sorted({search.seen[one] for one in search.front()}))


class _Search:
    """What was looked at, and the moves."""

    def __init__(self, problem: Problem):
        self.problem = problem
        self.seen: dict[Arm, Values] = {}
        self.fresh: list[Arm] = []
        self.loss, self.size = (one.reference or 1.0 for one in problem.task.objectives)

    def look(self, arm: Arm) -> Values:
        if arm not in self.seen:
            self.seen[arm] = self.problem.truth(arm) or (float("inf"), float("inf"))
            self.fresh.append(arm)
        return self.seen[arm]

    def cost(self, arm: Arm, price: float) -> float:
        loss, size = self.look(arm)
        return loss / self.loss + price * size / self.size

    def descended(self, arm: Arm, price: float, dice: random.Random) -> Arm:
        best, better = self.cost(arm, price), True
        while better:
            better = False
            around = [
                (one.name, value) for one in self.problem.task.parameters for value in one.values
            ]
            dice.shuffle(around)
            for name, value in around:
                other = Arm({**arm, name: value})
                if self.cost(other, price) < best:
                    arm, best, better = other, self.cost(other, price), True
        return arm

    def child(self, one: Arm, other: Arm, dice: random.Random) -> Arm:
        values = dict(one)
        if dice.random() < 0.3:
            values |= {name: value for name, value in other.items() if dice.random() < 0.5}
        for parameter in dice.sample(self.problem.task.parameters, dice.randint(1, 3)):
            values[parameter.name] = dice.choice(parameter.values)
        return Arm(values)

    def front(self) -> list[Arm]:
        """Returns the arms that none dominates; beside the last front only fresh ones count."""
        found, least = [], float("inf")
        for arm in sorted(self.fresh, key=lambda one: self.seen[one]):
            if self.seen[arm][1] < least:
                found.append(arm)
                least = self.seen[arm][1]
        self.fresh = [*found]
        return found

    def random(self, dice: random.Random) -> Arm:
        return Arm({one.name: dice.choice(one.values) for one in self.problem.task.parameters})

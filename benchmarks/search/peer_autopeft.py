"""BoTorch's SAAS and qLogNEHVI, run as AutoPEFT runs its search.

Every objective, the number of parameters among them, has a SAAS model of its own, fitted by NUTS
(128 warm-up steps, 64 samples, every fourth kept) to the copula-transformed outcomes; the raw
values are its inputs. Batches of four are chosen greedily by local searches: ten of them, about
2,000 evaluations, each step to the best of as many random neighbours as there are parameters.
The initial design is random. Failed trials are left out, and their arms are not proposed again.
Every objective needs a reference.
"""

from __future__ import annotations

from typing import final

import numpy as np
import torch
from botorch.acquisition.multi_objective import qLogNoisyExpectedHypervolumeImprovement
from botorch.acquisition.multi_objective.utils import prune_inferior_points_multi_objective
from botorch.fit import fit_fully_bayesian_model_nuts
from botorch.models import ModelListGP
from botorch.models.fully_bayesian import SaasFullyBayesianSingleTaskGP
from botorch.posteriors.fully_bayesian import MCMC_DIM
from botorch.sampling import SobolQMCNormalSampler
from botorch.utils.multi_objective import is_non_dominated
from botorch.utils.sampling import manual_seed
from method import Method, Outcome, Task
from numpy.typing import NDArray
from peer_levels import Levels
from torch import Tensor

from milp_search.core.arm import Arm
from milp_search.search.orientation import maximised_reference, signs
from milp_search.search.outcomes import normal_copula

BATCH = 4
WARMUP, SAMPLES, THINNING = 128, 64, 4
EVALUATIONS, RESTARTS, DRAWS = 2000, 10, 128
# Candidates in one call; bounds memory.
_CHUNK = 64

Point = tuple[int, ...]
Array = NDArray[np.float64]
Points = NDArray[np.int64]


def autopeft(task: Task, seed: int) -> Method:
    """Returns AutoPEFT's search."""
    torch.set_num_threads(1)
    return _AutoPeft(task, seed)


@final
class _AutoPeft:
    def __init__(self, task: Task, seed: int):
        self._task, self._levels = task, Levels(task.parameters)
        self._sizes = np.array(self._levels.sizes)
        self._rng = np.random.default_rng(seed)
        self._signs = signs(task.objectives)
        self._asked: dict[Arm, Point] = {}
        self._points: list[Point] = []
        self._values: list[Array] = []

    def ask(self, count: int) -> list[Arm]:
        left = self._task.initial - len(self._asked)
        if left > 0 or len({*map(tuple, self._values)}) < 2:
            points = self._random(min(count, left) if left > 0 else count)
        else:
            points = self._proposed(min(count, BATCH))
        arms = {self._levels.arm(point): point for point in points}
        self._asked |= arms
        return list(arms)

    def tell(self, arm: Arm, outcome: Outcome) -> None:
        if outcome is not None:
            values = [outcome[one.metric].mean for one in self._task.objectives]
            self._points.append(self._asked[arm])
            self._values.append(self._signs * values)

    def _random(self, count: int) -> list[Point]:
        found: dict[Point, None] = {}
        while len(found) < count:
            point: Point = tuple(self._rng.integers(0, self._sizes).tolist())
            if point not in self._asked.values():
                found[point] = None
        return [*found]

    def _proposed(self, count: int) -> list[Point]:
        values = np.array(self._values)
        mask = is_non_dominated(torch.from_numpy(values)).tolist()
        front = np.array([point for point, best in zip(self._points, mask, strict=True) if best])
        acquisition = self._acquisition(values, int(self._rng.integers(2**31)))
        found: list[Point] = []
        for _ in range(count):
            if found:
                acquisition.set_X_pending(self._inputs(np.array(found)))
            found.append(self._searched(acquisition, front, {*self._asked.values(), *found}))
        return found

    def _inputs(self, points: Points) -> Tensor:
        return torch.from_numpy(points / (self._sizes - 1.0))

    def _acquisition(self, values: Array, seed: int) -> qLogNoisyExpectedHypervolumeImprovement:
        inputs = self._inputs(np.array(self._points))
        scales = [normal_copula(column) for column in values.T]
        worst = maximised_reference(self._task.objectives)
        reference = torch.tensor(
            [float(scale(np.array([one]))[0]) for scale, one in zip(scales, worst, strict=True)],
            dtype=torch.double,
        )
        models = []
        for place, (scale, column) in enumerate(zip(scales, values.T, strict=True)):
            targets = torch.from_numpy(scale(column)).unsqueeze(-1)
            model = SaasFullyBayesianSingleTaskGP(inputs, targets)
            fit_fully_bayesian_model_nuts(
                model,
                warmup_steps=WARMUP,
                num_samples=SAMPLES,
                thinning=THINNING,
                disable_progbar=True,
                seed=seed + place,
            )
            models.append(model)
        together = ModelListGP(*models)
        with manual_seed(seed):
            kept = prune_inferior_points_multi_objective(
                model=together, X=inputs, ref_point=reference, marginalize_dim=MCMC_DIM
            )
            return qLogNoisyExpectedHypervolumeImprovement(
                together,
                reference,
                kept if len(kept) > 0 else inputs,
                sampler=SobolQMCNormalSampler(torch.Size([DRAWS]), seed=seed),
            )

    def _searched(
        self,
        acquisition: qLogNoisyExpectedHypervolumeImprovement,
        front: Points,
        avoid: set[Point],
    ) -> Point:
        """Returns the best point that local searches from neighbours of the front met."""
        dimension, rows = len(self._sizes), np.arange(RESTARTS)
        starts = front[self._rng.integers(len(front), size=RESTARTS)]
        points = self._neighbours(starts, 1)[:, 0]
        best = self._scores(acquisition, points, avoid)
        for _ in range(-(-EVALUATIONS // RESTARTS // dimension)):
            near = self._neighbours(points, dimension)
            values = self._scores(acquisition, near.reshape(-1, dimension), avoid)
            values = values.reshape(RESTARTS, dimension)
            pick = values.argmax(axis=1)
            better = values[rows, pick] > best
            points = np.where(better[:, None], near[rows, pick], points)
            best = np.where(better, values[rows, pick], best)
        if not np.isfinite(best).any():
            return self._random(1)[0]
        found: Point = tuple(points[best.argmax()].tolist())
        return found

    def _neighbours(self, points: Points, count: int) -> Points:
        """Returns random points that differ in one parameter, shape `n x count x d`."""
        near = np.repeat(points[:, None], count, axis=1)
        which = self._rng.integers(len(self._sizes), size=near.shape[:2])
        shift = self._rng.integers(1, self._sizes[which])
        here = np.take_along_axis(near, which[..., None], -1)[..., 0]
        there = (here + shift) % self._sizes[which]
        np.put_along_axis(near, which[..., None], there[..., None], -1)
        return near

    def _scores(
        self,
        acquisition: qLogNoisyExpectedHypervolumeImprovement,
        points: Points,
        avoid: set[Point],
    ) -> Array:
        values = np.full(len(points), -np.inf)
        fresh = [place for place, one in enumerate(map(tuple, points.tolist())) if one not in avoid]
        if fresh:
            batches = torch.split(self._inputs(points[fresh]).unsqueeze(1), _CHUNK)
            with torch.no_grad():
                values[fresh] = torch.cat([acquisition(batch) for batch in batches]).numpy()
        return values

"""How the choices of a search go with what was measured."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from itertools import accumulate

from milp_search.core.trial import Trial
from milp_search.study.outcome import completed
from milp_search.study.study import Study

# ours: below this a rank correlation says next to nothing.
MIN_TRIALS = 8

_MASK = "ffn_layer_"
_MASK_NAME = "FFN layers on"


def influence(study: Study) -> tuple[list[str], list[list[float | None]]]:
    """Returns the choices' names and, per choice and objective, Spearman's rank correlation.

    The layer mask counts as one choice, the number of layers that carry LoRA. None stands where
    a choice or an objective never varied; no row at all where fewer than `MIN_TRIALS` completed.
    """
    trials = completed(study.trials)
    if len(trials) < MIN_TRIALS:
        return [], []
    columns = _columns(study, trials)
    goals = [[t.measurements[goal.metric].mean for t in trials] for goal in study.objectives]
    table = [[spearman(values, goal) for goal in goals] for values in columns.values()]
    return list(columns), table


def active_layers(trial: Trial) -> int:
    """Returns how many layers carry LoRA, 0 where there is no plan."""
    return 0 if trial.plan is None else len(trial.plan.adapter.active_layers)


def spearman(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Returns the correlation of the ranks, ties sharing their mean; None if either is constant."""
    x, y = _ranks(a), _ranks(b)
    middle = (len(x) + 1) / 2
    cross = sum((i - middle) * (j - middle) for i, j in zip(x, y, strict=True))
    scale = math.sqrt(sum((i - middle) ** 2 for i in x) * sum((j - middle) ** 2 for j in y))
    return cross / scale if scale else None


def _columns(study: Study, trials: Sequence[Trial]) -> dict[str, list[float]]:
    """Returns each choice's values over the trials; choices that are no numbers are left out."""
    columns: dict[str, list[float]] = {}
    for axis in study.space.parameters:
        if axis.name.startswith(_MASK):
            columns.setdefault(_MASK_NAME, [float(active_layers(trial)) for trial in trials])
        elif not any(isinstance(value, str) for value in axis.values):
            columns[axis.name] = [float(trial.arm[axis.name]) for trial in trials]
    return columns


def _ranks(values: Sequence[float]) -> list[float]:
    counts = Counter(values)
    last = dict(zip(sorted(counts), accumulate(counts[one] for one in sorted(counts)), strict=True))
    return [last[value] - (counts[value] - 1) / 2 for value in values]

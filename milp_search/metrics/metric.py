"""A metric: its name, sense and needs, and the function that computes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from milp_search.core.records import Predictions, TaskKind
from milp_search.core.trial import Direction, Measurement


@dataclass(frozen=True)
class Metric:
    """A function of a trial's predictions.

    Attributes:
        name: The name in study files and reports.
        direction: Whether smaller or larger is better.
        needs_generation: Whether every prediction has to hold generated text.
        kinds: The kinds of task it applies to.
        compute: Predictions to value, standard error over users and the users' values.
        summary: What it is, in a few words.
        needs_topics: Whether generated texts have to carry their topic, in a task of texts.
        needs_retention: Whether `Predictions.retention` has to be filled.
        needs_weights: Whether the model has to tell likelihoods, which none behind an endpoint
            does.
        needs_judge: The kind of judge that has to have judged every prediction; empty for none.
        needs_endpoint: Whether tokens have to be counted, which only a server does.
    """

    name: str
    direction: Direction
    needs_generation: bool
    kinds: frozenset[TaskKind]
    compute: Callable[[Predictions], Measurement]
    summary: str
    needs_topics: bool = False
    needs_retention: bool = False
    needs_weights: bool = False
    needs_endpoint: bool = False
    needs_judge: str = ""

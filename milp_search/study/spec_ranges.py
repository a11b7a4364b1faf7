"""The ranges of a study file's numbers, which plain types cannot say."""

from __future__ import annotations

import math
from collections.abc import Callable
from operator import attrgetter

from milp_search.core.errors import Location, SpecError
from milp_search.study.spec import StudySpec

Place = Callable[..., Location]

_AT_LEAST = {
    "data.targets": 1,
    "data.others": 0,
    "data.min_interactions": 1,
    "data.max_history": 1,
    "data.max_queries": 1,
    "data.seed": 0,
    "training.learning_rate": 0,
    "training.weight_decay": 0,
    "training.batch_size": 1,
    "training.micro_batch": 1,
    "training.injection_epochs": 0,
    "training.tuning_epochs": 0,
    "training.global_steps": 0,
    "training.base_epochs": 0,
    "training.base_learning_rate": 0,
    "training.max_length": 1,
    "training.max_new_tokens": 1,
}

_SHARES = ("data.validation", "data.test", "training.warmup")


def check_ranges(spec: StudySpec, place: Place) -> None:
    """Refuses numbers out of their range.

    Args:
        spec: The study.
        place: Finds the steps to a key in the file.

    Raises:
        SpecError: The first such number.
    """
    for key, least in _AT_LEAST.items():
        value = attrgetter(key)(spec)
        if value is not None and not least <= value < math.inf:
            _refuse(place, key, f"at least {least}", value)
    for key in _SHARES:
        value = attrgetter(key)(spec)
        if not 0 <= value < 1:
            _refuse(place, key, "a share from 0 to below 1", value)
    if spec.data.validation + spec.data.test >= 1:
        shares = f"{spec.data.validation} + {spec.data.test}"
        _refuse(place, "data.test", "validation and test to leave something to train on", shares)
    for position, seed in enumerate(spec.test_seeds):
        if not 0 <= seed < 2**31 or seed in spec.test_seeds[:position]:
            _refuse(place, f"test_seeds.{position}", "a seed from 0 to below 2^31, each once", seed)


def _refuse(place: Place, key: str, expected: str, value: object) -> None:
    steps = [int(step) if step.isdigit() else step for step in key.split(".")]
    raise SpecError(
        f"{key}: expected {expected}, got {value}",
        at=place(*steps),
        remedy=f"correct `{key}`",
    )

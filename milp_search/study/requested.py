"""Checks what a study is asked to be."""

from __future__ import annotations

import json
import operator
from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypeVar

from milp_search.core.errors import InputError, SpecError
from milp_search.core.trial import Objective
from milp_search.search.constraints import OutcomeConstraint
from milp_search.space.suggestion import suggestion

# Known of every plan without a trial, where the base model's shape is.
CLOSED_FORMS = ("trainable_params",)

Text = TypeVar("Text")


def checked_objectives(objectives: Sequence[Objective]) -> tuple[Objective, ...]:
    """Returns the objectives.

    Args:
        objectives: The objectives as given.

    Returns:
        The same, at least one and each metric once.

    Raises:
        SpecError: There is none, or a metric stands twice.
    """
    names = [objective.metric for objective in objectives]
    if not names:
        raise SpecError("expected at least one objective, got none")
    for name in names:
        if names.count(name) > 1:
            raise SpecError(f"expected each objective once, got {name!r} {names.count(name)} times")
    return tuple(objectives)


def checked_whole(name: str, value: object, error: type[InputError] = SpecError) -> int:
    """Returns a number as a plain one.

    Args:
        name: What it is, for the message.
        value: The number as given.
        error: What is raised.

    Returns:
        The same number, whole and at least 0.

    Raises:
        InputError: It is another one, or none.
    """
    try:
        whole = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        whole = -1
    if whole < 0:
        raise error(f"expected {name} to be a whole number of at least 0, got {value!r}")
    return whole


def checked_settings(settings: Mapping[str, Any] | None) -> dict[str, Any]:
    """Returns a study's facts for its reader.

    Args:
        settings: The facts as given; None is none.

    Returns:
        The same.

    Raises:
        SpecError: They are no plain JSON values.
    """
    try:
        json.dumps(settings, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise SpecError(f"expected settings of plain JSON values, got: {error}") from None
    return dict(settings or {})


def checked_texts(name: str, values: Sequence[Text]) -> Sequence[Text]:
    """Returns a sequence, which one text is none of.

    Args:
        name: What it is, for the message.
        values: The sequence as given.

    Returns:
        The same.

    Raises:
        SpecError: It is a text.
    """
    if isinstance(values, str):
        raise SpecError(f"expected a list as {name}, got {values!r}", remedy=f"write [{values!r}]")
    return values


def checked_name(kind: str, name: str, known: Collection[str]) -> str:
    """Returns the name of a method, proposer or preset.

    Args:
        kind: What it names, for the message.
        name: The name as given.
        known: All such names.

    Returns:
        The same name.

    Raises:
        SpecError: There is no such name.
    """
    if name not in known:
        raise SpecError(f"expected a {kind} ({', '.join(known)}), got {name!r}")
    return name


def check_measured(
    constraint: OutcomeConstraint, measured: Collection[str], others: Collection[str] = ()
) -> None:
    """Refuses a constraint on a metric that no trial will carry.

    Args:
        constraint: The constraint.
        measured: The metrics that trials measure or that have a closed form.
        others: Metrics that could be measured too.

    Raises:
        SpecError: The constraint's metric is not measured.
    """
    if constraint.metric not in measured:
        raise SpecError(
            f"expected a constraint on a metric of this study, got '{constraint}'",
            remedy=f"add `{constraint.metric}` to `metrics`"
            if constraint.metric in others
            else suggestion(constraint.metric, tuple(measured)),
        )


def all_metrics(
    objectives: Sequence[Objective],
    constraints: Sequence[OutcomeConstraint],
    metrics: Sequence[str] | None,
) -> tuple[str, ...] | None:
    """Returns every metric that may be told, the objectives first; None where any may."""
    if metrics is None:
        return None
    return tuple(dict.fromkeys([*required_metrics(objectives, constraints), *metrics]))


def required_metrics(
    objectives: Sequence[Objective], constraints: Sequence[OutcomeConstraint]
) -> tuple[str, ...]:
    """Returns the metrics that every completed trial carries: optimised or constrained."""
    constrained = [constraint.metric for constraint in constraints]
    return tuple(dict.fromkeys([*(objective.metric for objective in objectives), *constrained]))

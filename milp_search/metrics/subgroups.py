"""Metrics over a part of the users: `loss@cold_start`, `rouge_l@high_activity`, `mae@cvar10`.

- `cold_start` and `high_activity`: the metric over the quarter of the targets with the shortest
  and with the longest training histories, as the adapters see them (after `data.max_history`).
  A quarter is rounded half up and is one user at least. Among equally long histories the task's
  order decides, which goes by activity; so the two never share a user where there are two.
- `cvar`, `cvar1` to `cvar99`: conditional value at risk, the mean over the worst 25 (or so many)
  per cent of the users, worst in the metric's own direction. Each user's value is the metric over
  that user's predictions alone; for `macro_f1` that is low for users who meet few labels. Users of
  whom a judge has scored nothing are left out.

A metric that is no mean over users (`macro_f1`, `rmse`) is computed anew from the predictions of
the part.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

from milp_search.core.errors import NothingScored, SpecError
from milp_search.core.records import PersonalizationTask, Predictions
from milp_search.core.trial import Measurement
from milp_search.metrics.metric import Metric
from milp_search.metrics.over_users import by_user, conditional_value_at_risk
from milp_search.space.suggestion import suggestion

AT = "@"

_QUARTER = 0.25  # LoGo, App. A.1 and A.2; ours for CVaR, to compare with the quarters

Users = Callable[[PersonalizationTask], list[str]]


def cold_start_users(task: PersonalizationTask) -> list[str]:
    """Returns the quarter of the targets with the shortest training histories.

    Source: LoGo, App. A.1.
    """
    return _by_activity(task)[-_quarter(len(task.targets)) :]


def high_activity_users(task: PersonalizationTask) -> list[str]:
    """Returns the quarter of the targets with the longest training histories.

    Source: LoGo, App. A.2.
    """
    return _by_activity(task)[: _quarter(len(task.targets))]


_PARTS: dict[str, Users] = {"cold_start": cold_start_users, "high_activity": high_activity_users}

SUBGROUPS: dict[str, str] = {
    "cold_start": "the quarter of users with the shortest histories",
    "high_activity": "the quarter of users with the longest histories",
    "cvar": "the quarter of users for whom it is worst; cvar1 to cvar99 for other per cents",
}


def over_subgroup(metric: Metric, name: str) -> Metric:
    """Returns a metric over a part of the users, named `METRIC@NAME`.

    Raises SpecError if no part has this name.
    """
    check_subgroup(name)
    if name in _PARTS:
        compute = partial(_over_part, metric, _PARTS[name])
    else:
        compute = partial(_over_tail, metric, _tail_share(name))
    return replace(metric, name=f"{metric.name}{AT}{name}", compute=compute)


def check_subgroup(name: str) -> None:
    """Raises SpecError if no part of the users has this name."""
    if name not in _PARTS and not 0 < _tail_share(name) < 1:
        raise SpecError(
            f"expected a part of the users ({', '.join(SUBGROUPS)}, or cvar1 to cvar99) after "
            f"{AT!r}, got {name!r}",
            remedy=suggestion(name, tuple(SUBGROUPS)),
        )


def _tail_share(name: str) -> float:
    """Returns the share that `cvar` or `cvarNN` names, 0 for other names."""
    if name == "cvar":
        return _QUARTER
    percent = name.removeprefix("cvar")
    known = name != percent and percent.isascii() and percent.isdigit()
    return int(percent) / 100 if known else 0.0


def _over_part(metric: Metric, users: Users, predictions: Predictions) -> Measurement:
    return metric.compute(predictions.of(users(predictions.task)))


def _over_tail(metric: Metric, share: float, predictions: Predictions) -> Measurement:
    values: list[float | None] = [_alone(metric, own) for own in _user_by_user(predictions)]
    scored = [value for value in values if value is not None]
    if not scored:
        return metric.compute(predictions)  # which says what is missing
    found = conditional_value_at_risk(scored, share, metric.direction)
    return found if len(scored) == len(values) else replace(found, per_user=())


def _alone(metric: Metric, own: Predictions) -> float | None:
    """Returns the metric of a user's predictions, None where a judge has scored none of them."""
    try:
        return metric.compute(own).mean
    except NothingScored:
        return None


def _user_by_user(predictions: Predictions) -> Iterator[Predictions]:
    """Yields each user's predictions as those of a task of this user alone."""
    targets = {target.user: target for target in predictions.task.targets}
    for user, items in by_user(predictions):
        yield replace(
            predictions,
            items=tuple(items),
            histories={user: predictions.histories[user]} if user in predictions.histories else {},
            task=replace(predictions.task, targets=(targets[user],)),
        )


def _by_activity(task: PersonalizationTask) -> list[str]:
    ranked = sorted(task.targets, key=lambda target: -len(target.history))
    return [target.user for target in ranked]


def _quarter(users: int) -> int:
    return max(int(_QUARTER * users + 0.5), 1)

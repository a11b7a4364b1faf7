"""Splits a clean population into targets (train / validation / test by time) and others.

1. Users with fewer than `min_interactions` (3 at least: one per part) are left out altogether.
2. Targets are the most active users, by number of interactions, ties by user id; if fewer are
   asked for than there are, the next `others` most active users train the base.
3. A target's interactions are cut by time: the latest `test` share, before it the `validation`
   share, each rounded half up and one interaction at least. Where the layout brings its own test
   queries (LaMP, OPPU), those are the test part and the validation share is cut from the end of
   the profile.
4. Leaks are removed from all training parts (`leaks.py`), before any cap, so that a cap never
   changes what is held out. A target left without history by this is left out.
5. Caps: `max_queries` keeps the earliest validation and test queries (those nearest to what was
   learnt); `max_history` keeps the latest training interactions, of targets and others alike,
   `max_target_history` those of targets.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from milp_search.core.errors import DataError
from milp_search.core.records import Interaction, PersonalizationTask, UserHistory, UserTask
from milp_search.core.settings import DataSettings
from milp_search.data.leaks import Key, held_out, without
from milp_search.data.population import Population, UserRecords

FEWEST = 3


def split_population(
    population: Population, settings: DataSettings
) -> tuple[PersonalizationTask, Counter[str]]:
    """Returns the task (without fingerprint) and how much was left out, by reason.

    Raises DataError if no user has enough interactions, or none keeps a history.
    """
    left_out: Counter[str] = Counter()
    users = _by_activity(population.users, settings.min_interactions, left_out)
    targets = [split_user(records, settings) for records in users[: settings.targets]]
    others = users[settings.targets :][: settings.others]
    keys = held_out(targets)
    task = PersonalizationTask(
        name=population.name,
        kind=population.kind,
        targets=_clean_targets(targets, keys, settings, left_out),
        others=_clean_others(others, keys, settings, left_out),
        labels=population.labels,
        rating_range=population.rating_range,
    )
    _require_targets(task, population)
    return task, left_out


def split_user(records: UserRecords, settings: DataSettings) -> UserTask:
    """Returns one user's interactions cut into history, validation and test, in this order."""
    items, test = records.history, records.queries
    if not test:
        size = min(_share(settings.test, len(items)), len(items) - 2)
        items, test = items[:-size], items[-size:]
    size = min(_share(settings.validation, records.size), len(items) - 1)
    return UserTask(records.user, items[:-size], items[-size:], test)


def _share(share: float, total: int) -> int:
    # Half up: Python's round would take 2.5 to 2.
    return max(1, int(share * total + 0.5))


def _by_activity(
    users: Sequence[UserRecords], min_interactions: int, left_out: Counter[str]
) -> list[UserRecords]:
    fewest = max(min_interactions, FEWEST)
    # With queries of its own a user still needs two history items: training and validation.
    enough = [user for user in users if user.size >= fewest and len(user.history) >= 2]
    left_out["users with too few interactions"] += len(users) - len(enough)
    if not enough:
        raise _nobody(users, fewest)
    return sorted(enough, key=lambda user: (-user.size, user.user))


def _nobody(users: Sequence[UserRecords], fewest: int) -> DataError:
    if not users:
        return DataError("expected at least one user, got an empty data set")
    most = max(users, key=lambda user: user.size)
    return DataError(
        f"expected a user with at least {fewest} interactions and a history of 2, got "
        f"{len(users)} users with at most {most.size}",
        at=most.at,
        remedy=f"Add data, or lower `data.min_interactions` (not below {FEWEST}).",
    )


def _clean_targets(
    targets: Sequence[UserTask],
    keys: frozenset[Key],
    settings: DataSettings,
    left_out: Counter[str],
) -> tuple[UserTask, ...]:
    kept = []
    for target in targets:
        history = without(target.history, keys)
        left_out["interactions equal to held-out ones"] += len(target.history) - len(history)
        if history:
            kept.append(_cap(replace(target, history=history), settings))
        else:
            left_out["targets whose whole history is held out elsewhere"] += 1
    return tuple(kept)


def _latest(items: tuple[Interaction, ...], count: int | None) -> tuple[Interaction, ...]:
    return items if count is None else items[-count:]


def _cap(target: UserTask, settings: DataSettings) -> UserTask:
    return replace(
        target,
        history=_latest(_latest(target.history, settings.max_history), settings.max_target_history),
        validation=target.validation[: settings.max_queries],
        test=target.test[: settings.max_queries],
    )


def _clean_others(
    others: Sequence[UserRecords],
    keys: frozenset[Key],
    settings: DataSettings,
    left_out: Counter[str],
) -> tuple[UserHistory, ...]:
    kept = []
    for other in others:
        # Another's test queries are ordinary exchanges: nobody is tested on them.
        items = without(other.history + other.queries, keys)
        left_out["interactions equal to held-out ones"] += other.size - len(items)
        if items:
            kept.append(UserHistory(other.user, _latest(items, settings.max_history)))
    return tuple(kept)


def _require_targets(task: PersonalizationTask, population: Population) -> None:
    if not task.targets:
        raise DataError(
            "expected a user with a history of their own, but every history equals what is held "
            "out for validation and test",
            at=population.users[0].at,
            remedy="Remove repeated records, or ask for fewer `data.targets`.",
        )

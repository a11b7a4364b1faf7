from __future__ import annotations

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from milp_search.core.errors import DataError, Location
from milp_search.core.records import Interaction, PersonalizationTask, UserTask
from milp_search.core.settings import DataSettings
from milp_search.data.population import Population, UserRecords
from milp_search.data.split import split_population, split_user


def records(user: str, size: int, queries: int = 0) -> UserRecords:
    items = [Interaction(user, f"{user} q{n}", f"{user} r{n}", n) for n in range(size + queries)]
    return UserRecords(user, tuple(items[:size]), tuple(items[size:]), Location("x.jsonl", 3))


def split(*users: UserRecords, **settings: object) -> PersonalizationTask:
    settings_ = DataSettings(**settings)  # type: ignore[arg-type]
    return split_population(Population("p", "text", users), settings_)[0]


def sizes(task: UserTask) -> tuple[int, int, int]:
    return len(task.history), len(task.validation), len(task.test)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        # 10 % and 20 %, rounded half up, at least one each.
        (3, (1, 1, 1)),
        (5, (3, 1, 1)),
        (10, (7, 1, 2)),
        (13, (9, 1, 3)),
        (15, (10, 2, 3)),
        (100, (70, 10, 20)),
    ],
)
def test_a_history_is_cut_70_10_20(size: int, expected: tuple[int, int, int]) -> None:
    assert sizes(split_user(records("a", size), DataSettings())) == expected


def test_test_queries_of_the_layout_are_kept_and_validation_precedes_them() -> None:
    task = split_user(records("a", 9, queries=1), DataSettings(validation=0.2))
    assert sizes(task) == (7, 2, 1)
    assert task.test[0].response == "a r9"


def test_large_shares_still_leave_one_interaction_of_each_part() -> None:
    settings = DataSettings(validation=0.5, test=0.49)
    assert sizes(split_user(records("a", 3), settings)) == (1, 1, 1)
    assert sizes(split_user(records("a", 2, queries=1), settings)) == (1, 1, 1)


def test_targets_are_the_most_active_users_with_ties_by_name() -> None:
    users = [records("d", 5), records("a", 4), records("c", 9), records("b", 5), records("e", 3)]
    task = split(*users, targets=2, others=1)
    assert [target.user for target in task.targets] == ["c", "b"]
    assert [other.user for other in task.others] == ["d"]
    assert len(task.others[0].interactions) == 5
    assert [other.user for other in split(*users, targets=2).others] == ["d", "a"]


def test_a_user_s_own_queries_count_as_activity_and_train_the_base_if_they_are_no_target() -> None:
    task = split(records("a", 5), records("b", 3, queries=1), targets=1)
    assert [item.response for item in task.others[0].interactions] == [f"b r{n}" for n in range(4)]


def test_more_targets_than_users_leave_nobody_for_the_base() -> None:
    task = split(records("a", 5), records("b", 5), targets=100)
    assert (len(task.targets), task.others) == (2, ())


def test_caps_keep_the_latest_history_and_the_earliest_queries() -> None:
    task = split(records("a", 30), records("b", 8), targets=1, max_history=2, max_queries=2)
    (target,) = task.targets
    assert [item.time for item in target.history] == [19, 20]
    assert [item.time for item in target.validation] == [21, 22]
    assert [item.time for item in target.test] == [24, 25]
    assert [item.time for item in task.others[0].interactions] == [6, 7]


def test_a_cap_of_the_targets_leaves_the_others_alone() -> None:
    task = split(records("a", 30), records("b", 8), targets=1, max_target_history=2)
    assert [item.time for item in task.targets[0].history] == [19, 20]
    assert len(task.others[0].interactions) == 8
    both = split(records("a", 30), records("b", 8), targets=1, max_history=3, max_target_history=5)
    assert len(both.targets[0].history) == 3


def test_users_with_too_little_are_refused_with_the_place_of_the_richest() -> None:
    with pytest.raises(DataError) as caught:
        split(records("a", 3), records("b", 1), min_interactions=4)
    assert str(caught.value).startswith(
        "x.jsonl:3: expected a user with at least 4 interactions and a history of 2, "
        "got 2 users with at most 3"
    )
    with pytest.raises(DataError, match="at least 3 interactions"):
        split(records("a", 2), min_interactions=0)
    with pytest.raises(DataError, match="a history of 2"):
        split(records("a", 1, queries=5))
    with pytest.raises(DataError, match="expected at least one user"):
        split()


def test_a_population_whose_every_history_is_held_out_is_refused() -> None:
    same = tuple(Interaction("a", "q", "r", n) for n in range(5))
    with pytest.raises(DataError, match="every history equals what is held out"):
        split(UserRecords("a", same, at=Location("x.jsonl", 1)))


@hypothesis.settings(deadline=None)
@given(
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=8),
    targets=st.integers(1, 9),
    fewest=st.integers(0, 6),
    validation=st.floats(0.01, 0.6),
    test=st.floats(0.01, 0.39),
)
def test_splits_partition_each_user_in_order_and_each_user_is_in_one_group(
    sizes: list[int], targets: int, fewest: int, validation: float, test: float
) -> None:
    users = {f"u{n}": records(f"u{n}", size) for n, size in enumerate(sizes)}
    usable = {name for name, user in users.items() if user.size >= max(3, fewest)}
    settings = {"min_interactions": fewest, "validation": validation, "test": test}
    if not usable:
        with pytest.raises(DataError):
            split(*users.values(), targets=targets, **settings)
        return
    task = split(*users.values(), targets=targets, **settings)
    names = [target.user for target in task.targets] + [other.user for other in task.others]
    assert sorted(names) == sorted(usable)
    assert len(task.targets) == min(targets, len(usable))
    for target in task.targets:
        parts = (target.history, target.validation, target.test)
        assert all(parts)
        assert sum(parts, ()) == users[target.user].history
    for other in task.others:
        assert other.interactions == users[other.user].history

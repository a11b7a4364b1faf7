from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest

from metrics.making import Pair, predictions
from milp_search.core.errors import MeasurementError, SpecError
from milp_search.core.judged import PairScore
from milp_search.core.records import Interaction, PersonalizationTask, Predictions, UserTask
from milp_search.core.trial import Measurement
from milp_search.metrics.labels import macro_f1
from milp_search.metrics.rating import rmse
from milp_search.metrics.subgroups import check_subgroup, cold_start_users, high_activity_users
from milp_search.metrics.table import measure
from milp_search.search.noise import noise_variances


def task_of(lengths: Mapping[str, int]) -> PersonalizationTask:
    return PersonalizationTask(
        "t",
        "text",
        tuple(
            UserTask(user, (Interaction(user, "q", "r"),) * length, (), ())
            for user, length in lengths.items()
        ),
    )


def with_lengths(made: Predictions, *lengths: int) -> Predictions:
    """Returns the predictions for users whose histories have these lengths."""
    users = [target.user for target in made.task.targets]
    targets = task_of(dict(zip(users, lengths, strict=True))).targets
    return replace(made, task=replace(made.task, targets=targets))


def test_cold_start_and_high_activity_are_the_quarters_by_history_length() -> None:
    task = task_of({"a": 5, "b": 1, "c": 9, "d": 2, "e": 7, "f": 8, "g": 3, "h": 4})
    assert set(cold_start_users(task)) == {"b", "d"}
    assert set(high_activity_users(task)) == {"c", "f"}


@pytest.mark.parametrize(
    ("users", "size"), [(1, 1), (2, 1), (3, 1), (5, 1), (6, 2), (9, 2), (10, 3)]
)
def test_a_quarter_is_rounded_half_up_and_one_user_at_least(users: int, size: int) -> None:
    task = task_of({f"u{n}": n + 1 for n in range(users)})
    assert len(cold_start_users(task)) == len(high_activity_users(task)) == size


def test_of_equally_long_histories_the_first_count_as_more_active() -> None:
    task = task_of(dict.fromkeys("abcdefgh", 5))
    assert high_activity_users(task) == ["a", "b"]
    assert cold_start_users(task) == ["g", "h"]


def test_a_mean_over_users_is_taken_over_the_part() -> None:
    users: Mapping[str, Sequence[Pair]] = {
        user: [("5", str(5 - n))] for n, user in enumerate("abcdefgh"[:5])
    }
    made = with_lengths(predictions({**users, "f": [("5", "5")]}, "rating"), 6, 5, 4, 3, 2, 1)
    found = measure(made, ["mae", "mae@cold_start", "mae@high_activity", "mae@cvar"])
    assert found["mae"].mean == pytest.approx(10 / 6)
    # cold: e (error 4) and f (0); active: a (0) and b (1).
    assert found["mae@cold_start"] == Measurement(2.0, 2.0, (4.0, 0.0))
    assert found["mae@high_activity"] == Measurement(0.5, 0.5, (0.0, 1.0))
    # 1.5 users: e (4) and half of d (3).
    assert found["mae@cvar"].mean == pytest.approx((4 + 0.5 * 3) / 1.5)
    assert len(found["mae@cvar"].per_user) == 6


def test_what_is_no_mean_over_users_is_computed_anew_on_the_part() -> None:
    ratings = predictions({"a": [("5", "1")], "b": [("5", "4"), ("4", "4")]}, "rating")
    part = measure(with_lengths(ratings, 9, 1), ["rmse@cold_start"])["rmse@cold_start"]
    assert part.mean == pytest.approx(0.5**0.5)
    assert part == rmse(predictions({"b": [("5", "4"), ("4", "4")]}, "rating"))
    labels = ("red", "blue")
    answers = predictions(
        {"a": [("red", "blue")], "b": [("red", "red"), ("blue", "red")]}, "classification", labels
    )
    found = measure(with_lengths(answers, 1, 9), ["macro_f1@high_activity"])
    alone = predictions({"b": [("red", "red"), ("blue", "red")]}, "classification", labels)
    assert found["macro_f1@high_activity"] == macro_f1(alone)
    # red: tp 1, fp 1: F1 = 2/3. blue: 0.
    assert macro_f1(alone).mean == pytest.approx(1 / 3)


def test_the_tail_of_what_is_no_mean_goes_by_each_users_own_value() -> None:
    made = predictions(
        {"a": [("5", "4"), ("5", "2")], "b": [("5", "5")], "c": [("5", "3")], "d": [("5", "4")]},
        "rating",
    )
    # a: sqrt((1 + 9) / 2) is the worst of 0, 1, 2 and itself.
    assert measure(made, ["rmse@cvar"])["rmse@cvar"].mean == pytest.approx(5**0.5)


def test_a_part_of_the_users_has_their_histories_and_retention() -> None:
    made = predictions(
        {"a": [("", "chess")], "b": [("", "chess")]},
        histories={"a": [("chess?", "chess!")], "b": [("football?", "no")]},
    )
    made = replace(with_lengths(made, 1, 2), retention={"a": 0.25, "b": 0.75})
    assert measure(made, ["persona_f1@cold_start"])["persona_f1@cold_start"].mean == 100.0
    assert measure(made, ["retention@high_activity"])["retention@high_activity"].mean == 0.75
    assert measure(made, ["retention@cvar"])["retention@cvar"].mean == 0.75


def test_trials_compare_user_by_user_in_a_part_and_in_the_tail() -> None:
    names = ["mae@cold_start", "mae@cvar30"]
    shift = [0.0, 0.25, 0.5]

    def trial(extra: float) -> dict[str, Measurement]:
        users: Mapping[str, Sequence[Pair]] = {
            f"u{n}": [("1", str(1 + n / 4 + extra))] for n in range(8)
        }
        return measure(with_lengths(predictions(users, "rating"), *range(8)), names)

    for name in names:
        found = [trial(extra)[name] for extra in shift]
        # All users get worse alike: a shift that users share is no noise.
        assert np.allclose(noise_variances(found), 0.0)  # type: ignore[arg-type]
        assert [one.mean - found[0].mean for one in found] == pytest.approx(shift)
        assert found[0].sem is not None
        assert found[0].sem > 0.1


@pytest.mark.parametrize("name", ["cold", "cvar0", "cvar100", "cvar-5", "cvar2.5", "", "25"])
def test_an_unknown_part_is_refused(name: str) -> None:
    with pytest.raises(SpecError, match=r"cold_start, high_activity, cvar, or cvar1 to cvar99"):
        check_subgroup(name)


def test_a_misspelt_part_is_refused_with_a_suggestion() -> None:
    with pytest.raises(SpecError, match=r"got 'coldstart'\n  did you mean `cold_start`\?"):
        measure(predictions({"a": [("x", "x")]}), ["loss@coldstart"])


def test_the_parts_that_can_be_named_are_known() -> None:
    for name in ("cold_start", "high_activity", "cvar", "cvar1", "cvar99"):
        check_subgroup(name)


def test_the_tail_is_that_of_the_users_whom_a_judge_has_scored() -> None:
    scores = {"a": (9, 1), "b": (1, 9), "c": (None, 1), "d": (9, 1), "e": (9, 1)}
    made = predictions({user: [("", "x")] for user in scores})
    judged = replace(
        made,
        items=tuple(
            replace(item, judged={"model": PairScore(*scores[item.user])}) for item in made.items
        ),
    )
    found = measure(judged, ["win_rate", "win_rate@cvar50"])
    assert found["win_rate"].mean == 0.75
    # Two of a, b, d and e: b, who loses, and one who wins.
    assert found["win_rate@cvar50"].mean == 0.5
    assert found["win_rate@cvar50"].per_user == ()
    with pytest.raises(MeasurementError, match="got 2 answers without a pair"):
        measure(judged.of(["c"]), ["win_rate@cvar50"])

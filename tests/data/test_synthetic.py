from __future__ import annotations

import re
from collections import Counter
from itertools import pairwise
from random import Random
from typing import Any

import pytest

from milp_search.core.errors import SpecError
from milp_search.core.records import UserHistory
from milp_search.data import lexicon
from milp_search.data.synthetic import (
    PopulationSettings,
    community_habits,
    exchange,
    persona,
    synthetic_histories,
)

# One topic, so that every response of a community shows the same recommendation.
ONE_TOPIC = {
    "users": 6, "communities": 2, "topics": 1, "fact_groups": 1, "longest": 60, "shortest": 50,
    "regimes": [0.3, 0.6], "drift": 1.0,
}  # fmt: skip
PARTS = re.compile(
    rf"(?P<opener>{'|'.join(lexicon.OPENERS)}) (?P<name>\w+), "
    rf"(?P<action>{'|'.join(lexicon.ACTIONS)}) the "
    r"(?P<recommendation>\w+ \w+) (?P<fact>.+)\. (?P<closer>.+)\."
)
TWO_YEARS_S = 2 * 365 * 86_400.0
FIRST_DAY = 1_640_995_200.0  # 2022-01-01 00:00 UTC


def parts(response: str) -> dict[str, str]:
    match = PARTS.fullmatch(response)
    assert match is not None, response
    return match.groupdict()


def said(history: UserHistory, part: str, start: float = 0.0, end: float = 1.0) -> set[str]:
    """Returns what a user heard as one part of a response within a stretch of the time line."""
    return {
        parts(item.response)[part]
        for item in history.interactions
        if start <= ((item.time or 0.0) - FIRST_DAY) / TWO_YEARS_S < end
    }


def test_equal_seeds_give_equal_populations_and_others_do_not() -> None:
    assert synthetic_histories(None, 1) == synthetic_histories(None, 1)
    assert synthetic_histories(None, 1) != synthetic_histories(None, 2)


def test_a_user_is_the_same_in_a_larger_population_of_equal_lengths() -> None:
    """A user is drawn from a generator of their own."""
    flat = {"longest": 20, "shortest": 20, "communities": 2}
    small, large = (synthetic_histories(flat | {"users": users}, 0) for users in (4, 8))
    assert small == large[:4]


def test_lengths_fall_geometrically_from_longest_to_shortest() -> None:
    histories = synthetic_histories({"users": 3, "longest": 64, "shortest": 16}, 0)
    assert [len(history.interactions) for history in histories] == [64, 32, 16]


def test_the_default_population_is_skewed_and_chronological() -> None:
    histories = synthetic_histories(None, 0)
    lengths = [len(history.interactions) for history in histories]
    assert len(lengths) == 16
    assert lengths == sorted(lengths, reverse=True)
    assert (lengths[0], lengths[-1]) == (60, 20)
    for history in histories:
        times = [item.time or 0.0 for item in history.interactions]
        assert times == sorted(times)
        assert FIRST_DAY <= times[0] <= times[-1] <= FIRST_DAY + TWO_YEARS_S
        assert {item.user for item in history.interactions} == {history.user}
    assert len({history.user for history in histories}) == 16


@pytest.mark.parametrize("seed", range(3))
def test_a_community_shares_its_habits_within_a_regime_and_changes_them_at_the_next(
    seed: int,
) -> None:
    histories = synthetic_histories(ONE_TOPIC, seed)
    regimes = [(0.0, 0.3), (0.3, 0.6), (0.6, 1.0)]
    for part in ("opener", "recommendation"):
        first, second = (
            [set().union(*(said(h, part, *when) for h in members)) for when in regimes]
            for members in (histories[0::2], histories[1::2])
        )
        assert [len(habit) for habit in first + second] == [1] * 6
        assert first != second
        assert all(early != late for early, late in pairwise(first))


@pytest.mark.parametrize("seed", range(3))
def test_name_action_and_facts_of_a_user_never_change_and_the_closer_does_once(seed: int) -> None:
    for history in synthetic_histories(ONE_TOPIC, seed):
        for part in ("name", "action", "fact"):
            assert len(said(history, part)) == 1
        early, late = said(history, "closer", 0, 0.4), said(history, "closer", 0.4)
        assert (len(early), len(late)) == (1, 1)
        assert early != late


def test_users_have_facts_of_their_own() -> None:
    facts = [said(history, "fact") for history in synthetic_histories(ONE_TOPIC, 0)]
    assert len(set().union(*facts)) == 6


def test_a_share_of_the_recommendations_drifts_and_the_rest_stays() -> None:
    topics = sorted(lexicon.TOPICS)[:10]
    settings = PopulationSettings(regimes=(0.5,), drift=0.3)
    for seed in range(5):
        before, after = community_habits(Random(seed), topics, settings)
        changed = [t for t in topics if before.recommendations[t] != after.recommendations[t]]
        assert len(changed) <= 3
        assert before.opener != after.opener


def test_without_drift_and_regimes_a_community_has_one_habit() -> None:
    assert len(community_habits(Random(0), ["tea"], PopulationSettings(regimes=()))) == 1


def test_facts_go_round_the_topics() -> None:
    who = persona(Random(0), ["a", "b", "c", "d", "e"], 2)
    assert who.facts["a"] == who.facts["c"] == who.facts["e"]
    assert who.facts["b"] == who.facts["d"]
    assert who.facts["a"] != who.facts["b"]


def topic_counts(skew: float) -> list[list[int]]:
    """Returns per user how often each of two topics comes up, the more frequent first."""
    settings = {"users": 4, "topics": 2, "longest": 600, "shortest": 600, "skew": skew}
    things = {thing: topic for topic, named in lexicon.TOPICS.items() for thing in named}
    found = []
    for history in synthetic_histories(settings, 0):
        queries = [item.query for item in history.interactions]
        named = [next(topic for thing, topic in things.items() if thing in q) for q in queries]
        found.append(sorted(Counter(named).values(), reverse=True))
    return found


def test_skewed_users_come_back_to_their_favourites_as_zipf_says() -> None:
    # 1 to 2^-2: four times in five; +- four standard deviations of 600 draws.
    for most, _ in topic_counts(2.0):
        assert most / 600 == pytest.approx(0.8, abs=4 * (0.8 * 0.2 / 600) ** 0.5)
    for most, _ in topic_counts(0.0):
        assert most / 600 == pytest.approx(0.5, abs=4 * (0.5 * 0.5 / 600) ** 0.5)


def test_a_query_names_a_thing_of_its_topic() -> None:
    random = Random(0)
    who = persona(random, ["tea"], 1)
    (habits,) = community_habits(random, ["tea"], PopulationSettings(regimes=()))
    for late in (False, True):
        query, response = exchange(random, "tea", who, habits, late=late)
        assert any(thing in query for thing in lexicon.TOPICS["tea"])
        assert parts(response)["closer"] == who.closers[late]


def test_an_unknown_setting_is_refused_with_the_known_ones() -> None:
    with pytest.raises(SpecError, match=r"unknown population setting 'uzers'(.|\n)*users"):
        synthetic_histories({"uzers": 3}, 0)


@pytest.mark.parametrize(
    ("population", "message"),
    [
        ({"users": 0}, "positive whole number of 'users', got 0"),
        ({"communities": -1}, "positive whole number of 'communities'"),
        ({"topics": 2.5}, "positive whole number of 'topics'"),
        ({"users": "many"}, "positive whole number of 'users', got 'many'"),
        ({"users": None}, "positive whole number of 'users'"),
        ({"users": True}, "positive whole number of 'users'"),
        ({"shortest": 9, "longest": 8}, "shortest <= longest, got 9 and 8"),
        ({"topics": 999}, "at most 36 topics"),
        ({"drift": 2}, "'drift' from 0 to 1, got 2"),
        ({"drift": float("nan")}, "'drift' from 0 to 1"),
        ({"regimes": [0.5, 2]}, "'regimes' as a list of points from 0 to 1"),
        ({"regimes": 0.5}, "'regimes' as a list"),
        ({"regimes": ["now"]}, "'regimes' as a list"),
        ({"skew": -1}, "'skew' of 0 or more, got -1"),
        ({"skew": float("inf")}, "'skew' of 0 or more, got inf"),
        ({"skew": "much"}, "'skew' of 0 or more, got 'much'"),
    ],
    ids=str,
)
def test_an_impossible_setting_is_refused(population: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        synthetic_histories(population, 0)

"""Canaries: unique strings in held-out texts, looked for in everything that is trained on."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.writing import HEADLINE, line, write_json, write_lamp, write_lines
from milp_search.core.records import Interaction, PersonalizationTask
from milp_search.core.settings import DataSettings
from milp_search.data.load import load_task
from milp_search.data.population import Population, UserRecords
from milp_search.data.split import split_population

CANARY = re.compile(r"canary-\w+", re.IGNORECASE)


def training_texts(task: PersonalizationTask) -> str:
    items = [item for target in task.targets for item in target.history]
    items += [item for other in task.others for item in other.interactions]
    return "\n".join(f"{item.query}\n{item.response}" for item in items)


def held_out_canaries(task: PersonalizationTask) -> set[str]:
    items = [item for target in task.targets for item in target.validation + target.test]
    return {found.casefold() for item in items for found in CANARY.findall(item.response)}


def assert_no_leak(task: PersonalizationTask) -> None:
    trained = {found.casefold() for found in CANARY.findall(training_texts(task))}
    assert held_out_canaries(task)
    assert not held_out_canaries(task) & trained


def diary(user: str, size: int) -> list[dict[str, Any]]:
    return [line(user, n, response=f"the canary-{user}{n} sings") for n in range(size)]


def test_no_held_out_response_of_a_json_lines_file_is_trained_on(tmp_path: Path) -> None:
    a, b, c = diary("a", 10), diary("b", 9), diary("c", 5)
    # a's last two are tests and the one before is validation; all come again in other hands.
    b[0] = {**a[9], "user_id": "b", "timestamp": "2023-01-01"}
    b[1] = {**a[7], "user_id": "b", "timestamp": None, "query": f"  {str(a[7]['query']).upper()} "}
    a[2] = {**b[8], "user_id": "a", "timestamp": a[2]["timestamp"]}
    a[3] = {**a[8], "timestamp": a[3]["timestamp"]}
    c[0] = {**a[8], "user_id": "c"}
    c[1] = {**b[8], "user_id": "c"}
    file = write_lines(tmp_path / "x.jsonl", [*c, *a, *b])
    task = load_task(DataSettings(str(file), targets=2))
    assert [target.user for target in task.targets] == ["a", "b"]
    assert held_out_canaries(task) == {f"canary-{x}" for x in ("a7", "a8", "a9", "b6", "b7", "b8")}
    assert_no_leak(task)
    assert [len(target.history) for target in task.targets] == [5, 4]
    assert [item.response for item in task.others[0].interactions] == [
        f"the canary-c{n} sings" for n in (2, 3, 4)
    ]


def lamp_profile(who: str, size: int) -> list[dict[str, str]]:
    return [{"text": f"{who} {n}", "title": f"canary-{who}{n}"} for n in range(size)]


def test_no_lamp_question_s_answer_is_trained_on_in_another_s_profile(tmp_path: Path) -> None:
    profiles = {who: lamp_profile(who, 8 - n) for n, who in enumerate("abc")}
    # a's question stands in the profiles of b and c, b's validation item in a's and c's.
    profiles["b"][0] = profiles["c"][0] = {"text": "a asks", "title": "canary-goldA"}
    profiles["a"][1] = profiles["c"][1] = profiles["b"][6]
    asked = [
        {"id": who, "user_id": who, "input": f"{HEADLINE}{who} asks", "profile": profiles[who]}
        for who in "abc"
    ]
    golds = {who: f"canary-gold{who.upper()}" for who in "abc"}
    write_lamp(tmp_path, asked[:1], golds, "train")
    write_lamp(tmp_path, asked[1:], golds, "dev")
    task = load_task(DataSettings(str(tmp_path), targets=2))
    assert {"canary-golda", "canary-b6"} <= held_out_canaries(task)
    assert_no_leak(task)
    # c is no target, so its question and answer may train the base.
    assert task.others[0].interactions[-1].response == "canary-goldC"


def test_no_oppu_answer_is_trained_on(tmp_path: Path) -> None:
    profiles = {who: lamp_profile(who, 6) for who in "abc"}
    profiles["b"][2] = {"text": "a asks 1", "title": "canary-golda1"}
    profiles["c"][3] = {"text": "b asks 0", "title": "canary-goldb0"}
    rows = []
    for who in "abc":
        queries = [
            {"input": f"{HEADLINE}{who} asks {n}", "gold": f"canary-gold{who}{n}"} for n in range(2)
        ]
        rows.append({"user_id": who, "profile": profiles[who], "query": queries})
    file = write_json(tmp_path / "top.json", rows)
    assert_no_leak(load_task(DataSettings(str(file), targets=2)))


def test_equal_responses_to_other_queries_stay(tmp_path: Path) -> None:
    lines = [line(user, n, response="yes") for user in "ab" for n in range(10)]
    file = write_lines(tmp_path / "x.jsonl", lines)
    task = load_task(DataSettings(str(file), targets=1))
    assert len(task.targets[0].history) == 7
    assert len(task.others[0].interactions) == 10


def test_the_log_holds_counts_and_no_text(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = write_lines(tmp_path / "x.jsonl", [*diary("a", 10), *diary("a", 1), *diary("bob", 4)])
    with caplog.at_level("INFO"):
        load_task(DataSettings(str(file), targets=1))
    assert "2 users, 14 interactions; dropped: duplicate 1" in caplog.text
    assert "1 targets, 1 others; left out: nothing" in caplog.text
    assert not CANARY.search(caplog.text)
    assert "bob" not in caplog.text


@hypothesis.settings(deadline=None)
@given(
    users=st.lists(st.lists(st.integers(0, 30), min_size=3, max_size=15), min_size=1, max_size=6),
    targets=st.integers(1, 6),
    caps=st.tuples(st.none() | st.integers(1, 3), st.none() | st.integers(1, 3)),
)
def test_whatever_users_share_nothing_held_out_is_trained_on(
    users: list[list[int]], targets: int, caps: tuple[int | None, int | None]
) -> None:
    population = Population(
        "p",
        "text",
        tuple(
            UserRecords(f"u{n}", tuple(Interaction(f"u{n}", f"q{i}", f"r{i}") for i in items))
            for n, items in enumerate(users)
        ),
    )
    settings = DataSettings(
        targets=targets, min_interactions=3, max_history=caps[0], max_queries=caps[1]
    )
    try:
        task, _ = split_population(population, settings)
    except ValueError:
        return
    held = {i.response for t in task.targets for i in t.validation + t.test}
    trained = {i.response for t in task.targets for i in t.history}
    trained |= {i.response for other in task.others for i in other.interactions}
    assert not held & trained
    assert all(t.history and t.validation and t.test for t in task.targets)
    assert {i.user for t in task.targets for i in t.history} <= {t.user for t in task.targets}

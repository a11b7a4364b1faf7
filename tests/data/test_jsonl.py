from __future__ import annotations

from pathlib import Path

import pytest

from data.writing import line, write_lines
from milp_search.core.errors import DataError
from milp_search.core.settings import DataSettings
from milp_search.data.clean import clean
from milp_search.data.jsonl import read_jsonl
from milp_search.data.population import Population
from milp_search.data.source import Source


def read(file: Path, task: str | None = None) -> Population:
    return clean(read_jsonl(Source("jsonl", (file,)), DataSettings(str(file), task=task)))


def test_records_become_users_in_order_of_time(tmp_path: Path) -> None:
    lines = [line("b", 2), line("a", 0), line("b", 0, meta={"x": 1}), line("b", 1)]
    population = read(write_lines(tmp_path / "x.jsonl", lines))
    assert [user.user for user in population.users] == ["b", "a"]
    first = population.users[0]
    assert [item.query for item in first.history] == ["b asks 0", "b asks 1", "b asks 2"]
    assert first.at is not None
    assert first.at.line == 1


def test_ties_keep_the_order_of_the_file_and_undated_records_come_first(tmp_path: Path) -> None:
    days = ["2024-01-02", "2024-01-01", None, "2024-01-02", "2024-01-01", None]
    lines = [line("a", n, timestamp=day) for n, day in enumerate(days)]
    (user,) = read(write_lines(tmp_path / "x.jsonl", lines)).users
    assert [item.query[-1] for item in user.history] == ["2", "5", "1", "4", "0", "3"]


def test_duplicates_and_empty_texts_are_dropped_and_counted(tmp_path: Path) -> None:
    lines = [
        line("a", 0),
        line("a", 0),
        line("a", 0, timestamp="2024-02-01"),
        line("a", 1, response="  "),
        line("a", 2, query=None),
        line("", 3),
        line("b", 0, query="a asks 0", response="a hears 0"),
    ]
    population = read(write_lines(tmp_path / "x.jsonl", lines))
    assert [len(user.history) for user in population.users] == [2, 1]
    assert population.dropped == {"no user": 1, "empty text": 2, "duplicate": 1}


def test_numbers_are_users_and_responses_too(tmp_path: Path) -> None:
    lines = [line("a", 0, user_id=7, response=4.0), line("a", 1, user_id=7, response=5)]
    population = read(write_lines(tmp_path / "x.jsonl", lines), task="rating")
    assert population.kind == "rating"
    assert population.users[0].user == "7"
    assert [item.response for item in population.users[0].history] == ["4", "5"]


def test_the_labels_of_a_classification_are_its_distinct_responses(tmp_path: Path) -> None:
    lines = [line("a", n, response=label) for n, label in enumerate(["no", "yes", "", "no"])]
    population = read(write_lines(tmp_path / "x.jsonl", lines), task="classification")
    assert (population.kind, population.labels) == ("classification", ("no", "yes"))


def test_labels_that_differ_in_case_alone_are_one(tmp_path: Path) -> None:
    lines = [line("a", n, response=label) for n, label in enumerate(["Art", "sports", "art"])]
    population = read(write_lines(tmp_path / "x.jsonl", lines), task="classification")
    assert population.labels == ("Art", "sports")
    assert [item.response for item in population.users[0].history] == ["Art", "sports", "Art"]


def test_long_numbers_are_different_users(tmp_path: Path) -> None:
    numbers = [1000001.0, 1000002.0, 10000003, 0.1234567]
    lines = [line("a", n, user_id=number) for n, number in enumerate(numbers)]
    population = read(write_lines(tmp_path / "x.jsonl", lines))
    users = [user.user for user in population.users]
    assert users == ["1000001", "1000002", "10000003", "0.1234567"]


def test_a_lone_surrogate_does_not_get_into_the_texts(tmp_path: Path) -> None:
    file = tmp_path / "x.jsonl"
    file.write_text(r'{"user_id": "a", "query": "q\ud800", "response": "r"}')
    assert read(file).users[0].history[0].query == "q?"


def test_the_name_is_the_folder_s_where_the_file_s_says_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "beer"
    folder.mkdir()
    assert read(write_lines(folder / "interactions.jsonl", [line("a", 0)])).name == "beer"
    assert read(write_lines(folder / "stout.jsonl", [line("a", 0)])).name == "stout"


@pytest.mark.parametrize(
    ("record", "task", "message"),
    [
        ({"user": "a", "query": "q", "response": "r"}, None, "expected the key 'user_id'"),
        (line("a", 1, query=["q"]), None, "expected text under 'query', got a list"),
        (line("a", 1, response=True), None, "expected text under 'response', got a truth value"),
        (line("a", 1, timestamp="soon"), None, "expected a date"),
        (line("a", 1, response="6"), "rating", "expected a rating from 1 to 5"),
        (line("a", 1, response="good"), "rating", "expected a rating from 1 to 5"),
    ],
)
def test_a_bad_record_is_refused_with_file_and_line(
    tmp_path: Path, record: dict[str, object], task: str | None, message: str
) -> None:
    file = write_lines(tmp_path / "x.jsonl", [line("a", 0, response="5"), record])
    with pytest.raises(DataError) as caught:
        read(file, task)
    assert str(caught.value).startswith(f"{file}:2: {message}")


def test_a_missing_key_comes_with_advice(tmp_path: Path) -> None:
    record = {"userid": "a", "query": "q", "response": "r"}
    with pytest.raises(DataError, match="Did you mean 'userid'"):
        read(write_lines(tmp_path / "x.jsonl", [record]))
    with pytest.raises(DataError, match="Add 'response' to the record"):
        read(write_lines(tmp_path / "x.jsonl", [{"query": "q"}]))


def test_a_line_that_is_no_object_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "x.jsonl"
    file.write_text("[1]\n")
    with pytest.raises(DataError, match=r"x\.jsonl:1: expected an object, got a list"):
        read(file)


@pytest.mark.parametrize("content", ["", "\n \n", '{"user_id": "", "query": "", "response": ""}'])
def test_an_empty_file_is_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "x.jsonl"
    file.write_text(content)
    with pytest.raises(DataError, match=r"x\.jsonl:1:1: expected at least one record"):
        read(file)


def test_an_unknown_task_is_refused(tmp_path: Path) -> None:
    file = write_lines(tmp_path / "x.jsonl", [line("a", 0)])
    with pytest.raises(DataError, match="expected the task text, classification, rating"):
        read(file, task="LaMP_4")

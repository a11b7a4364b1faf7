from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from data.writing import HEADLINE, headline, question, write_json, write_lamp
from milp_search.core.errors import DataError
from milp_search.core.records import Interaction
from milp_search.core.settings import DataSettings
from milp_search.data.clean import clean
from milp_search.data.lamp import outputs_file, read_lamp
from milp_search.data.population import Population
from milp_search.data.source import Source

NEWS = (
    "Which category does this article relate to among the following categories? Just answer with "
    "the category name without further explanation. categories: [politics, food & drink] article: "
)
FILM = (
    "Which tag does this movie relate to among the following tags? Just answer with the tag name "
    "without further explanation. tags: [Sci-Fi, comedy] description: "
)
REVIEW = (
    "What is the score of the following review on a scale of 1 to 5? just answer with 1, 2, 3, 4, "
    "or 5 without further explanation. review: "
)
PAPER = "Generate a title for the following abstract of a paper: "


def read(*files: Path, task: str | None = None) -> Population:
    return clean(read_lamp(Source("lamp", files), DataSettings("x", task=task)))


def one(folder: Path, prefix: str, item: dict[str, Any], gold: str, task: str) -> Population:
    write_json(folder / "dev_outputs.json", {"task": task, "golds": [{"id": "0", "output": gold}]})
    asked = {"id": "0", "user_id": "u", "input": f"{prefix}new", "profile": [{"id": "1", **item}]}
    return read(write_json(folder / "dev_questions.json", [asked]))


@pytest.mark.parametrize(
    ("task", "prefix", "item", "gold", "kind", "labels"),
    [
        ("LaMP_2N", NEWS, {"text": "old", "title": "t", "category": "food & drink"}, "politics",
         "classification", ("politics", "food & drink")),
        ("LaMP_2M", FILM, {"description": "old", "tag": "Comedy"}, "sci-fi",
         "classification", ("Sci-Fi", "comedy")),
        ("LaMP_3", REVIEW, {"text": "old", "score": 4}, "5", "rating", ()),
        ("LaMP_4", HEADLINE, {"text": "old", "title": "Old!"}, "New!", "text", ()),
        ("LaMP-5", PAPER, {"abstract": "old", "title": "Old!", "date": 2014}, "New!", "text", ()),
        ("LaMP_1", PAPER.upper(), {}, "", "", ()),
    ],
)  # fmt: skip
def test_profile_items_are_phrased_as_the_question_is(
    tmp_path: Path,
    task: str,
    prefix: str,
    item: dict[str, Any],
    gold: str,
    kind: str,
    labels: tuple[str, ...],
) -> None:
    if not kind:
        with pytest.raises(DataError, match=r"expected a LaMP task .* got 'LaMP_1'"):
            one(tmp_path, prefix, item, gold, task)
        return
    population = one(tmp_path, prefix, item, gold, task)
    assert (population.name, population.kind) == (task.replace("-", "_"), kind)
    assert population.labels == labels
    (user,) = population.users
    answers = {"Comedy": "comedy", "sci-fi": "Sci-Fi"}
    response = str(next(item[key] for key in ("category", "tag", "score", "title") if key in item))
    assert user.history[0].query == f"{prefix}old"
    assert user.history[0].response == answers.get(response, response)
    assert user.queries == (Interaction("u", f"{prefix}new", answers.get(gold, gold)),)


def test_both_files_are_read_and_a_user_in_both_is_one_user(tmp_path: Path) -> None:
    files = [
        write_lamp(tmp_path, [question("1", user_id="u")], {"1": "gold 1"}, "train"),
        write_lamp(tmp_path, [question("1", 5, user_id="u")], {"1": "gold 2"}, "dev"),
    ]
    (user,) = read(*files).users
    # Four profile items are in both profiles.
    assert [item.response for item in user.history] == [f"1 title {n}" for n in range(5)]
    assert [item.response for item in user.queries] == ["gold 1", "gold 2"]


def test_without_user_ids_each_question_is_a_user(tmp_path: Path) -> None:
    files = [
        write_lamp(tmp_path, [question("1"), question("2", user_id=None)], golds(), part)
        for part in ("train", "dev")
    ]
    users = [user.user for user in read(*files).users]
    assert users == ["train-1", "train-2", "dev-1", "dev-2"]


def golds() -> dict[str, str]:
    return {"1": "gold 1", "2": "gold 2"}


def test_profiles_are_put_in_order_of_date(tmp_path: Path) -> None:
    profile = [headline(n) | {"date": f"2024-0{3 - n}-01"} for n in range(3)]
    file = write_lamp(tmp_path, [question("1", profile=profile)], golds())
    assert [item.response for item in read(file).users[0].history] == [
        "title 2", "title 1", "title 0"
    ]  # fmt: skip


def test_empty_texts_and_foreign_labels_are_dropped_and_counted(tmp_path: Path) -> None:
    profile = [{"description": "d", "tag": tag} for tag in ("comedy", "noir", "COMEDY")]
    profile.append({"description": " ", "tag": "comedy"})
    asked = [{"id": "1", "input": f"{FILM}x", "profile": profile}]
    asked.append({"id": "2", "input": FILM, "profile": profile})
    outputs = {"golds": [{"id": i, "output": "comedy"} for i in "12"]}
    write_json(tmp_path / "dev_outputs.json", outputs)
    population = read(write_json(tmp_path / "dev_questions.json", asked))
    assert [len(user.history) for user in population.users] == [1, 1]
    assert [len(user.queries) for user in population.users] == [1, 0]
    assert population.dropped == {
        "response that is no classification of the task": 2, "duplicate": 2, "empty text": 3
    }  # fmt: skip


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ([question("1"), 5], "1:{}: expected an object, got a number"),
        ([question("1"), {"id": "2", "input": HEADLINE}], "1:{}: expected the key 'profile'"),
        ([question("1"), question("2", 0)], "1:{}: expected a user with a history"),
        ([question("1"), question("2", profile={})], "1:{}: expected a list under 'profile'"),
        ([question("1"), question("1")], "1:{}: expected distinct question ids"),
        ([question("1"), question("3")], "1:{}: expected an answer to question '3'"),
        ([question("1"), question("2", profile=[{"text": "t"}])], "1:{}: expected the key 'title'"),
        ([question("1"), question("2", profile=["t"])], "1:{}: expected an object, got a string"),
        ([question("1"), question("2", input="Hello")], "1:{}: expected an input like"),
        ([], "1:1: expected at least one question"),
    ],
)
def test_a_bad_question_is_refused_with_its_place(
    tmp_path: Path, asked: list[Any], message: str
) -> None:
    file = write_lamp(tmp_path, asked, golds())
    # The second record begins after the first one and ", ".
    second = len(write_json(tmp_path / "first", asked[:1]).read_text()) + 2
    with pytest.raises(DataError) as caught:
        read(file)
    assert str(caught.value).startswith(f"{file}:{message.format(second)}")


def test_a_gold_answer_has_to_be_a_label(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected one of the labels"):
        one(tmp_path, FILM, {"description": "old", "tag": "comedy"}, "noir", "LaMP_2M")


def test_missing_doubled_and_malformed_outputs_are_refused(tmp_path: Path) -> None:
    file = write_lamp(tmp_path, [question("1")], golds())
    outputs = outputs_file(file)
    write_json(outputs, {"golds": [{"id": "1", "output": "a"}, {"id": "1", "output": "b"}]})
    with pytest.raises(DataError, match=r"dev_outputs\.json:1:1: expected one answer per question"):
        read(file)
    write_json(outputs, {"answers": []})
    with pytest.raises(DataError, match=r"dev_outputs\.json:1:1: expected the key 'golds'"):
        read(file)
    outputs.unlink()
    with pytest.raises(DataError, match=r"dev_outputs\.json: expected the answers"):
        read(file)


def test_a_file_that_is_no_questions_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected a file named"):
        read(tmp_path / "questions.json")


def test_an_instruction_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    write_json(tmp_path / "dev_outputs.json", {"golds": [{"id": "1", "output": "x"}]})
    file = write_json(tmp_path / "dev_questions.json", [question("1", input="Sing: x")])
    with pytest.raises(DataError, match=r":1:2: expected the instruction of a LaMP task"):
        read(file)


def test_the_settings_task_overrules_the_file_s(tmp_path: Path) -> None:
    file = write_lamp(tmp_path, [question("1")], golds())
    assert read(file, task="lamp-4").name == "LaMP_4"
    with pytest.raises(DataError, match="got 'LaMP_9'"):
        read(file, task="LaMP_9")

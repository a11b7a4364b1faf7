from __future__ import annotations

from pathlib import Path

import pytest

from data.writing import headline, line, question, write_json, write_lamp, write_lines
from milp_search.core.errors import DataError
from milp_search.core.settings import DataSettings
from milp_search.data.locate import locate
from milp_search.data.source import Source

OPPU = [{"user_id": "a", "profile": [headline(0)], "query": [{}]}]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder laid out as a data set with everything in it."""
    write_lines(tmp_path / "interactions.jsonl", [line("a", 0)])
    write_lines(tmp_path / "profiles.jsonl", [])
    for task in ("LaMP_4", "LaMP_5"):
        write_lamp(tmp_path / "lamp" / task, [question("1")], {"1": "x"}, "train")
        write_lamp(tmp_path / "lamp" / task, [question("1")], {"1": "x"}, "dev")
        write_json(tmp_path / "lamp" / task / "user_top_100_history.json", OPPU)
    write_json(tmp_path / "raw" / "dialogues_3_cleaned.json", [[]])
    return tmp_path


def found(path: Path | str, task: str | None = None, format: str = "auto") -> str:
    source = locate(DataSettings(str(path), format, task))  # type: ignore[arg-type]
    return f"{source.format} " + " ".join(file.name for file in source.files)


@pytest.mark.parametrize(
    ("task", "format", "expected"),
    [
        (None, "auto", "jsonl interactions.jsonl"),
        ("text", "auto", "jsonl interactions.jsonl"),
        ("rating", "auto", "jsonl interactions.jsonl"),
        ("LaMP_4", "auto", "lamp dev_questions.json train_questions.json"),
        ("lamp-5", "lamp", "lamp dev_questions.json train_questions.json"),
        ("LaMP_4", "oppu", "oppu user_top_100_history.json"),
        ("dialogues", "auto", "malp dialogues_3_cleaned.json"),
        (None, "malp", "malp dialogues_3_cleaned.json"),
    ],
)
def test_a_folder_s_data_are_chosen_by_format_and_task(
    folder: Path, task: str | None, format: str, expected: str
) -> None:
    assert found(folder, task, format) == expected


def test_a_task_folder_is_found_as_it_is_whatever_its_name(folder: Path) -> None:
    own = folder / "lamp" / "LaMP_4"
    assert found(own) == "lamp dev_questions.json train_questions.json"
    assert found(own, format="oppu") == "oppu user_top_100_history.json"
    mine = own.rename(own.with_name("mine"))
    assert found(mine, "LaMP_4") == "lamp dev_questions.json train_questions.json"
    assert found(folder / "lamp", "LaMP_5") == "lamp dev_questions.json train_questions.json"


def test_unanswered_test_questions_of_lamp_are_passed_over(folder: Path) -> None:
    own = folder / "lamp" / "LaMP_4"
    write_json(own / "test_questions.json", [])
    assert found(own) == "lamp dev_questions.json train_questions.json"
    write_json(own / "test_outputs.json", {})
    assert found(own) == "lamp dev_questions.json test_questions.json train_questions.json"


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("x.jsonl", "", "jsonl"),
        ("x.ndjson", "[", "jsonl"),
        ("x.json", ' \n{"user_id": 1}', "jsonl"),
        ("train_questions.json", "", "lamp"),
        ("x.json", '[{"user_id": 1, "profile": [], "query": []}]', "oppu"),
        ("x.json", "\ufeff[[{}]]", "malp"),
    ],
)
def test_a_file_is_recognised(tmp_path: Path, name: str, content: str, expected: str) -> None:
    file = tmp_path / name
    file.write_text(content, encoding="utf-8")
    assert found(file) == f"{expected} {name}"


def test_a_named_format_is_believed(tmp_path: Path) -> None:
    file = write_json(tmp_path / "x.json", [[]])
    assert found(file, format="oppu") == "oppu x.json"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.json", '[{"user_id": 1}]'),
        ("x.json", "[]"),
        ("x.json", ""),
        ("x.csv", "user_id,query"),
        ("dev_outputs.json", '{"golds": []}'),
    ],
)
def test_an_unknown_file_is_refused(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=f"{name}:1:1: expected data in one of the formats jsonl"):
        found(tmp_path / name)


def test_ambiguous_data_are_refused_with_a_list(folder: Path) -> None:
    with pytest.raises(DataError) as caught:
        found(folder, format="oppu")
    assert "expected one data set, got oppu (task LaMP_4): " in str(caught.value)
    assert "; oppu (task LaMP_5): " in str(caught.value)
    (folder / "interactions.jsonl").rename(folder / "more.jsonl")
    with pytest.raises(DataError, match=r"got jsonl: .*more\.jsonl; jsonl: .*profiles\.jsonl"):
        found(folder)


@pytest.mark.parametrize(
    ("path", "message"),
    [("~nobody-of-this-name/x", "Could not determine home"), ("x" * 300, "File name too long")],
)
def test_a_path_that_cannot_be_looked_at_is_refused(path: str, message: str) -> None:
    with pytest.raises(DataError, match=f"expected a path that can be read, got: {message}"):
        locate(DataSettings(path))


def test_missing_data_are_refused_with_a_list(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"for the task 'LaMP_3', got jsonl: .*; lamp \(task LaMP"):
        found(folder, "LaMP_3")
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(DataError, match="got nothing that looks like one"):
        found(empty)
    with pytest.raises(DataError, match="none: expected a file or folder with data"):
        found(tmp_path / "none")


def test_without_a_path_the_population_is_synthetic() -> None:
    assert locate(DataSettings()) == Source("synthetic")
    assert str(locate(DataSettings(format="synthetic"))) == "synthetic: built in"
    with pytest.raises(DataError, match="expected a path for the format 'lamp'"):
        locate(DataSettings(format="lamp"))
    with pytest.raises(DataError, match="expected no path for the format 'synthetic'"):
        locate(DataSettings("x.jsonl", format="synthetic"))


@pytest.mark.parametrize("name", ["hub:me/diary", "hf://datasets/me/diary/all.jsonl"])
def test_a_hub_name_is_read_as_json_lines(name: str) -> None:
    assert locate(DataSettings(name)) == Source("jsonl", hub=name)
    assert str(locate(DataSettings(name, format="jsonl"))) == f"jsonl: {name}"
    with pytest.raises(DataError, match="expected a file or folder for the format 'oppu'"):
        locate(DataSettings(name, format="oppu"))

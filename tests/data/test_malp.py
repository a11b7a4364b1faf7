from __future__ import annotations

from pathlib import Path

import pytest

from data.writing import write_json
from milp_search.core.errors import DataError
from milp_search.core.settings import DataSettings
from milp_search.data.clean import clean
from milp_search.data.malp import read_malp
from milp_search.data.population import Population
from milp_search.data.source import Source

ERROR = "Error Networking, check your network"


def dialogue(*rounds: tuple[str | None, str | None]) -> list[object]:
    return [{str(n): {"Assistant": a, "User": u}} for n, (u, a) in enumerate(rounds)]


def read(folder: Path, *dialogues: object) -> Population:
    file = write_json(folder / "dialogues_1_cleaned.json", [*dialogues])
    return clean(read_malp(Source("malp", (file,)), DataSettings(str(file))))


def test_six_rounds_pair_as_the_generator_spoke_them(tmp_path: Path) -> None:
    rounds = [(f"u{n}", f"a{n}") for n in range(6)]
    (user,) = read(tmp_path, dialogue(*rounds)).users
    assert user.user == "dialogues_1_0000"
    assert [(item.query, item.response) for item in user.history] == [
        ("u0", "a1"), ("u1", "a2"), ("u2", "a3"), ("u3", "a4"), ("u5", "a5"),
    ]  # fmt: skip
    assert {item.time for item in user.history} == {None}


def test_roles_and_quotes_around_a_turn_are_stripped(tmp_path: Path) -> None:
    rounds = [("", "Hello"), ('"Patient: My ear"', 'Doctor:  "Which ear?"')]
    (user,) = read(tmp_path, dialogue(*rounds)).users
    # The opening quote goes with the role; a closing one alone is part of the text.
    assert [(i.query, i.response) for i in user.history] == [('My ear"', "Which ear?")]


def test_empty_turns_and_error_texts_are_dropped_and_counted(tmp_path: Path) -> None:
    rounds = [("u0", "a0"), (None, "a1"), ("u2", "a2"), ("u3", f"Doctor: {ERROR}."), ("u4", "a4")]
    population = read(tmp_path, dialogue(*rounds), dialogue(("u", "a")))
    assert [(i.query, i.response) for i in population.users[0].history] == [
        ("u0", "a1"), ("u4", "a4"),
    ]  # fmt: skip
    assert population.users[1].history == ()
    assert population.dropped == {"empty text": 1, "generation error in place of a turn": 1}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"0": {}}, "1:2: expected a dialogue as a list, got an object"),
        (["hello"], "1:2: expected an object, got a string"),
        ([{"1": {"User": "u", "Assistant": "a"}}], "1:2: expected an object, got null"),
        ([{"0": {"User": "u"}}], "1:2: expected the key 'Assistant'"),
    ],
)
def test_a_bad_dialogue_is_refused_with_its_place(
    tmp_path: Path, value: object, message: str
) -> None:
    with pytest.raises(DataError) as caught:
        read(tmp_path, value)
    assert f"dialogues_1_cleaned.json:{message}" in str(caught.value)


def test_a_file_without_dialogues_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="1:1: expected at least one dialogue"):
        read(tmp_path)


def test_a_file_beside_its_cleaned_copy_is_refused(tmp_path: Path) -> None:
    names = ("dialogues_1.json", "dialogues_1_cleaned.json", "dialogues_2.json")
    files = tuple(write_json(tmp_path / name, [dialogue(("u", "a"))]) for name in names)
    both = r"_cleaned\.json: expected dialogues once, got dialogues_1\.json and dialogues_1_cleaned"
    with pytest.raises(DataError, match=both):
        read_malp(Source("malp", files), DataSettings(str(tmp_path)))
    users = read_malp(Source("malp", files[1:]), DataSettings(str(tmp_path))).users
    assert [user.user for user in users] == ["dialogues_1_0000", "dialogues_2_0000"]

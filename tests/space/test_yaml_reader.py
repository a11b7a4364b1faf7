"""Reading YAML: what is understood, what is refused, and where errors point."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from pydantic import BaseModel

from milp_search.core.errors import SpecError
from milp_search.core.settings import TrainingSettings
from milp_search.core.trial import Objective
from milp_search.space.yaml_reader import MAX_BYTES, read_yaml, validate


class Study(BaseModel, extra="forbid", frozen=True):
    name: str
    layers: int | str = 1
    folder: Path | None = None
    training: TrainingSettings = TrainingSettings()
    objectives: tuple[Objective, ...] = ()


def write(folder: Path, content: str | bytes) -> Path:
    file = folder / "study.yaml"
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return file


def refusal(folder: Path, content: str | bytes) -> tuple[str, str]:
    """Returns the message without the folder, and the remedy, of a file that is refused."""
    with pytest.raises(SpecError) as caught:
        validate(read_yaml(write(folder, content)), Study)
    message, remedy = str(caught.value).split("\n  ")
    return message.removeprefix(f"{folder}/"), remedy


def test_the_scalars_of_yaml_1_2_become_plain_python(tmp_path: Path) -> None:
    text = (
        "a: 1\nb: -2.5\nc: 5e-4\nd: true\ne: null\nf: '1'\ng: yes\nh: 2024-01-01\ni:\nj: [1, x]\n"
    )
    assert read_yaml(write(tmp_path, text)).data == {
        "a": 1,
        "b": -2.5,
        "c": 5e-4,
        "d": True,
        "e": None,
        "f": "1",
        "g": "yes",
        "h": "2024-01-01",
        "i": None,
        "j": [1, "x"],
    }


def test_a_byte_order_mark_and_windows_line_ends_do_not_matter(tmp_path: Path) -> None:
    document = read_yaml(write(tmp_path, b"\xef\xbb\xbfname: a\r\nlayers: 3\r\n"))
    assert document.data == {"name": "a", "layers": 3}
    assert str(document.location(("layers",))).endswith("study.yaml:2:1")


def test_a_location_is_the_key_or_the_list_item(tmp_path: Path) -> None:
    document = read_yaml(write(tmp_path, "a:\n  b: 1\n  c: [10, 20]\n"))
    assert document.positions == {
        ("a",): (1, 1),
        ("a", "b"): (2, 3),
        ("a", "c"): (3, 3),
        ("a", "c", 0): (3, 7),
        ("a", "c", 1): (3, 11),
    }


def test_a_missing_key_stands_where_its_parent_does(tmp_path: Path) -> None:
    document = read_yaml(write(tmp_path, "x: 1\na:\n  b: 1\n"))
    assert str(document.location(("a", "z", 3))).endswith(":2:1")
    assert str(document.location(("z",))).endswith(":1:1")


def test_steps_that_are_no_keys_are_left_out_of_a_path(tmp_path: Path) -> None:
    document = read_yaml(write(tmp_path, "a:\n  - {b: 1}\n"))
    assert document.key_path(("a", "list[B]", 0, "B", "b", "int")) == ("a", 0, "b")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "1:1: expected a mapping of keys to values, got an empty file"),
        ("# only a comment\n", "1:1: expected a mapping of keys to values, got an empty file"),
        ("- a\n", "1:1: expected a mapping of keys to values at the top level"),
        ("a: 1\nb: 2\na: 3\n", "3:1: expected each key once, got 'a' again (first in line 1)"),
        ("a: &x 1\n", "1:4: expected plain values, got an anchor (&) or alias (*)"),
        ("a: *x\n", "1:4: expected plain values, got an anchor (&) or alias (*)"),
        ("a: !!int 1\n", "1:4: expected plain values, got the tag 'tag:yaml.org,2002:int'"),
        ("[1, 2]: 1\n", "1:1: expected a name as key, got a list or mapping"),
        ("a: 1\n? [1, 2]\n: 1\n", "2:3: expected a name as key, got a list or mapping"),
        ("a: 1\n---\nb: 2\n", "2:1: expected one document, got a second one"),
        ("a: .inf\n", "1:4: expected a finite number, got '.inf'"),
        ("a: 1e999\n", "1:4: expected a finite number, got '1e999'"),
        ("a: " + "9" * 101, "1:4: expected a number of at most 100 digits"),
        ("a: " + "[" * 32, "1:35: expected at most 32 levels of nesting, got more"),
        ("a: \x07\n", "1:4: expected printable text, got the character U+0007"),
        ('a: "\\ud800"', "1:4: expected characters of Unicode, got half a surrogate pair"),
        ('a: "\\UFFFFFFFF"', "1: expected characters of Unicode, got an escape beyond"),
        (b"a: 1\nb: \xff\n", "2:4: expected UTF-8 text, got the byte 0xff"),
    ],
)
def test_what_is_no_plain_mapping_is_refused_at_its_place(
    tmp_path: Path, text: str | bytes, message: str
) -> None:
    assert refusal(tmp_path, text)[0] == f"study.yaml:{message}"


def test_a_syntax_error_points_at_the_place(tmp_path: Path) -> None:
    message, _ = refusal(tmp_path, "a: 1\nb: [1, 2\n")
    assert message.startswith("study.yaml:3:1: expected YAML, but while parsing a flow sequence")


def test_too_many_bytes_and_too_many_values_are_refused(tmp_path: Path) -> None:
    assert "at most 1048576 bytes" in refusal(tmp_path, "a: " + "x" * MAX_BYTES)[0]
    assert "at most 20000 values" in refusal(tmp_path, "a: [" + "x," * 20_000 + "]")[0]


def test_many_nested_brackets_are_refused_fast(tmp_path: Path) -> None:
    file = write(tmp_path, "a: " + "[" * 500_000)
    start = time.process_time()
    with pytest.raises(SpecError):
        read_yaml(file)
    assert time.process_time() - start < 1


def test_a_missing_file_suggests_the_one_beside_it(tmp_path: Path) -> None:
    write(tmp_path, "a: 1")
    with pytest.raises(SpecError, match=r"found none\n  did you mean `study.yaml`\?"):
        read_yaml(tmp_path / "stduy.yaml")
    with pytest.raises(SpecError, match=r"found none\n  check the path"):
        read_yaml(tmp_path / "nowhere" / "study.yaml")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="expected a file, got a folder"):
        read_yaml(tmp_path)


def test_a_path_that_cannot_be_opened_is_refused() -> None:
    with pytest.raises(SpecError, match="expected a readable file: embedded null byte"):
        read_yaml("a\0b")


def test_text_becomes_typed_values(tmp_path: Path) -> None:
    text = """
name: a
folder: here
training: {learning_rate: 1}
objectives:
  - {metric: loss, direction: minimize, reference: 3}
"""
    study = validate(read_yaml(write(tmp_path, text)), Study)
    assert study.folder == Path("here")
    assert study.training == TrainingSettings(learning_rate=1.0)
    assert study.objectives == (Objective("loss", "minimize", 3.0),)


@pytest.mark.parametrize(
    ("text", "message", "remedy"),
    [
        ("layers: 2\n", "1:1: expected the key 'name', got none", "add `name:`"),
        ("\nnmae: a\n", "2:1: unknown key 'nmae'", "did you mean `name`?"),
        ("name: 5\n", "1:1: name: expected text, got 5", "correct `name`"),
        ("name: a\nlayers: [2]", "2:1: layers: expected a valid integer or text, got [2]", None),
        ("name: a\ntraining: 3", "2:1: training: expected a mapping, got 3", None),
        ("name: a\nobjectives: 3", "2:1: objectives: expected a list, got 3", None),
        (
            "name: a\ntraining:\n  batch_size: '8'\n",
            "3:3: training.batch_size: expected a valid integer, got '8'",
            None,
        ),
        (
            "name: a\ntraining:\n  batch_size: 8\n  lerning_rate: 1\n",
            "4:3: unknown key 'training.lerning_rate'",
            "did you mean `learning_rate`?",
        ),
        (
            "name: a\nobjectives:\n  - {metric: loss, directoin: minimize}\n",
            "3:20: unknown key 'objectives.0.directoin'",
            "did you mean `direction`?",
        ),
        (
            "name: a\nobjectives:\n  - metric: loss\n",
            "3:5: expected the key 'direction' in 'objectives.0', got none",
            "add `direction:`",
        ),
    ],
)
def test_values_of_the_wrong_kind_are_refused_at_their_key(
    tmp_path: Path, text: str, message: str, remedy: str | None
) -> None:
    got, got_remedy = refusal(tmp_path, text)
    assert got == f"study.yaml:{message}"
    if remedy is not None:
        assert got_remedy == remedy


def test_an_error_of_our_own_keeps_its_message_and_remedy(tmp_path: Path) -> None:
    class Picky(BaseModel):
        name: str

        def model_post_init(self, _: object) -> None:
            raise SpecError("expected better", remedy="do better")

    with pytest.raises(SpecError, match=r"study.yaml:1:1: expected better\n  do better"):
        validate(read_yaml(write(tmp_path, "name: a")), Picky)


def test_a_value_error_of_a_validator_is_told_as_it_is(tmp_path: Path) -> None:
    class Picky(BaseModel):
        name: str

        def model_post_init(self, _: object) -> None:
            raise ValueError("no such name")

    with pytest.raises(SpecError, match=r"study.yaml:1:1: no such name\n  correct the file"):
        validate(read_yaml(write(tmp_path, "name: a")), Picky)

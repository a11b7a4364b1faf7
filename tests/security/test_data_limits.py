"""Users' data, a model's configuration and our own files cannot crash us or hold us up."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from adapters.making import llama
from milp_search.adapters.base_model import read_config
from milp_search.adapters.export import read_manifest
from milp_search.core.errors import DataError, Location, ModelError
from milp_search.core.settings import DataSettings
from milp_search.data.fields import as_text
from milp_search.data.load import load_task
from milp_search.data.malp import read_malp
from milp_search.data.read_json import MAX_BYTES, json_array, json_lines
from milp_search.data.source import Source

GOOD = '{"user_id": "u", "query": "q", "response": "r", "timestamp": 1'

# What ends the third line of a file, and what is said of it.
BAD_VALUES = {
    "a repeated key": (', "query": "x"}', "expected each key once, got 'query' again"),
    "NaN": (', "a": NaN}', "expected a finite number, got 'NaN'"),
    "Infinity": (', "a": -Infinity}', "expected a finite number, got '-Infinity'"),
    "1e400": (', "a": 1e400}', "expected a finite number, got '1e400'"),
    "10^5 digits": (f', "a": {"9" * 10**5}}}', "expected a number of at most 100 digits"),
    "depth": (', "a": ' + "[" * 10**5, "nested too deeply"),
    "depth of objects": (', "a": ' + '{"a":' * 10**5, "nested too deeply"),
    "no end": (', "a": "' + "x" * 10**5, "bad JSON"),
    "a zero byte": (', "a": "\0"}', "bad JSON"),
}


@pytest.mark.parametrize("kind", BAD_VALUES)
def test_a_bad_record_is_refused_at_its_line(kind: str, tmp_path: Path) -> None:
    end, message = BAD_VALUES[kind]
    file = tmp_path / "data.jsonl"
    file.write_text(f"{GOOD}}}\n{GOOD}}}\n{GOOD}{end}\n")
    with pytest.raises(DataError, match=rf"data\.jsonl:3(:\d+)?: .*{message}") as refused:
        load_task(DataSettings(path=str(file)))
    assert len(str(refused.value)) < 1000


@pytest.mark.parametrize("kind", BAD_VALUES)
def test_a_bad_item_of_an_array_is_refused_at_its_line(kind: str, tmp_path: Path) -> None:
    end, message = BAD_VALUES[kind]
    file = tmp_path / "data.json"
    file.write_text(f"[{GOOD}}},\n{GOOD}{end}]\n")
    with pytest.raises(DataError, match=rf"data\.json:2(:\d+)?: .*{message}"):
        list(json_array(file))


def test_a_file_beyond_any_data_set_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "data.jsonl"
    file.touch()
    os.truncate(file, MAX_BYTES + 1)  # takes no room
    with pytest.raises(DataError, match=r"expected a file of at most 4294967296 bytes"):
        next(json_lines(file))


def test_plain_numbers_are_read_as_they_are(tmp_path: Path) -> None:
    file = tmp_path / "data.jsonl"
    file.write_text('{"a": 12, "b": -1.5e3, "c": {"a": 1}}\n')
    assert next(json_lines(file))[1] == {"a": 12, "b": -1500.0, "c": {"a": 1}}


def seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def test_a_record_with_very_many_keys_is_refused_soon_and_in_short() -> None:
    record = {f"query{n}": "x" for n in range(200_000)}

    def refuse() -> None:
        with pytest.raises(DataError, match=r"expected the key 'query', got \['query0'") as refused:
            as_text(record, "query", Location("f"))
        assert len(str(refused.value)) < 1000

    assert seconds(refuse) < 1


def lamp(folder: Path, text: str) -> DataSettings:
    """Writes a news question of which the categories are `text`."""
    asked = (
        "Which category does this article relate to among the following categories? Just answer "
        f"with the category name without further explanation. categories: {text} article: "
    )
    item = {"text": "t", "title": "t", "category": "a", "id": "1", "date": "2020"}
    question = {"id": "1", "input": f"{asked}x", "profile": [item] * 5}
    (folder / "train_questions.json").write_text(json.dumps([question]))
    golds = {"task": "LaMP_2N", "golds": [{"id": "1", "output": "a"}]}
    (folder / "train_outputs.json").write_text(json.dumps(golds))
    return DataSettings(path=str(folder / "train_questions.json"), task="LaMP_2N")


def test_a_question_of_brackets_takes_no_time(tmp_path: Path) -> None:
    settings = lamp(tmp_path, "[" * 300_000)

    def load() -> None:
        with pytest.raises(DataError):
            load_task(settings)

    assert seconds(load) < 2


def test_a_turn_of_spaces_takes_no_time(tmp_path: Path) -> None:
    turn = f'"{" " * 300_000}x'
    rounds = [{str(n): {"User": turn, "Assistant": turn}} for n in range(4)]
    (tmp_path / "dialogues.json").write_text(json.dumps([rounds]))
    source = Source("malp", (tmp_path / "dialogues.json",))
    assert seconds(lambda: read_malp(source, DataSettings())) < 2


# --- a base model's configuration ------------------------------------------------------------


def configured(folder: Path, **values: object) -> str:
    llama(layers=1).model.config.save_pretrained(folder)
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))
    return str(folder)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num_hidden_layers": 10**9}, "num_hidden_layers of at most 1024, got 1000000000"),
        ({"num_hidden_layers": 1025}, "num_hidden_layers of at most 1024, got 1025"),
        ({"model_type": "gpt2", "n_layer": 10**9}, "n_layer of at most 1024"),
        ({"model_type": "bart", "encoder_layers": 10**6}, "encoder_layers of at most 1024"),
        ({"text_config": {"num_hidden_layers": 10**9}}, "num_hidden_layers of at most 1024"),
        ({"vocab_size": 10**12}, "vocab_size of at most 2147483648"),
        ({"hidden_size": -(10**12)}, "hidden_size of at most 2147483648"),
    ],
)
def test_a_configuration_that_would_be_built_for_ever_is_refused(
    tmp_path: Path, values: dict[str, object], message: str
) -> None:
    folder = configured(tmp_path, **values)

    def refuse() -> None:
        with pytest.raises(ModelError, match=message):
            read_config(folder)

    assert seconds(refuse) < 1


def test_a_configuration_of_a_known_depth_is_taken(tmp_path: Path) -> None:
    assert read_config(configured(tmp_path, num_hidden_layers=1024)).num_hidden_layers == 1024


@pytest.mark.parametrize("text", ["[" * 10**5, '{"a": ' * 10**5, "[]", "7", "{", "\0"])
def test_a_configuration_that_is_no_object_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ModelError, match="cannot read base model"):
        read_config(str(tmp_path))


def test_a_configuration_larger_than_any_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "config.json").touch()
    os.truncate(tmp_path / "config.json", 33 * 2**20)
    with pytest.raises(ModelError, match="a file of at most 32 MiB"):
        read_config(str(tmp_path))


# --- our own files ---------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["[" * 10**5, '{"users": []}', '{"users": {', "null", "\0"])
def test_a_manifest_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(ModelError, match=r"manifest\.json"):
        read_manifest(tmp_path)

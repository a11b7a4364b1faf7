from __future__ import annotations

from pathlib import Path

import pytest

from milp_search.core.errors import DataError
from milp_search.data.read_json import json_array, json_lines, json_object


def failure(call: object, file: Path) -> str:
    with pytest.raises(DataError) as caught:
        list(call(file))  # type: ignore[operator]
    return str(caught.value).removeprefix(f"{file}:")


def written(folder: Path, content: bytes) -> Path:
    file = folder / "file.json"
    file.write_bytes(content)
    return file


def test_array_items_carry_line_and_column(tmp_path: Path) -> None:
    file = written(tmp_path, b'[\n  {"a": 1},\n\n  [2], 3]\n')
    places = [(at.line, at.column, value) for at, value in json_array(file)]
    assert places == [(2, 3, {"a": 1}), (4, 3, [2]), (4, 8, 3)]


def test_an_empty_array_has_no_items(tmp_path: Path) -> None:
    assert list(json_array(written(tmp_path, b" [ ] \n"))) == []


def test_byte_order_mark_and_crlf_are_no_part_of_the_data(tmp_path: Path) -> None:
    file = written(tmp_path, b'\xef\xbb\xbf{"a": 1}\r\n\r\n{"a": 2}\r\n')
    assert [(at.line, value) for at, value in json_lines(file)] == [(1, {"a": 1}), (3, {"a": 2})]
    array = written(tmp_path, b"\xef\xbb\xbf[\r\n1]\r\n")
    assert [value for _, value in json_array(array)] == [1]


def test_a_unicode_line_separator_inside_a_string_ends_no_record(tmp_path: Path) -> None:
    file = written(tmp_path, '"a\u2028b"\n'.encode())
    assert [value for _, value in json_lines(file)] == ["a\u2028b"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'[1,\n {"a" 2}]', "2:7: bad JSON: Expecting ':' delimiter"),
        (b"[1,\n", "2:1: bad JSON: Expecting value"),
        (b"[1 2]", "1:4: expected ',', got '2'"),
        (b"[1", "1:3: expected ',', got the end"),
        (b'{"a": 1}', "1:1: expected '[', got '{'"),
        (b"[1]\n[2]", "2:1: expected the end of the file"),
        (b"[]\n[2]", "2:1: expected the end of the file"),
        (b'["x",\n "caf\xe9"]', "2:6: expected UTF-8 text, got the byte 0xe9"),
        (b"[" * 100_000, "1:2: JSON is nested too deeply"),
    ],
)
def test_a_broken_array_is_refused_with_its_place(
    tmp_path: Path, content: bytes, message: str
) -> None:
    assert failure(json_array, written(tmp_path, content)).startswith(message)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"a": 1}\n{"a": }\n', "2:7: bad JSON: Expecting value"),
        (b'1\n2\n"caf\xe9"\n', "3:5: expected UTF-8 text, got the byte 0xe9"),
        (b"1\n" + b"[" * 100_000, "2: JSON is nested too deeply"),
    ],
)
def test_a_broken_line_is_refused_with_its_place(
    tmp_path: Path, content: bytes, message: str
) -> None:
    assert failure(json_lines, written(tmp_path, content)).startswith(message)


def test_an_object_is_required_where_one_is_read(tmp_path: Path) -> None:
    message = failure(json_object, written(tmp_path, b"[1]"))
    assert message == "1:1: expected a JSON object, got a list"


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No such file or directory"):
        list(json_lines(tmp_path / "none.jsonl"))

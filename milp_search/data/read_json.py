"""Reads JSON and JSON Lines with the place of every record, so that each error can name it.

The standard library does it: a syntax error's line and column and the position of a record are
what a user needs, and `datasets` reports neither, writes a cache outside of the run directory and
takes a second to import. It is the home of hub data sets only (`hub.py`).
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from milp_search.core.errors import DataError, Location

Located = tuple[Location, Any]

_SPACE = re.compile(r"[ \t\r\n]*")
_DECODER = json.JSONDecoder()


def read_bytes(file: Path) -> bytes:
    """Returns the file's bytes without a byte order mark.

    Raises DataError if the file cannot be read.
    """
    try:
        return file.read_bytes().removeprefix(codecs.BOM_UTF8)
    except OSError as error:
        raise DataError(
            f"cannot read the file: {error.strerror}",
            at=Location(file),
            remedy="Check the path and the permissions.",
        ) from error


def decode(raw: bytes, file: Path, *, first_line: int = 1) -> str:
    """Returns UTF-8 bytes as text.

    Raises DataError if the bytes are not UTF-8; the error names line and column (in bytes).
    """
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = first_line + raw.count(b"\n", 0, error.start)
        column = error.start - raw.rfind(b"\n", 0, error.start)
        raise DataError(
            f"expected UTF-8 text, got the byte 0x{raw[error.start]:02x}",
            at=Location(file, line, column),
            remedy="Convert the file to UTF-8.",
        ) from error


def json_lines(file: Path) -> Iterator[Located]:
    """Yields every record of a JSON Lines file; blank lines are skipped.

    Lines end with LF or CRLF only: U+2028 and its kind may stand inside a JSON string.

    Raises DataError for bad encoding or syntax, with line and column.
    """
    for number, raw in enumerate(read_bytes(file).split(b"\n"), start=1):
        text = decode(raw, file, first_line=number)
        if not text.isspace() and text:
            yield Location(file, number), _parse_line(text, file, number)


def json_array(file: Path) -> Iterator[Located]:
    """Yields every item of a JSON file that holds one array.

    Raises DataError for bad encoding or syntax, or something else than an array, with line and
    column.
    """
    text = decode(read_bytes(file), file)
    places = _Places(file, text)
    position = _expect(text, _skip_space(text, 0), "[", places)
    if text[position : position + 1] == "]":
        return _expect_end(text, position + 1, places)
    while True:
        value, end = _decode_value(text, position, places)
        yield places.at(position), value
        end = _skip_space(text, end)
        if text[end : end + 1] == "]":
            return _expect_end(text, end + 1, places)
        position = _expect(text, end, ",", places)


def json_object(file: Path) -> dict[str, Any]:
    """Returns the object that a JSON file holds.

    Raises DataError for bad encoding or syntax, or something else than an object.
    """
    text = decode(read_bytes(file), file)
    places = _Places(file, text)
    value, end = _decode_value(text, _skip_space(text, 0), places)
    _expect_end(text, end, places)
    if not isinstance(value, dict):
        raise DataError(f"expected a JSON object, got {type_name(value)}", at=Location(file, 1, 1))
    return value


def first_character(file: Path) -> str:
    """Returns the first character of a file that is not white space; empty if there is none."""
    return decode(read_bytes(file), file).lstrip()[:1]


def type_name(value: object) -> str:
    """Returns a JSON value's type in words."""
    names: dict[type, str] = {
        dict: "an object", list: "a list", str: "a string", bool: "a truth value",
        int: "a number", float: "a number", type(None): "null",
    }  # fmt: skip
    return names.get(type(value), type(value).__name__)


class _Places:
    """Turns ascending offsets in a text into lines and columns, each line counted once."""

    def __init__(self, file: Path, text: str):
        self._file, self._text = file, text
        self._offset, self._line = 0, 1

    def at(self, offset: int) -> Location:
        """Returns the place of an offset, which is not less than the last one asked for."""
        self._line += self._text.count("\n", self._offset, offset)
        self._offset = offset
        return Location(self._file, self._line, offset - self._text.rfind("\n", 0, offset))


def _skip_space(text: str, position: int) -> int:
    found = _SPACE.match(text, position)
    return found.end() if found else position


def _expect(text: str, position: int, character: str, places: _Places) -> int:
    got = text[position : position + 1]
    if got != character:
        raise DataError(
            f"expected {character!r}, got {got!r}"
            if got
            else f"expected {character!r}, got the end",
            at=places.at(position),
            remedy="The file has to hold one complete JSON array.",
        )
    return _skip_space(text, position + 1)


def _expect_end(text: str, position: int, places: _Places) -> None:
    position = _skip_space(text, position)
    if position < len(text):
        raise DataError(
            "expected the end of the file after the JSON value, got more text",
            at=places.at(position),
            remedy="Remove what follows, or name the file .jsonl if each line is a record.",
        )


def _decode_value(text: str, position: int, places: _Places) -> tuple[Any, int]:
    try:
        return _DECODER.raw_decode(text, position)
    except json.JSONDecodeError as error:
        # The end of the text may be reported as the place before it.
        at = places.at(max(error.pos, position))
        raise DataError(f"bad JSON: {error.msg}", at=at, remedy="Correct the syntax.") from error
    except RecursionError as error:
        raise _too_deep(places.at(position)) from error


def _parse_line(text: str, file: Path, number: int) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(
            f"bad JSON: {error.msg}",
            at=Location(file, number, error.colno),
            remedy="Each line has to hold one JSON object.",
        ) from error
    except RecursionError as error:
        raise _too_deep(Location(file, number)) from error


def _too_deep(at: Location) -> DataError:
    return DataError("JSON is nested too deeply", at=at, remedy="Flatten the record.")

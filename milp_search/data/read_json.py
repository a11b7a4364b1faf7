"""Reads JSON and JSON Lines with the place of every record, so that each error can name it.

The standard library does it: a syntax error's line and column and the position of a record are
what a user needs, and `datasets` reports neither, writes a cache outside of the run directory and
takes a second to import. It is the home of hub data sets only (`hub.py`).
"""

from __future__ import annotations

import codecs
import json
import math
import re
import reprlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from milp_search.core.errors import DataError, Location

Located = tuple[Location, Any]

# ours: the largest data set we know, LaMP's e-mails, has half of it, and it has to fit in memory.
MAX_BYTES = 4 * 2**30
# Python itself refuses to convert integers of more than 4300 digits.
MAX_DIGITS = 100

_SPACE = re.compile(r"[ \t\r\n]*")


def read_bytes(file: Path) -> bytes:
    """Returns the file's bytes without a byte order mark.

    Raises DataError if the file cannot be read, or is larger than any data set.
    """
    try:
        size = file.stat().st_size
        content = b"" if size > MAX_BYTES else file.read_bytes()
    except OSError as error:
        raise DataError(
            f"cannot read the file: {error.strerror}",
            at=Location(file),
            remedy="Check the path and the permissions.",
        ) from error
    if size > MAX_BYTES:
        raise DataError(
            f"expected a file of at most {MAX_BYTES} bytes, got {size}",
            at=Location(file),
            remedy="Check that this is the file you meant, or take a part of it.",
        )
    return content.removeprefix(codecs.BOM_UTF8)


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
    except (RecursionError, _RefusedValue) as error:
        raise _refusal(error, places.at(position)) from error


def _parse_line(text: str, file: Path, number: int) -> Any:
    try:
        return _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise DataError(
            f"bad JSON: {error.msg}",
            at=Location(file, number, error.colno),
            remedy="Each line has to hold one JSON object.",
        ) from error
    except (RecursionError, _RefusedValue) as error:
        raise _refusal(error, Location(file, number)) from error


class _RefusedValue(ValueError):
    """What JSON's grammar, or Python's reading of it, allows and no data set means."""


def _refusal(error: Exception, at: Location) -> DataError:
    if isinstance(error, RecursionError):
        return DataError("JSON is nested too deeply", at=at, remedy="Flatten the record.")
    return DataError(str(error), at=at, remedy="Correct the record.")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        again = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise _RefusedValue(f"expected each key once, got {reprlib.repr(again)} again")
    return values


def _integer(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise _RefusedValue(f"expected a number of at most {MAX_DIGITS} digits, got {len(text)}")
    return int(text)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise _RefusedValue(f"expected a finite number, got {reprlib.repr(text)}")
    return value


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_integer, parse_float=_finite, parse_constant=_finite
)

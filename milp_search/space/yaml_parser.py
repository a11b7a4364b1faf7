"""Builds a `YamlDocument` from text, event by event, so that limits hold before anything grows.

Only what a settings file needs is understood: mappings with text keys, lists and the plain
scalars of YAML 1.2's core schema. Anchors, aliases, tags and further documents are refused.
"""

from __future__ import annotations

import math
import re
import reprlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn, final

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.events import (
    AliasEvent,
    CollectionEndEvent,
    DocumentStartEvent,
    Event,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
    SequenceStartEvent,
)
from ruamel.yaml.reader import ReaderError

from milp_search.core.errors import Location, SpecError
from milp_search.space.yaml_document import KeyPath, YamlDocument

MAX_DEPTH = 32
# ours: far beyond any study or space file, and read in about a second.
MAX_NODES = 20_000
# Python itself refuses to convert integers of more than 4300 digits.
MAX_DIGITS = 100

_CONSTANTS = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_INTEGER = re.compile(r"[-+]?[0-9]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
# The scanner needs minutes for a tag as long as a file.
_LONG_TAG = re.compile(r"!\S{1024}")
_SURROGATE = re.compile("[\ud800-\udfff]")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")


def parse_yaml(text: str, file: Path | str) -> YamlDocument:
    """Returns the document that the text holds.

    Args:
        text: The file's content.
        file: Its name in errors.

    Returns:
        The values with their positions.

    Raises:
        SpecError: The text is not YAML, not a mapping, or uses a feature that is refused.
    """
    long_tag = _LONG_TAG.search(text)
    if long_tag is not None:
        line, column = text.count("\n", 0, long_tag.start()) + 1, _column(text, long_tag.start())
        raise SpecError(
            "expected plain values, got a tag of more than 1024 characters",
            at=Location(file, line, column),
            remedy="remove the tag, or put a space into the text",
        )
    try:
        return _Builder(file, _events(text, file)).document()
    except ReaderError as error:
        line, column = text.count("\n", 0, error.position) + 1, _column(text, error.position)
        raise SpecError(
            f"expected printable text, got the character U+{error.character:04X}",
            at=Location(file, line, column),
            remedy="remove the character",
        ) from None
    except MarkedYAMLError as error:
        raise _syntax_error(error, file) from None


def _events(text: str, file: Path | str) -> Iterator[Event]:
    line = 1
    try:
        for event in YAML(typ="safe", pure=True).parse(text):
            line = event.end_mark.line + 1
            yield event
    except (OverflowError, ValueError):  # the scanner's chr() of an escape such as "\UFFFFFFFF"
        message, remedy = "expected characters of Unicode, got an escape beyond", "correct it"
        raise SpecError(message, at=Location(file, line), remedy=remedy) from None


def _column(text: str, position: int) -> int:
    return position - (text.rfind("\n", 0, position) + 1) + 1


def _syntax_error(error: MarkedYAMLError, file: Path | str) -> SpecError:
    mark = error.problem_mark or error.context_mark
    at = Location(file, mark.line + 1, mark.column + 1) if mark else Location(file)
    context = f" {error.context}" if error.context else ""
    return SpecError(
        f"expected YAML, but{context}: {error.problem}",
        at=at,
        remedy="check indentation, quotes and brackets here and in the line above",
    )


@final
class _Builder:
    """Consumes the events of one document."""

    def __init__(self, file: Path | str, events: Iterator[Event]):
        self._file = file
        self._events = events
        self._positions: dict[KeyPath, tuple[int, int]] = {}
        self._nodes = 0

    def document(self) -> YamlDocument:
        start = self._first_node()
        if start is None:
            self._refuse("expected a mapping of keys to values, got an empty file", None)
        if not isinstance(start, MappingStartEvent):
            self._refuse("expected a mapping of keys to values at the top level", start)
        data = self._value(start, (), 1)
        self._refuse_further_documents()
        return YamlDocument(self._file, data, self._positions)

    def _first_node(self) -> Event | None:
        return next((event for event in self._events if isinstance(event, NodeEvent)), None)

    def _refuse_further_documents(self) -> None:
        for event in self._events:
            if isinstance(event, DocumentStartEvent):
                self._refuse("expected one document, got a second one", event)

    def _value(self, event: Event, path: KeyPath, depth: int) -> Any:
        self._check(event, depth)
        if isinstance(event, MappingStartEvent):
            return self._mapping(path, depth)
        if isinstance(event, SequenceStartEvent):
            return self._sequence(path, depth)
        return self._scalar(event)

    def _check(self, event: Any, depth: int) -> None:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            self._refuse(f"expected at most {MAX_NODES} values in a file, got more", event)
        if depth > MAX_DEPTH:
            self._refuse(f"expected at most {MAX_DEPTH} levels of nesting, got more", event)
        if isinstance(event, AliasEvent) or event.anchor is not None:
            self._refuse("expected plain values, got an anchor (&) or alias (*)", event)
        if event.tag is not None:
            self._refuse(f"expected plain values, got the tag {reprlib.repr(event.tag)}", event)
        if isinstance(event, ScalarEvent) and _SURROGATE.search(event.value):
            self._refuse("expected characters of Unicode, got half a surrogate pair", event)

    def _mapping(self, path: KeyPath, depth: int) -> dict[str, Any]:
        values: dict[str, Any] = {}
        while not isinstance(event := next(self._events), CollectionEndEvent):
            key = self._key(event, depth)
            if key in values:
                self._refuse_duplicate(key, event, self._positions[(*path, key)][0])
            self._positions[(*path, key)] = _position(event)
            values[key] = self._value(next(self._events), (*path, key), depth + 1)
        return values

    def _key(self, event: Event, depth: int) -> str:
        self._check(event, depth)
        if not isinstance(event, ScalarEvent):
            self._refuse("expected a name as key, got a list or mapping", event)
        return str(event.value)

    def _sequence(self, path: KeyPath, depth: int) -> list[Any]:
        values: list[Any] = []
        while not isinstance(event := next(self._events), CollectionEndEvent):
            item = (*path, len(values))
            self._positions[item] = _position(event)
            values.append(self._value(event, item, depth + 1))
        return values

    def _scalar(self, event: Any) -> Any:
        text = str(event.value)
        if not event.implicit[0]:  # quoted
            return text
        if text in _CONSTANTS:
            return _CONSTANTS[text]
        if _INTEGER.fullmatch(text):
            return self._integer(text, event)
        if _NOT_FINITE.fullmatch(text) or _FLOAT.fullmatch(text):
            return self._float(text, event)
        return text

    def _integer(self, text: str, event: Event) -> int:
        if len(text) > MAX_DIGITS:
            self._refuse(f"expected a number of at most {MAX_DIGITS} digits", event)
        return int(text)

    def _float(self, text: str, event: Event) -> float:
        if _NOT_FINITE.fullmatch(text) or math.isinf(float(text)):
            self._refuse(f"expected a finite number, got {reprlib.repr(text)}", event)
        return float(text)

    def _refuse_duplicate(self, key: str, event: Event, first_line: int) -> NoReturn:
        line, column = _position(event)
        raise SpecError(
            f"expected each key once, got {reprlib.repr(key)} again (first in line {first_line})",
            at=Location(self._file, line, column),
            remedy="remove one of the two",
        )

    def _refuse(self, message: str, event: Event | None) -> NoReturn:
        line, column = (1, 1) if event is None else _position(event)
        raise SpecError(
            message,
            at=Location(self._file, line, column),
            remedy="write the file as `key: value` lines with plain values",
        )


def _position(event: Event) -> tuple[int, int]:
    return event.start_mark.line + 1, event.start_mark.column + 1

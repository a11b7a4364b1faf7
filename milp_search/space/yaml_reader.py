"""Reads YAML files strictly and turns them into typed settings; every error names its place."""

from __future__ import annotations

import json
import reprlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from milp_search.core.errors import InputError, Location, SpecError
from milp_search.space.known_keys import known_keys
from milp_search.space.suggestion import suggestion
from milp_search.space.yaml_document import KeyPath, YamlDocument
from milp_search.space.yaml_parser import parse_yaml

__all__ = ["MAX_BYTES", "YamlDocument", "read_yaml", "suggestion", "validate"]

MAX_BYTES = 1 << 20

# A key may be as long as the file.
_SHORT = reprlib.Repr()
_SHORT.maxstring = 200

Settings = TypeVar("Settings", bound=BaseModel)

# JSON's words for what a YAML file calls otherwise.
_WORDS = {"an object": "a mapping", "a valid array": "a list", "a valid string": "text"}


def read_yaml(path: Path | str) -> YamlDocument:
    """Returns the document in a file.

    Args:
        path: A file of at most 1 MiB of UTF-8 text, with or without a byte order mark.

    Returns:
        The values with their positions.

    Raises:
        SpecError: There is no such file, or it cannot be read as one plain YAML mapping.
    """
    file = Path(path)
    content = _read_bytes(file)
    if len(content) > MAX_BYTES:
        raise SpecError(
            f"expected a file of at most {MAX_BYTES} bytes, got more",
            at=Location(file),
            remedy="check that this is the file you meant",
        )
    return parse_yaml(_decode(content, file), file)


def validate(document: YamlDocument, model: type[Settings]) -> Settings:
    """Returns the document's values as a typed object; types are strict (`"5"` is no number).

    Args:
        document: What was read.
        model: A pydantic model that forbids extra keys; it may hold dataclasses that do likewise.

    Returns:
        An instance of the model.

    Raises:
        SpecError: A key is unknown or missing, or a value is not what its key takes. Only the
            first problem is told, unknown keys before all else since they explain missing ones.
    """
    try:
        # Strict JSON takes lists for tuples and text for paths and enums; strict Python does not.
        return model.model_validate_json(json.dumps(document.data), strict=True)
    except ValidationError as error:
        raise _spec_error(error.errors(include_url=False), document, model) from None


def _read_bytes(file: Path) -> bytes:
    try:
        with file.open("rb") as stream:
            return stream.read(MAX_BYTES + 1)
    except FileNotFoundError:
        names = _neighbours(file)
        remedy = suggestion(file.name, names) if names else "check the path"
        raise SpecError("expected a file, found none", at=Location(file), remedy=remedy) from None
    except IsADirectoryError:
        message, remedy = "expected a file, got a folder", "name the YAML file inside it"
        raise SpecError(message, at=Location(file), remedy=remedy) from None
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        reason = getattr(error, "strerror", None) or str(error)
        message, remedy = f"expected a readable file: {reason}", "check the path and its rights"
        raise SpecError(message, at=Location(file), remedy=remedy) from None


def _neighbours(file: Path) -> list[str]:
    return sorted(path.name for path in file.parent.glob("*.y*ml"))[:20]


def _decode(content: bytes, file: Path) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start]
        line = before.count(b"\n") + 1
        raise SpecError(
            f"expected UTF-8 text, got the byte 0x{content[error.start]:02x}",
            at=Location(file, line, error.start - before.rfind(b"\n")),
            remedy="save the file as UTF-8",
        ) from None


def _is_unknown_key(detail: Any) -> bool:
    return detail["type"] in ("extra_forbidden", "unexpected_keyword_argument")


def _spec_error(
    details: Sequence[Any], document: YamlDocument, model: type[BaseModel]
) -> SpecError:
    first = next(filter(_is_unknown_key, details), details[0])
    path = document.key_path(first["loc"])
    at, key = document.location(path), ".".join(str(step) for step in path)
    if _is_unknown_key(first):
        known = known_keys(model, first["loc"][:-1])
        return SpecError(
            f"unknown key {_SHORT.repr(key)}", at=at, remedy=suggestion(str(path[-1]), known)
        )
    if first["type"].startswith("missing"):
        return _missing(first, key, at)
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, InputError):
        return SpecError(_prefixed(key, cause.message), at=at, remedy=cause.remedy)
    alternatives = [d for d in details if document.key_path(d["loc"]) == path]
    return SpecError(_prefixed(key, _expected_got(alternatives)), at=at, remedy=_remedy(path))


def _missing(detail: Any, parent: str, at: Location) -> SpecError:
    name = str(detail["loc"][-1])
    inside = f" in {parent!r}" if parent else ""
    return SpecError(f"expected the key {name!r}{inside}, got none", at=at, remedy=f"add `{name}:`")


def _prefixed(key: str, message: str) -> str:
    return f"{key}: {message}" if key else message


def _expected_got(alternatives: Sequence[Any]) -> str:
    """Returns the message for one value; a union's members have each told what they expect."""
    first = alternatives[0]
    if first["type"] in ("value_error", "assertion_error"):
        return str(first["ctx"]["error"])
    expected = " or ".join(dict.fromkeys(_expected(detail) for detail in alternatives))
    return f"expected {expected}, got {reprlib.repr(first['input'])}"


def _expected(detail: Any) -> str:
    words = str(detail["msg"]).removeprefix("Input should be ").removeprefix("Input should ")
    for json_word, yaml_word in _WORDS.items():
        words = words.replace(json_word, yaml_word)
    return words


def _remedy(path: KeyPath) -> str:
    return f"correct `{path[-1]}`" if path else "correct the file"

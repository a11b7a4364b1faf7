"""The keys that a typed settings object knows at some place inside it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any, get_args, get_type_hints

from pydantic import BaseModel


def known_keys(model: Any, path: Iterable[str | int]) -> tuple[str, ...]:
    """Returns the keys allowed at a path inside a pydantic model or dataclass, in their order.

    Steps of the path that name no field are passed over: list positions, and the names of union
    members in pydantic's error paths. Where several types are possible all their keys count.
    """
    types = tuple(_settings_types(model))
    for step in path:
        inner = [fields[str(step)] for fields in map(_fields, types) if str(step) in fields]
        if inner:
            types = tuple(found for field in inner for found in _settings_types(field))
    return tuple(dict.fromkeys(key for found in types for key in _fields(found)))


def _settings_types(annotation: Any) -> Iterator[type]:
    """Yields the types with fields inside an annotation such as `list[A] | B | None`."""
    if isinstance(annotation, type) and _fields(annotation):
        yield annotation
    for argument in get_args(annotation):
        yield from _settings_types(argument)


def _fields(kind: type) -> dict[str, Any]:
    if issubclass(kind, BaseModel):
        return {field.alias or name: field.annotation for name, field in kind.model_fields.items()}
    if dataclasses.is_dataclass(kind):
        hints = get_type_hints(kind)
        return {field.name: hints[field.name] for field in dataclasses.fields(kind)}
    return {}

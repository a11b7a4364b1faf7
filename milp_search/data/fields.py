"""Takes typed values out of decoded JSON records; every error says what came and where."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Mapping
from itertools import islice
from typing import Any

from milp_search.core.errors import DataError, Location
from milp_search.data.read_json import type_name

_SHOWN = 20  # ours: more keys are not read by anyone


def as_object(value: object, at: Location) -> Mapping[str, Any]:
    """Returns a JSON object.

    Raises DataError if it is something else.
    """
    if not isinstance(value, dict):
        raise DataError(f"expected an object, got {type_name(value)}", at=at)
    return value


def as_list(record: Mapping[str, Any], key: str, at: Location) -> list[Any]:
    """Returns the list under a key.

    Raises DataError if it is missing or something else.
    """
    value = require(record, key, at)
    if not isinstance(value, list):
        raise DataError(f"expected a list under {key!r}, got {type_name(value)}", at=at)
    return value


def as_text(record: Mapping[str, Any], key: str, at: Location) -> str:
    """Returns the text under a key, stripped; null is empty and a number is written out in full.

    A whole number is written without a point: ids in a column with gaps come as 1000001.0. Lone
    surrogates, which JSON can express and UTF-8 cannot, become question marks.

    Raises DataError if it is missing, or neither text, number nor null.
    """
    value = require(record, key, at)
    if value is None:
        return ""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        whole = isinstance(value, float) and value.is_integer()
        return str(int(value) if whole else value)
    if not isinstance(value, str):
        raise DataError(f"expected text under {key!r}, got {type_name(value)}", at=at)
    return value.strip().encode("utf-8", "replace").decode("utf-8")


def require(record: Mapping[str, Any], key: str, at: Location) -> Any:
    """Returns the value under a key.

    Raises DataError if it is missing; the error lists the keys that are there.
    """
    if key in record:
        return record[key]
    # Of a record with a million keys the first ones will do.
    names = [reprlib.repr(name) for name in islice(record, _SHOWN)]
    near = difflib.get_close_matches(key, [*islice(record, _SHOWN)], n=1)
    more = ", ..." if len(record) > _SHOWN else ""
    raise DataError(
        f"expected the key {key!r}, got [{', '.join(sorted(names))}{more}]",
        at=at,
        remedy=f"Did you mean {near[0]!r}?" if near else f"Add {key!r} to the record.",
    )

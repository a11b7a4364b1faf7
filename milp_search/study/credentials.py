"""Keys and passwords do not belong into a study file: it is copied, stored and shown."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from milp_search.core.errors import Location, SpecError
from milp_search.space.yaml_document import KeyPath, YamlDocument

# `scheme://user:password@host`; a host ends at the first slash.
_IN_ADDRESS = re.compile(r"://[^/?#\s]*@")


def refuse_credentials(document: YamlDocument) -> None:
    """Raises SpecError, which does not repeat it, if a text of the document is such an address."""
    for path, text in _texts(document.data, ()):
        if holds_credentials(text) or (path[-1] == "ray_address" and "@" in text):
            raise _refusal(document.location(path))


def refuse_given_credentials(overrides: Mapping[str, Any]) -> None:
    """As `refuse_credentials`, for what the command line says in place of the file."""
    for key, value in overrides.items():
        secret = key == "dispatch.ray_address" and "@" in str(value)
        if secret or (isinstance(value, str) and holds_credentials(value)):
            raise _refusal(Location("command line"))


def holds_credentials(text: str) -> bool:
    """Returns whether a text holds an address with a user's name or password in it."""
    return _IN_ADDRESS.search(text) is not None


def _texts(value: Any, path: KeyPath) -> Iterator[tuple[KeyPath, str]]:
    """Yields every text of a document with its place, keys too."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield (*path, key), key
            yield from _texts(inner, (*path, key))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _texts(inner, (*path, number))


def _refusal(at: Location) -> SpecError:
    return SpecError(
        "expected an address without a user's name or password, got one that holds them",
        at=at,
        remedy="give keys by the environment: HF_TOKEN (or HF_TOKEN_PATH, a file) for the hub, "
        "RAY_AUTH_TOKEN_PATH for a Ray cluster",
    )

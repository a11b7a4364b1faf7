"""Marks of users who are to be forgotten: told by whoever has the id, and by nobody else."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable

_MARK = re.compile(r"[0-9a-f]{32}:[0-9a-f]{64}")


def new_mark(user: str) -> str:
    """Returns a mark of the user, `salt:digest`: HMAC-SHA256 of the id under a random salt.

    Two marks of one user differ, so that marks of different folders cannot be joined.
    """
    return _marked(user, secrets.token_hex(16))


def salt_of(mark: str) -> str:
    """Returns a mark's salt, which names the mark and says nothing of the user."""
    return mark.partition(":")[0]


def is_mark(text: str) -> bool:
    """Returns whether a text has the form of a mark."""
    return _MARK.fullmatch(text) is not None


def mark_of(user: str, marks: Iterable[str]) -> str | None:
    """Returns the user's mark among these, None where there is none."""
    return next((mark for mark in marks if mark == _marked(user, salt_of(mark))), None)


def _marked(user: str, salt: str) -> str:
    # Ids come from JSON, which may hold halves of surrogate pairs.
    text = user.encode("utf-8", "surrogatepass")
    return f"{salt}:{hmac.new(salt.encode(), text, hashlib.sha256).hexdigest()}"

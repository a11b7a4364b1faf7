"""Where a server's key comes from: the environment or a file, never a setting or an argument."""

from __future__ import annotations

import os
import re
from pathlib import Path

from milp_search.core.errors import InputError
from milp_search.core.settings import EndpointSettings

# What is sent where the server wants none: a header must hold something.
NO_KEY = "none"

_LONGEST = 16_384
_KEY = re.compile(r"[!-~]+")


class KeyMissing(InputError):
    """A key that cannot be read; no part of it stands in the message."""


def api_key(settings: EndpointSettings) -> str:
    """Reads the key.

    Args:
        settings: Which variable or file holds it.

    Returns:
        The key; `NO_KEY` where neither is there, as with most servers of one's own.

    Raises:
        KeyMissing: The file cannot be read, or others than its owner may read it; or what stands
            there is no key that a header can hold.
    """
    if settings.key_file is None:
        where = f"the variable {settings.key_variable}"
        return _one_word(os.environ.get(settings.key_variable, "").strip() or NO_KEY, where)
    path = Path(settings.key_file).expanduser()
    try:
        mode = path.stat().st_mode
        key = path.read_text(encoding="ascii")[:_LONGEST].strip()
    except (OSError, ValueError) as error:
        what = getattr(error, "strerror", None) or "no plain text"
        raise KeyMissing(
            f"expected a key in {path}, got: {what}",
            remedy="Write the key alone into that file, or set endpoint.key_variable.",
        ) from None
    if mode & 0o077:
        raise KeyMissing(
            f"expected a key file that only its owner can read, got mode {mode & 0o777:o}: {path}",
            remedy=f"chmod 600 {path}",
        )
    return _one_word(key, str(path))


def _one_word(key: str, where: str) -> str:
    """Returns the key, which a header can hold; libraries' own messages would quote it."""
    if not _KEY.fullmatch(key):
        got = "other letters or several words" if key else "nothing"
        raise KeyMissing(
            f"expected one key in {where}, got {got}",
            remedy="Write the key alone there, in visible ASCII letters.",
        )
    return key

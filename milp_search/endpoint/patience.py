"""How long to wait before a question is put again."""

from __future__ import annotations

import email.utils
import math
import time
from collections.abc import Mapping

_FIRST_S = 0.5
_LONGEST_S = 30.0


def wait_s(headers: Mapping[str, str], attempt: int, draw: float) -> float:
    """Returns the seconds to wait after an attempt.

    Args:
        headers: The server's, with names in lower case; what they say goes first
            (`retry-after-ms`, then `retry-after` in seconds or as a date: RFC 9110, 10.2.3).
        attempt: Which attempt failed, from 0.
        draw: From 0 to 1: spreads those who wait for the same server.

    Returns:
        What the server says, else an exponential back-off of half a second to half a minute.
    """
    said = _said_s(headers)
    if said is not None:
        return said
    return min(_FIRST_S * 2.0**attempt, _LONGEST_S) * (0.5 + draw / 2)


def _said_s(headers: Mapping[str, str]) -> float | None:
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    text = headers.get("retry-after")
    seconds = _number(text)
    if seconds is not None or text is None:
        return seconds
    date = email.utils.parsedate_tz(text)
    return None if date is None else max(email.utils.mktime_tz(date) - time.time(), 0.0)


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) and number >= 0 else None

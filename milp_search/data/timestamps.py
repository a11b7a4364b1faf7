"""Turns a source's dates into seconds since the epoch."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime

from milp_search.core.errors import DataError, Location

_YEAR_OR_MONTH = re.compile(r"\d{4}(-\d{2})?")
# Without dashes too. As seconds such numbers would all lie in August 1970.
_BASIC_DAY = re.compile(r"(19|20)\d{2}(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])")
_NUMBER = re.compile(r"-?\d{5,}(\.\d+)?")
# Numbers from here on are milliseconds: as seconds they would lie after the year 5138.
_MILLISECONDS = 1e11


def parse_time(value: object, at: Location) -> float | None:
    """Returns seconds since the epoch (UTC), or None where the source gives no date.

    Null and empty text are no date. Text is ISO 8601: a year, a month, a day or a moment, in UTC
    where it names no zone; a coarse date stands for its beginning. A number (or a number of five
    digits and more as text) is seconds since the epoch, milliseconds from 1e11 on; but a whole
    number from 1000 to 2999 is a year (LaMP-5's `date`), and one such as 20240531 is a day.

    Raises DataError if it is none of these.
    """
    if value is None or value == "":
        return None
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise _not_a_date(at)
    if isinstance(value, str):
        return _parse_text(value.strip(), at)
    if isinstance(value, int) and (1000 <= value <= 2999 or 19000101 <= value <= 20991231):
        return _parse_text(str(value), at)
    return _epoch_seconds(value, at)


def _epoch_seconds(value: float, at: Location) -> float:
    try:
        seconds = float(value)
    except OverflowError as error:
        raise _not_a_date(at) from error
    if not math.isfinite(seconds):
        raise _not_a_date(at)
    return seconds / 1000 if abs(seconds) >= _MILLISECONDS else seconds


def _parse_text(text: str, at: Location) -> float:
    if _NUMBER.fullmatch(text) and not _BASIC_DAY.fullmatch(text):
        return _epoch_seconds(float(text), at)
    if _YEAR_OR_MONTH.fullmatch(text):
        text = f"{text}-01-01"[:10]
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise _not_a_date(at) from error
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _not_a_date(at: Location) -> DataError:
    return DataError(
        "expected a date (null, ISO 8601 or seconds since the epoch), got something else",
        at=at,
        remedy="Write it as 2024-05-31 or 2024-05-31T08:15:00Z, or leave it out.",
    )

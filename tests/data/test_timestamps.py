from __future__ import annotations

import pytest

from milp_search.core.errors import DataError, Location
from milp_search.data.timestamps import parse_time

AT = Location("file.jsonl", 7)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("", None),
        ("1970-01-02", 86_400.0),
        ("1970-02", 31 * 86_400.0),
        ("1971", 365 * 86_400.0),
        (1971, 365 * 86_400.0),
        ("19710102", 366 * 86_400.0),
        (19710102, 366 * 86_400.0),
        ("19711302", 19_711_302.0),
        ("1970-01-01T00:00:10Z", 10.0),
        ("1970-01-01T00:00:10", 10.0),
        ("1970-01-01T01:00:00+01:00", 0.0),
        ("1970-01-01T00:00:00.500", 0.5),
        (86_400, 86_400.0),
        (0.25, 0.25),
        ("1700000000", 1.7e9),
        (1_700_000_000_000, 1.7e9),
    ],
)
def test_a_date_is_seconds_since_the_epoch(value: object, seconds: float | None) -> None:
    assert parse_time(value, AT) == seconds


@pytest.mark.parametrize(
    "value", ["yesterday", "2024-13-01", "2024-1", True, [2024], float("nan"), 10**400]
)
def test_anything_else_is_refused_with_its_place(value: object) -> None:
    with pytest.raises(DataError, match=r"^file\.jsonl:7: expected a date"):
        parse_time(value, AT)

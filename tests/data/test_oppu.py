from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from data.writing import HEADLINE, headline, write_json
from milp_search.core.errors import DataError
from milp_search.core.settings import DataSettings
from milp_search.data.load import load_task
from milp_search.data.oppu import read_oppu
from milp_search.data.population import Population
from milp_search.data.source import Source


def user(name: object, size: int = 5, queries: int = 2) -> dict[str, Any]:
    return {
        "user_id": name,
        "profile": [headline(n, f"{name} ") for n in range(size)],
        "query": [
            {"id": f"{name}_{n}", "input": f"{HEADLINE}{name} asks {n}", "gold": f"{name} gold {n}"}
            for n in range(queries)
        ],
    }


def read(file: Path) -> Population:
    return read_oppu(Source("oppu", (file,)), DataSettings(str(file)))


def test_queries_are_the_test_part_and_validation_ends_the_profile(tmp_path: Path) -> None:
    file = write_json(tmp_path / "top.json", [user("a", 9, 1), user(12)])
    task = load_task(DataSettings(str(file), validation=0.2))
    first, second = task.targets
    assert (task.name, first.user, second.user) == ("LaMP_4", "a", "12")
    assert [item.response for item in first.history] == [f"a title {n}" for n in range(7)]
    assert [item.query for item in first.validation] == [f"{HEADLINE}a text {n}" for n in (7, 8)]
    assert [item.response for item in second.test] == ["12 gold 0", "12 gold 1"]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], "1:1: expected at least one user"),
        ([user("a", size=0)], "1:2: expected a user with a history"),
        ([user("a", queries=0)], "1:2: expected at least one query"),
        ([user("a") | {"query": [{"input": HEADLINE}]}], "1:2: expected the key 'gold'"),
        ([user("a") | {"query": {}}], "1:2: expected a list under 'query'"),
    ],
)
def test_a_bad_user_is_refused_with_its_place(tmp_path: Path, value: object, message: str) -> None:
    file = write_json(tmp_path / "top.json", value)
    with pytest.raises(DataError) as caught:
        read(file)
    assert str(caught.value).startswith(f"{file}:{message}")

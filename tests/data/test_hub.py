from __future__ import annotations

from typing import Any

import datasets
import pytest

from milp_search.core.errors import DataError
from milp_search.core.settings import DataSettings
from milp_search.data.jsonl import read_jsonl
from milp_search.data.source import Source

ROWS = [{"user_id": "a", "query": f"q{n}", "response": f"r{n}"} for n in range(3)]


def test_every_split_of_a_hub_data_set_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def load(*names: str, **keys: str) -> datasets.DatasetDict:
        asked.append((names, keys))
        return datasets.DatasetDict(
            train=datasets.Dataset.from_list(ROWS[:2]), test=datasets.Dataset.from_list(ROWS[2:])
        )

    monkeypatch.setattr(datasets, "load_dataset", load)
    for name in ("hub:me/diary", "hf://datasets/me/diary/all.jsonl"):
        population = read_jsonl(Source("jsonl", hub=name), DataSettings(name))
        assert population.name == name
        assert [item.query for item in population.users[0].history] == ["q0", "q1", "q2"]
    assert asked == [
        (("me/diary",), {}),
        (("json",), {"data_files": "hf://datasets/me/diary/all.jsonl"}),
    ]


def test_a_hub_data_set_that_cannot_be_had_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> None:
        raise ConnectionError("no network")

    monkeypatch.setattr(datasets, "load_dataset", fail)
    with pytest.raises(DataError, match="hub:me/diary: cannot load the hub data set: no network"):
        read_jsonl(Source("jsonl", hub="hub:me/diary"), DataSettings("hub:me/diary"))


def test_a_bad_or_empty_hub_data_set_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[dict[str, str]] = [{"user_id": "a", "text": "q"}]
    monkeypatch.setattr(
        datasets,
        "load_dataset",
        lambda name: {"train": datasets.Dataset.from_list(rows)},
    )
    source = Source("jsonl", hub="hub:x")
    with pytest.raises(DataError, match="hub:x:1: expected the key 'response'"):
        read_jsonl(source, DataSettings("hub:x"))
    rows.clear()
    with pytest.raises(DataError, match="hub:x: expected at least one record"):
        read_jsonl(source, DataSettings("hub:x"))

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from data.writing import line, write_lines
from milp_search.core.errors import SpecError
from milp_search.core.settings import DataSettings
from milp_search.data.fingerprint import fingerprint
from milp_search.data.formats import FORMATS
from milp_search.data.load import load_task


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Two users of ten interactions each."""
    return write_lines(
        tmp_path / "diary.jsonl", [line(user, n) for user in "ab" for n in range(10)]
    )


def test_a_file_becomes_a_task(file: Path) -> None:
    task = load_task(DataSettings(str(file), targets=1))
    assert (task.name, task.kind, task.labels) == ("diary", "text", ())
    (target,) = task.targets
    assert [item.response for item in target.validation] == ["a hears 7"]
    assert [item.response for item in target.test] == ["a hears 8", "a hears 9"]
    assert [other.user for other in task.others] == ["b"]


def test_the_default_population_is_synthetic_and_follows_its_seed() -> None:
    task = load_task(DataSettings(targets=3, others=2))
    assert (task.name, task.kind) == ("synthetic", "text")
    assert len(task.targets) == 3
    assert load_task(DataSettings(targets=3, others=2)) == task
    assert load_task(DataSettings(targets=3, others=2, seed=1)).fingerprint != task.fingerprint


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"format": "csv"}, "expected `data.format` to be auto or one of"),
        ({"targets": 0}, "expected `data.targets` to be at least 1, got 0"),
        ({"others": -1}, "expected `data.others` to be at least 0, got -1"),
        ({"max_history": 0}, "expected `data.max_history` to be at least 1, got 0"),
        ({"max_target_history": 0}, "expected `data.max_target_history` to be at least 1, got 0"),
        ({"max_queries": 0}, "expected `data.max_queries` to be at least 1, got 0"),
        ({"validation": 0.0}, "above 0 and together below 1"),
        ({"test": -0.1}, "above 0 and together below 1"),
        ({"validation": 0.5, "test": 0.5}, "above 0 and together below 1"),
        ({"test": float("nan")}, "above 0 and together below 1"),
    ],
)
def test_a_setting_out_of_range_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        load_task(DataSettings(**settings))


def test_a_fingerprint_is_16_hex_digits_and_the_same_every_time(file: Path) -> None:
    task = load_task(DataSettings(str(file)))
    assert len(task.fingerprint) == 16
    assert int(task.fingerprint, 16) >= 0
    assert load_task(DataSettings(str(file))).fingerprint == task.fingerprint


def test_a_fingerprint_sees_every_part_of_a_task(file: Path) -> None:
    task = load_task(DataSettings(str(file), targets=1))
    first = task.targets[0]
    changes: list[dict[str, Any]] = [
        {"name": "other"},
        {"kind": "rating"},
        {"labels": ("x",)},
        {"rating_range": (0.0, 5.0)},
        {"others": ()},
        {"targets": (replace(first, user="z"),)},
        {"targets": (replace(first, history=first.history[1:]),)},
        {"targets": (replace(first, validation=first.test, test=first.validation),)},
        {"targets": (replace(first, test=(replace(first.test[0], time=None), first.test[1])),)},
    ]
    prints = {fingerprint(task), *(fingerprint(replace(task, **change)) for change in changes)}
    assert len(prints) == 1 + len(changes)
    assert fingerprint(replace(task, fingerprint="anything")) == task.fingerprint


def test_every_format_of_the_settings_is_in_the_table() -> None:
    assert list(FORMATS) == ["synthetic", "jsonl", "lamp", "oppu", "malp"]
    assert all(format.summary for format in FORMATS.values())


def test_reading_local_files_imports_no_heavy_library() -> None:
    code = "import sys, milp_search.data.load as l; print({'datasets', 'torch'} & set(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "set()"

"""Who is to be forgotten is left out of the task, and nothing else of it changes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from data.writing import line, write_lines
from milp_search.core.errors import DataError, SpecError
from milp_search.core.forgotten import new_mark
from milp_search.core.settings import DataSettings
from milp_search.data.load import load_task


@pytest.fixture
def settings(tmp_path: Path) -> DataSettings:
    """Four users, `a` the most active one; two of them are targets."""
    lines = [line(user, n) for place, user in enumerate("abcd") for n in range(13 - place)]
    return DataSettings(str(write_lines(tmp_path / "diary.jsonl", lines)), targets=2)


def test_a_forgotten_target_is_left_out_and_nobody_moves_up(settings: DataSettings) -> None:
    whole = load_task(settings)
    left = load_task(replace(settings, forgotten=(new_mark("a"),)))
    assert left.targets == whole.targets[1:]
    assert left.others == whole.others


def test_a_forgotten_other_is_left_out(settings: DataSettings) -> None:
    whole = load_task(settings)
    left = load_task(replace(settings, forgotten=(new_mark("c"), new_mark("nobody"))))
    assert left == replace(whole, others=whole.others[1:])


def test_the_fingerprint_stays_that_of_the_data(settings: DataSettings) -> None:
    left = load_task(replace(settings, forgotten=(new_mark("a"),)))
    assert left.fingerprint == load_task(settings).fingerprint


def test_without_any_target_left_there_is_no_task(settings: DataSettings) -> None:
    marks = (new_mark("a"), new_mark("b"))
    with pytest.raises(DataError, match="every one was forgotten"):
        load_task(replace(settings, forgotten=marks))


def test_a_text_that_is_no_mark_is_refused_rather_than_ignored(settings: DataSettings) -> None:
    with pytest.raises(SpecError, match=r"data\.forgotten"):
        load_task(replace(settings, forgotten=("a",)))

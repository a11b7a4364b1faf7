"""Examples are chosen evenly over users, kept for their owner only, and shown escaped."""

from __future__ import annotations

import errno
import json
import os
from dataclasses import asdict
from pathlib import Path

import pytest

from milp_search.core.errors import StudyError
from milp_search.core.forgotten import mark_of
from milp_search.core.records import Prediction
from milp_search.core.whole_file import write_whole
from milp_search.study import examples
from milp_search.study.examples import (
    chosen_examples,
    forget_in_examples,
    has_examples_of,
    read_examples,
    write_examples,
)


def prediction(user: str, number: int, generated: str | None = "g") -> Prediction:
    return Prediction(user, f"{user} asks {number}", f"{user} hears {number}", generated, 1.0, 1)


ITEMS = [prediction("b", 0), prediction("b", 1), prediction("a", 0, None), prediction("b", 2)]


def test_each_users_first_comes_first_then_their_second() -> None:
    chosen = chosen_examples(ITEMS, ["a", "b", "c"], 3, trial=5, seed=7)
    assert [(one.user, one.query, one.generated) for one in chosen] == [
        (1, "a asks 0", ""), (2, "b asks 0", "g"), (2, "b asks 1", "g"),
    ]  # fmt: skip
    assert {(one.trial, one.seed) for one in chosen} == {(5, 7)}
    assert [mark_of("b", [one.mark]) is not None for one in chosen] == [False, True, True]
    assert len(chosen_examples(ITEMS, ["a", "b", "c"], 9, trial=5, seed=7)) == 4


def test_none_is_no_file(tmp_path: Path) -> None:
    assert chosen_examples(ITEMS, ["a", "b"], 0, trial=0, seed=0) == []
    assert write_examples(tmp_path, []) is None
    assert list(tmp_path.iterdir()) == []
    assert read_examples(tmp_path) == []


def test_they_are_read_back_by_trial_and_seed_and_are_their_owners_only(tmp_path: Path) -> None:
    kept = [chosen_examples(ITEMS, ["a", "b"], 2, trial=trial, seed=0) for trial in (10, 9)]
    for one in kept:
        path = write_examples(tmp_path, one)
        assert path is not None
        assert path.stat().st_mode & 0o777 == 0o600
    assert read_examples(tmp_path) == kept[1] + kept[0]
    assert (tmp_path / "examples").stat().st_mode & 0o777 == 0o700


def test_a_user_s_go_with_those_of_others_that_name_the_user(tmp_path: Path) -> None:
    items = [*ITEMS, Prediction("a", "of b", "r", "g", 1.0, 1)]
    write_examples(tmp_path, chosen_examples(items, ["a", "b"], 9, trial=0, seed=0))
    assert has_examples_of(tmp_path, "b")
    assert forget_in_examples(tmp_path, "b", lambda text: "b" in text.split()) == 4
    assert [one.query for one in read_examples(tmp_path)] == ["a asks 0"]
    assert not has_examples_of(tmp_path, "b")
    assert forget_in_examples(tmp_path, "a", lambda text: False) == 1
    assert list((tmp_path / "examples").iterdir()) == []


FORGED = {**asdict(chosen_examples(ITEMS, ["a"], 1, trial=0, seed=0)[0]), "query": None}


@pytest.mark.parametrize(
    "content",
    ["{", json.dumps([{"trial": 0}]), json.dumps([1]), json.dumps([FORGED]), "[" * 100_000],
    ids=["torn", "too little", "a number", "no text", "too deep"],
)
def test_a_file_that_is_none_of_ours_is_told(content: str, tmp_path: Path) -> None:
    (tmp_path / "examples").mkdir()
    (tmp_path / "examples" / "trial-0-seed-0.json").write_text(content)
    with pytest.raises(StudyError, match="expected examples"):
        read_examples(tmp_path)


def test_they_wait_for_space_on_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = []

    def full_once(path: Path, text: str) -> Path:
        tries.append(path)
        if len(tries) == 1:
            raise StudyError(f"expected to write {path}, got: {os.strerror(errno.ENOSPC)}")
        return write_whole(path, text)

    monkeypatch.setattr(examples, "write_whole", full_once)
    kept = chosen_examples(ITEMS, ["a", "b"], 2, trial=1, seed=0)
    write_examples(tmp_path, kept)
    assert read_examples(tmp_path) == kept
    assert len(tries) == 2

"""Prompt files: ours, and a user's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from milp_search.personalize.chat_prompts import (
    PROMPTS,
    PromptError,
    fenced,
    load_prompts,
    shipped_prompts,
)


def test_ours_are_whole() -> None:
    assert set(shipped_prompts().texts) == set(PROMPTS)
    for name, values in PROMPTS.items():
        text = shipped_prompts().filled(name, **{value: f"[{value}]" for value in values})
        assert all(f"[{value}]" in text for value in values)


def test_a_file_of_ones_own_replaces_ours_and_leaves_the_others(tmp_path: Path) -> None:
    (tmp_path / "personal.txt").write_text("About them: $notes\n")
    own = load_prompts(tmp_path)
    assert own.filled("personal", notes="x") == "About them: x"
    assert own.fingerprint() != shipped_prompts().fingerprint() == load_prompts(None).fingerprint()
    assert own.texts["entry"] == shipped_prompts().texts["entry"]


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("personal.txt", "nothing", r"\$notes: it is missing"),
        ("personal.txt", "$notes $other", r"\$other: no value of this name"),
        ("personal.txt", "costs 5$ $notes", r"every \$ to name a value"),
        ("persona.txt", "$notes", "expected a prompt's name, got persona.txt"),
        ("personal.txt", "$notes" + "x" * 70_000, "at most 65536"),
    ],
)
def test_a_file_that_is_no_prompt_is_refused(
    tmp_path: Path, name: str, text: str, told: str
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(PromptError, match=told):
        load_prompts(tmp_path)


def test_other_bytes_and_no_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PromptError, match="found none"):
        load_prompts(tmp_path / "none")
    (tmp_path / "personal.txt").write_bytes(b"\xff$notes")
    with pytest.raises(PromptError, match="UTF-8"):
        load_prompts(tmp_path)


@pytest.mark.parametrize(
    "mark",
    [
        "<notes>",
        "</entries>",
        "< / QUERY >",
        "<member>",
        "<Content",
        "<\u200b/notes>",
        "<//notes>",
        "<\ufeff / \u2060query>",
    ],
)
def test_data_can_neither_open_nor_close_a_mark(mark: str) -> None:
    assert "<" not in fenced(mark)
    assert fenced(mark)[1:] == mark[1:]


def test_other_data_is_left_alone() -> None:
    text = "a < b, <b>bold</b>, <notebook> and $x"
    assert fenced(text) == text

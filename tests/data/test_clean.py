"""Texts that JSON can hold and a tokenizer cannot take."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from milp_search.core.settings import DataSettings
from milp_search.data.clean import well_formed
from milp_search.data.load import load_task


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_a_well_formed_text_stays_as_it_is(text: str) -> None:
    assert well_formed(text) == text


def test_a_lone_surrogate_becomes_a_question_mark() -> None:
    assert well_formed("a\ud800b") == "a?b"


def test_a_lone_surrogate_in_a_file_reaches_no_history(tmp_path: Path) -> None:
    lines = [
        f'{{"user_id": "u", "query": "q{n}", "response": "r\\ud800{n}", "timestamp": {n}}}'
        for n in range(6)
    ]
    (tmp_path / "data.jsonl").write_text("\n".join(lines))
    task = load_task(DataSettings(path=str(tmp_path / "data.jsonl"), format="jsonl"))
    assert [item.response for item in task.targets[0].history][:2] == ["r?0", "r?1"]

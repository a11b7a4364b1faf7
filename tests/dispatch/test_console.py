"""What is printed reaches whatever standard output there is."""

from __future__ import annotations

from io import BytesIO, TextIOWrapper

import pytest

from milp_search.dispatch.console import plain_console


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [
        ("utf-8", "Größe: loss ↓ 0.5 ± 0.1\n".encode()),
        ("latin-1", "Größe: loss ? 0.5 ± 0.1\n".encode("latin-1")),
        ("ascii", b"Gr??e: loss ? 0.5 ? 0.1\n"),
    ],
)
def test_signs_that_the_encoding_does_not_know_are_shown_as_another(
    encoding: str, shown: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = TextIOWrapper(BytesIO(), encoding=encoding)
    monkeypatch.setattr("sys.stdout", stream)
    plain_console().print("Größe: loss ↓ 0.5 ± 0.1", highlight=False)
    stream.flush()
    assert stream.buffer.getvalue() == shown

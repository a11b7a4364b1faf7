"""The check of an installation."""

from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console

from milp_search.core.errors import InputError
from milp_search.dispatch import doctor


def test_checks_that_pass_are_told_with_what_they_found(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = {name: doctor.CHECKS[name] for name in ("machine", "versions", "embedded base model")}
    monkeypatch.setattr(doctor, "CHECKS", kept)
    text = StringIO()
    assert doctor.print_doctor(Console(file=text, width=200)) == 0
    assert "ok    embedded base model: 8 layers" in text.getvalue()
    assert "torch 2." in text.getvalue()


def test_a_chat_models_server_is_told_and_its_key_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MILP_SEARCH_SERVE_KEY", raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:8077/v1")
    check = doctor.CHECKS["chat models (environment)"]
    assert check() == (
        "OPENAI_BASE_URL is http://127.0.0.1:8077/v1, OPENAI_API_KEY is set, "
        "MILP_SEARCH_SERVE_KEY is not set"
    )
    monkeypatch.setenv("OPENAI_BASE_URL", "http://me:sk-canary@host/v1")
    with pytest.raises(InputError, match="without user, password") as caught:
        check()
    assert "canary" not in str(caught.value)


def test_a_failed_check_is_told_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> str:
        raise RuntimeError("no such library")

    monkeypatch.setattr(doctor, "CHECKS", {"one": broken, "two": lambda: "fine"})
    text = StringIO()
    assert doctor.print_doctor(Console(file=text, width=200)) == 1
    assert "FAIL  one: no such library" in text.getvalue()
    assert "ok    two: fine" in text.getvalue()

"""The check of an installation."""

from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console

from milp_search.dispatch import doctor


def test_checks_that_pass_are_told_with_what_they_found(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = {name: doctor.CHECKS[name] for name in ("machine", "versions", "embedded base model")}
    monkeypatch.setattr(doctor, "CHECKS", kept)
    text = StringIO()
    assert doctor.print_doctor(Console(file=text, width=200)) == 0
    assert "ok    embedded base model: 8 layers" in text.getvalue()
    assert "torch 2." in text.getvalue()


def test_a_failed_check_is_told_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> str:
        raise RuntimeError("no such library")

    monkeypatch.setattr(doctor, "CHECKS", {"one": broken, "two": lambda: "fine"})
    text = StringIO()
    assert doctor.print_doctor(Console(file=text, width=200)) == 1
    assert "FAIL  one: no such library" in text.getvalue()
    assert "ok    two: fine" in text.getvalue()

"""The command line, called in this process."""

from __future__ import annotations

import sys
from typing import Protocol

import pytest

from milp_search import cli


class Command(Protocol):
    """Runs `milp-search` and returns its exit code, and what it wrote to stdout and stderr."""

    def __call__(self, *arguments: object) -> tuple[int, str, str]: ...


def command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    """Returns the command; nothing it prints is wrapped."""
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["milp-search", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        code = ended.value.code
        return (code if isinstance(code, int) else int(code is not None), *capfd.readouterr())

    return run

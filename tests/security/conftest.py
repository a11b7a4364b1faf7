"""What the tests of the rules share."""

from __future__ import annotations

import pytest

from security.command import Command, command


@pytest.fixture
def milp_search(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    """The command line, in this process."""
    return command(monkeypatch, capfd)

"""Temporary folders, and those that killed processes left."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from milp_search.dispatch.temporary_folder import temporary_folder

KILLED = """
import os, signal, sys
from milp_search.dispatch.temporary_folder import temporary_folder
with temporary_folder(sys.argv[1]) as folder:
    (folder / "content").write_text("x")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_folder_is_private_and_goes_with_its_block(tmp_path: Path) -> None:
    with temporary_folder(str(tmp_path)) as folder:
        assert folder.parent == tmp_path
        assert folder.stat().st_mode & 0o777 == 0o700
        (folder / "content").write_text("x")
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_goes_with_the_next_and_nothing_else(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False)
    (left,) = tmp_path.iterdir()
    (tmp_path / "milp-of-somebody").mkdir()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "alive").write_text("")
    (tmp_path / "milp-link").symlink_to(elsewhere)
    with temporary_folder(str(tmp_path)) as living, temporary_folder(str(tmp_path)):
        assert not left.exists()
        assert living.exists()
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["elsewhere", "milp-link", "milp-of-somebody"]

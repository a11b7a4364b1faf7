"""The study's log file."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from milp_search.dispatch.study_log import logged

LOGGER = logging.getLogger("milp_search.dispatch.source")


def test_lines_at_info_are_in_the_file_while_the_block_runs(tmp_path: Path) -> None:
    LOGGER.info("before")
    with logged(tmp_path):
        LOGGER.info("trial %d completed", 3)
        LOGGER.debug("a detail")
    LOGGER.info("after")
    (line,) = (tmp_path / "log.txt").read_text().splitlines()
    assert line.endswith("INFO trial 3 completed")
    assert (tmp_path / "log.txt").stat().st_mode & 0o777 == 0o600


def test_a_log_that_takes_no_more_ends_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "log.txt").symlink_to("/dev/full")
    with pytest.raises(OSError, match="symbolic"), logged(tmp_path):
        pass
    (tmp_path / "log.txt").unlink()
    with logged(tmp_path):
        (log,) = logging.getLogger("milp_search").handlers[-1:]
        assert isinstance(log, logging.FileHandler)
        before = log.setStream(open("/dev/full", "w"))  # noqa: SIM115
        assert before is not None
        before.close()
        LOGGER.info("a line")
    assert capsys.readouterr().err == ""

"""The log of a study, `log.txt` in its folder: one line per trial event, and tracebacks."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from milp_search.dispatch.folders import LOG_NAME

_FORMAT = "%(asctime)s %(levelname)s %(message)s"


@contextmanager
def logged(folder: Path) -> Iterator[None]:
    """Writes what this process logs of a study into its folder while the block runs."""
    logger = logging.getLogger("milp_search")
    level = logger.level
    path = folder / LOG_NAME
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600))
    log = _LogFile(path, encoding="utf-8")
    log.setFormatter(logging.Formatter(_FORMAT))
    log.setLevel(logging.INFO)
    logger.addHandler(log)
    if logger.getEffectiveLevel() > logging.INFO:
        logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.setLevel(level)
        logger.removeHandler(log)
        log.close()


class _LogFile(logging.FileHandler):
    """A log that a full disk leaves short, and that ends no study."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Leaves a line out."""

    def close(self) -> None:
        """Closes the file, whatever it still had to take."""
        with suppress(OSError):
            super().close()

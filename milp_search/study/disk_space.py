"""A disk that is full for a while: told from other errors, and waited for."""

from __future__ import annotations

import errno
import logging
import os
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from milp_search.core.errors import DiskFullError
from milp_search.core.heartbeat import beat

# ours: soon enough for whoever made space, and no load meanwhile.
_POLL_S = 1.0

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
_TEXTS = tuple(os.strerror(number) for number in _NO_SPACE)

_given_up = threading.Event()

_logger = logging.getLogger(__name__)

Written = TypeVar("Written")


def lacks_space(error: BaseException, folder: Path) -> bool:
    """Returns whether an error came of a full disk, or a quota that is used up.

    Args:
        error: An error of writing.
        folder: Where was written.

    Returns:
        Whether space would have helped.
    """
    if isinstance(error, DiskFullError):
        return True
    if isinstance(error, sqlite3.Error):
        return _sqlite_lacks_space(error, folder)
    if isinstance(error, OSError):
        return error.errno in _NO_SPACE
    # Libraries with a core of their own pass the system's words on, and not its number.
    return any(text in str(error) for text in _TEXTS)


def _sqlite_lacks_space(error: sqlite3.Error, folder: Path) -> bool:
    code = getattr(error, "sqlite_errorcode", None)
    if code == sqlite3.SQLITE_FULL:
        return True
    # SQLite knows a full disk, and takes a quota for a broken one.
    broken = code is not None and code & 0xFF == sqlite3.SQLITE_IOERR
    return broken and not _takes_a_page(folder)


def _takes_a_page(folder: Path) -> bool:
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(65536))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return error.errno not in _NO_SPACE
    return True


def give_up() -> None:
    """Ends all waiting for space in this process, until `wait_again`; for a handler of signals."""
    # No thread waits on this event itself: a handler could find its lock taken for ever.
    _given_up.set()


def wait_again() -> None:
    """Lets what is written from now on wait for space, after `give_up`."""
    _given_up.clear()


def until_there_is_space(write: Callable[[], Written], what: str, folder: Path) -> Written:
    """Returns what a function returns, called again and again while the disk is full.

    Args:
        write: Writes all or nothing.
        what: What it writes, for the message.
        folder: Where.

    Returns:
        What `write` returned.

    Raises:
        DiskFullError: `give_up` was called before there was space; this is not stored.
        Exception: Whatever else `write` raises.
    """
    try:
        return write()
    except Exception as error:
        if not lacks_space(error, folder):
            raise
    _logger.warning("the disk is full: waiting to store %s in %s", what, folder)
    try:
        written = _waited(write, what, folder)
    except BaseException:
        _logger.warning("%s is not stored in %s", what, folder)
        raise
    _logger.warning("there is space again: %s is stored", what)
    return written


def _waited(write: Callable[[], Written], what: str, folder: Path) -> Written:
    while not _given_up.is_set():
        time.sleep(_POLL_S)
        # Whoever watches over a trial must not take the waiting for a hang.
        beat()
        try:
            return write()
        except Exception as error:
            if not lacks_space(error, folder):
                raise
    raise DiskFullError(
        f"the disk is full: {what} is not stored in {folder}",
        remedy="Make space, then resume the study.",
    )


def unless_full(write: Callable[[], object], what: str, folder: Path) -> None:
    """Writes what others can do without, and leaves it out where the disk is full.

    Args:
        write: Writes all or nothing.
        what: What it writes, for the message.
        folder: Where.

    Raises:
        Exception: Whatever `write` raises for another reason.
    """
    try:
        write()
    except Exception as error:
        if not lacks_space(error, folder):
            raise
        _logger.warning("the disk is full: %s is left out in %s", what, folder)

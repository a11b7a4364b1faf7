"""Files and folders that only their owner reads, and that no link leads elsewhere."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from milp_search.core.errors import StudyError


def own_folder(folder: Path) -> Path:
    """Returns the folder, made where it was missing, for its owner only.

    Its parent has to be there.

    Raises StudyError if something else lies there, a link to a folder elsewhere, say.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink():
        raise _linked(folder)
    return folder


def refuse_link(path: Path) -> None:
    """Raises StudyError where a link lies, through which would be written elsewhere."""
    if path.is_symlink():
        raise _linked(path)


def keep_private(folder: Path) -> None:
    """Takes from everyone else the rights to a folder and to everything in it."""
    for place, _, files in os.walk(folder):
        os.chmod(place, 0o700)
        for name in files:
            os.chmod(Path(place, name), 0o600, follow_symlinks=True)


@contextmanager
def appending(file: Path) -> Iterator[TextIO]:
    """Yields a text file to append to, made for its owner only.

    Raises StudyError where a link lies in its place.
    """
    refuse_link(file)
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
    with open(os.open(file, flags, 0o600), "a", encoding="utf-8") as opened:
        yield opened


def _linked(path: Path) -> StudyError:
    return StudyError(
        f"expected {path} to be the study's own, got a link to another place",
        remedy="Remove the link; nothing was written through it.",
    )

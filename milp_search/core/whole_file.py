"""Writes files so that a reader sees the old content or the new, never a part."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from milp_search.core.errors import StudyError


def write_whole(path: Path, text: str) -> Path:
    """Writes a file through a temporary one beside it.

    Args:
        path: The file.
        text: Its new content.

    Returns:
        `path`.

    Raises:
        StudyError: The file cannot be written; what was there is unchanged.
    """
    try:
        put_whole(path, text)
    except OSError as error:
        raise StudyError(
            f"expected to write {path}, got: {error.strerror}",
            remedy="Check the folder's permissions and free space.",
        ) from error
    return path


def put_whole(path: Path, text: str) -> None:
    """Does what `write_whole` does, and leaves the system's errors as they are."""
    # mkstemp makes the file readable to its owner only.
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with open(descriptor, "w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Makes what was made, renamed or removed in a folder outlast a crash of the machine."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""A located source: which files of which format hold the data, and for which task."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

HUB_PREFIXES = ("hub:", "hf://")


@dataclass(frozen=True)
class Source:
    """What a reader is asked to read.

    Attributes:
        format: The reader's name in `formats.FORMATS`.
        files: The files, in reading order; empty for `synthetic` and hub data sets.
        task: The task, where it is known before reading.
        hub: The name of a hub data set (`hub:NAME` or `hf://...`) in place of files.
    """

    format: str
    files: tuple[Path, ...] = ()
    task: str | None = None
    hub: str | None = None

    def __str__(self) -> str:
        where = ", ".join(str(file) for file in self.files) or self.hub or "built in"
        return f"{self.format}{f' (task {self.task})' if self.task else ''}: {where}"


def name_of(file: Path) -> str:
    """Returns a data set's name for a file: its stem, or its folder's if the stem says nothing."""
    plain = file.stem in ("interactions", "data", "train", "history")
    return file.resolve().parent.name if plain else file.stem

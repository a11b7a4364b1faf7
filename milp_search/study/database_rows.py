"""The texts in any SQLite database, row by row."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path


def rows(path: Path) -> Iterator[tuple[str, int, list[str]]]:
    """Yields of each row of a database its table, its number and its texts.

    Nothing is written beside the file, and what a write-ahead log holds is not read. A database
    that is damaged ends where the damage begins.
    """
    uri = f"{path.absolute().as_uri()}?mode=ro&immutable=1"
    with suppress(sqlite3.DatabaseError), closing(sqlite3.connect(uri, uri=True)) as database:
        tables = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        for (table,) in tables:
            for number, *cells in database.execute(f'SELECT rowid, * FROM "{table}"'):
                yield table, number, [cell for cell in cells if isinstance(cell, str)]

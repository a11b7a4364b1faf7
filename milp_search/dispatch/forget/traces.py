"""Where in a folder a user's id still stands: in names and contents, plain and escaped."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from pathlib import Path

from milp_search.dispatch.folders import PARTS
from milp_search.dispatch.forget.wanted import Wanted
from milp_search.study.database_rows import rows
from milp_search.study.export import FRONT_NAME, TRIALS_NAME
from milp_search.study.page import chart_library
from milp_search.study.report import REPORT_NAME
from milp_search.study.study import STORE_NAME

# What the base model's own tokenizer knows, which no user's text went into.
_VOCABULARY = {"tokenizer.json", "vocab.json", "merges.txt", "tokenizer_config.json"}

# Forgetting writes them anew, from a store without the user.
_OUTPUTS = {REPORT_NAME, FRONT_NAME, TRIALS_NAME}


def traces(folder: Path, wanted: Wanted) -> list[str]:
    """Returns the places in a folder where a user's id still stands.

    Names, links, text, SQLite's cells and raw pages, the heads of safetensors files and,
    for ids that are long enough to tell, the tensors' bytes. What every report holds, the library
    of the charts, is no place, nor is the vocabulary of the base model. An id that is a number is
    not looked for in what is written from the store, which is searched itself.

    Args:
        folder: Where to search, and in all folders below it.
        wanted: What for.

    Returns:
        Per place the path below the folder, and where in the file.
    """
    found = []
    for path in sorted(folder.rglob("*")):
        shown = path.relative_to(folder)
        if wanted.in_name(path.name):
            found.append(f"{shown}: in its name")
        if path.is_symlink():
            found += [f"{shown}: in where it leads"] if wanted.in_text(os.readlink(path)) else []
        elif path.is_file() and not _is_passed_over(path, wanted):
            found += [f"{shown}: {where}" for where in _in_file(path, wanted)]
    return found


def _is_passed_over(path: Path, wanted: Wanted) -> bool:
    """Whether what stands in a file by necessity looks like the id."""
    return path.name in _VOCABULARY or (wanted.is_number and _is_of_numbers(path))


def _is_of_numbers(path: Path) -> bool:
    """Whether a file, made of the store, numbers trials and seeds and says where to draw."""
    if path.name in _OUTPUTS:
        return path.with_name(STORE_NAME).exists()
    return path.suffix == ".html" and path.with_name(PARTS).is_dir()


def _in_file(path: Path, wanted: Wanted) -> Iterator[str]:
    """Yields where in a file the id stands."""
    if path.suffix == ".safetensors":
        if wanted.in_content(_head(path)):
            yield "in the tensors' names or metadata"
        if _in_raw_bytes(path, wanted):
            yield "in its bytes"
        return
    content = path.read_bytes()
    if wanted.in_content(content.replace(chart_library().encode(), b"")):
        yield "in its content"
    if content.startswith(b"SQLite format 3\0"):
        yield from _in_database(path, wanted)


def _in_database(path: Path, wanted: Wanted) -> Iterator[str]:
    """Yields the rows in which the id stands, for a page may cut it in two, and free pages."""
    if _in_raw_bytes(path, wanted):
        yield "in its pages"
    for table, number, texts in rows(path):
        if any(map(wanted.in_text, texts)):
            yield f"in row {number} of {table}"


def _head(path: Path) -> bytes:
    """Returns the part of a safetensors file before the tensors."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        return file.read(min(size, path.stat().st_size))


def _in_raw_bytes(path: Path, wanted: Wanted) -> bool:
    """Returns whether the id stands in a file of any size, anywhere and plain."""
    if path.stat().st_size == 0:
        return False
    with path.open("rb") as file:
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        with content:
            return wanted.in_raw_bytes(content)

"""What the source never does: shells, predictable temporary files, archives, evaluated text."""

from __future__ import annotations

import ast
import re._constants as codes  # type: ignore[import-not-found]
import re._parser as parser  # type: ignore[import-not-found]
from collections.abc import Iterator
from typing import Any

import pytest

from security.sources import FOLDERS, PACKAGE, called, imported, nodes

EVALUATE = {"eval", "exec", "compile", "__import__"}
SHELLS = {"os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput"}
# Formats whose size unpacked nobody knows beforehand, and readers that follow references.
ARCHIVES = {"zipfile", "tarfile", "gzip", "bz2", "lzma", "zlib", "xml"}


def test_no_text_is_evaluated_and_no_shell_started() -> None:
    assert [(file, called(node)) for file, node in nodes(*FOLDERS)
            if called(node) in EVALUATE | SHELLS] == []  # fmt: skip
    for file, node in nodes(*FOLDERS):
        if isinstance(node, ast.keyword) and node.arg == "shell":
            pytest.fail(f"{file}: {ast.unparse(node)}")


def test_the_package_starts_no_program() -> None:
    assert [file for file, node in nodes(PACKAGE) if "subprocess" in imported(node)] == []


def test_temporary_files_have_names_nobody_can_guess() -> None:
    for file, node in nodes(*FOLDERS):
        assert called(node) not in ("tempfile.mktemp", "mktemp"), file
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            assert not node.value.startswith("/tmp/"), file


def test_no_archive_is_unpacked() -> None:
    assert [file for file, node in nodes(PACKAGE)
            if {name.split(".")[0] for name in imported(node)} & ARCHIVES] == []  # fmt: skip


def test_markup_is_made_of_our_own_files_in_one_place() -> None:
    assert {file for file, node in nodes(PACKAGE) if called(node) == "Markup"} == {
        "milp_search/study/page.py"
    }
    made = [node for _, node in nodes(PACKAGE) if called(node) == "Environment"]
    assert ["autoescape=True" in ast.unparse(node) for node in made] == [True]


def patterns() -> Iterator[tuple[str, str]]:
    for file, node in nodes(PACKAGE):
        if isinstance(node, ast.Call) and called(node).startswith("re.") and node.args:
            first = node.args[0]
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                yield file, first.value


def repeats_within_repeats(parsed: Any, *, inside: bool = False) -> bool:
    """Returns whether what may repeat without bound holds what may: (a+)+ takes for ever."""
    for code, argument in parsed:
        repeats = code in (codes.MAX_REPEAT, codes.MIN_REPEAT)
        unbounded = repeats and argument[1] == codes.MAXREPEAT
        if inside and unbounded:
            return True
        parts = argument if isinstance(argument, tuple) else (argument,)
        inner = [part for part in parts if isinstance(part, parser.SubPattern)]
        if code is codes.BRANCH:
            inner = list(argument[1])
        if any(repeats_within_repeats(part, inside=inside or unbounded) for part in inner):
            return True
    return False


def test_no_pattern_repeats_what_repeats() -> None:
    found = list(patterns())
    assert len(found) > 10
    assert [one for one in found if repeats_within_repeats(parser.parse(one[1]))] == []


@pytest.mark.parametrize("pattern", [r"(a+)+b", r"(\w+\s*)*:", r"(?:x|(?:y*z)+)*"])
def test_the_scan_finds_what_takes_for_ever(pattern: str) -> None:
    assert repeats_within_repeats(parser.parse(pattern))

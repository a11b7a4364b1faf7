"""The project's own source, parsed, for rules that hold for every line of it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "milp_search"
FOLDERS = (PACKAGE, ROOT / "scripts", ROOT / "benchmarks")


@cache
def trees(*folders: Path) -> dict[str, ast.Module]:
    """Returns the syntax tree of each source file below the folders, by its name below the root."""
    paths = sorted(path for folder in folders for path in folder.rglob("*.py"))
    return {path.relative_to(ROOT).as_posix(): ast.parse(path.read_text("utf-8")) for path in paths}


def nodes(*folders: Path) -> Iterator[tuple[str, ast.AST]]:
    """Yields every node of every source file below the folders, with the file's name."""
    for name, tree in trees(*folders).items():
        for node in ast.walk(tree):
            yield name, node


def imported(node: ast.AST) -> list[str]:
    """Returns the full names of what an import statement imports; nothing for other nodes."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return [f"{node.module or ''}.{alias.name}" for alias in node.names]
    return []


def called(node: ast.AST) -> str:
    """Returns what a call calls, as it is written; empty for other nodes."""
    return ast.unparse(node.func) if isinstance(node, ast.Call) else ""

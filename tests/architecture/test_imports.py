"""Each heavy library has one home, and the library never prints."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "milp_search"

# Library to the modules that may import it.
HOMES: dict[str, tuple[str, ...]] = {
    "ax": ("milp_search.search",),
    "botorch": ("milp_search.search",),
    "gpytorch": ("milp_search.search",),
    "transformers": ("milp_search.adapters",),
    "peft": ("milp_search.adapters",),
    "datasets": ("milp_search.data",),
    "rouge_score": ("milp_search.metrics",),
    "ruamel": ("milp_search.space", "milp_search.study.spec_file"),
    "pydantic": ("milp_search.space", "milp_search.study.spec"),
    "sqlite3": ("milp_search.study",),
    "plotly": ("milp_search.study",),
    "jinja2": ("milp_search.study",),
    "ray": ("milp_search.dispatch",),
    "typer": ("milp_search.cli",),
    "starlette": ("milp_search.dispatch.serving",),
    "uvicorn": ("milp_search.dispatch.serving",),
    "openai": ("milp_search.endpoint",),
    "bm25s": ("milp_search.personalize.retrieval",),
}


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("milp_search", include_external_packages=True)


@pytest.mark.parametrize("library", HOMES)
def test_a_library_is_imported_in_its_home_only(graph: grimp.ImportGraph, library: str) -> None:
    importers = graph.find_modules_that_directly_import(library)
    assert importers, f"nothing imports {library}: take it out of the table"
    homes = HOMES[library]
    strays = [m for m in importers if not any(m == h or m.startswith(f"{h}.") for h in homes)]
    # `study` converts to Ax through `search`, and the spec's files share one home.
    assert not [m for m in strays if not m.startswith("milp_search.study.spec")]


def sources() -> Iterator[tuple[Path, ast.Module]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        yield path, ast.parse(path.read_text(encoding="utf-8"))


def test_the_library_never_prints() -> None:
    printing = {
        path.relative_to(PACKAGE).as_posix()
        for path, tree in sources()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "print"
    }
    assert printing <= {"cli.py"}

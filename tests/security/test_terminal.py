"""No text steers the terminal it is printed on, and none is rich's markup."""

from __future__ import annotations

import ast
import io
import logging
from pathlib import Path

import pytest
from rich.table import Table

from milp_search import cli
from milp_search.core.printable import printable
from milp_search.core.trial import Objective
from milp_search.dispatch.console import PlainConsole
from milp_search.dispatch.show import print_front
from milp_search.space.search_space import SearchSpace, configure
from milp_search.study.study import Study
from security.command import Command
from security.sources import PACKAGE, called, nodes

HOSTILE = {
    "\x1b[31mred\x1b[0m": "\\x1b[31mred\\x1b[0m",
    "\x1b]8;;https://evil.example\x1b\\here\x1b]8;;\x1b\\": (
        "\\x1b]8;;https://evil.example\\x1b\\here\\x1b]8;;\\x1b\\"
    ),
    "\x9b2J": "\\x9b2J",
    "\x07bell": "\\x07bell",
    "good\x08\x08\x08\x08evil": "good\\x08\\x08\\x08\\x08evil",
    "good\revil": "good\\revil",
    "\u202eteg": "\\u202eteg",
    "\u2066a\u2069": "\\u2066a\\u2069",
    "a\u2028b": "a\\u2028b",
    "\ud800": "\\ud800",
    "\0": "\\x00",
    "\x7f": "\\x7f",
}
MARKUP = ("[bold]x[/bold]", "[link=https://evil.example]x[/link]", "[/]", "[/nothing]", ":smile:")


@pytest.mark.parametrize("text", HOSTILE)
def test_what_steers_a_terminal_is_written_out(text: str) -> None:
    assert printable(text) == HOSTILE[text]


@pytest.mark.parametrize(
    "text", ["plain", "naïve 你好 עברית", "a\u00a0b", "👩\u200d🔬", "a\n\tb", ""]
)
def test_what_does_not_stays(text: str) -> None:
    assert printable(text) == text


def printed(content: object) -> str:
    out = io.StringIO()
    PlainConsole(file=out, width=400).print(content)
    return out.getvalue()


@pytest.mark.parametrize("text", [*HOSTILE, *MARKUP])
def test_the_console_prints_a_text_as_it_is_alone_and_in_tables(text: str) -> None:
    table = Table(text, title=text)
    table.add_column(text)
    table.add_row(text, text)
    assert printed(text).rstrip("\n") == printable(text)
    assert printed(table).count(printable(text)) == 5
    assert "\x1b" not in printed(table)


@pytest.mark.parametrize("text", HOSTILE)
def test_a_log_record_is_written_out(text: str) -> None:
    record = logging.LogRecord("x", logging.WARNING, "f", 1, "got %s", (text,), None)
    assert cli._PlainFormatter("%(message)s").format(record) == f"got {HOSTILE[text]}"


def test_the_command_line_prints_through_these_only() -> None:
    made = [name for name, node in nodes(PACKAGE) if called(node) == "Console"]
    assert made == []
    for name, node in nodes(PACKAGE):
        if isinstance(node, ast.Call) and called(node) == "print":
            first = ast.unparse(node.args[0])
            assert first == "__version__" or first.startswith("printable("), name


@pytest.mark.parametrize("text", ["\\e[31mred", "\\x9bred", "\\u202eder"])
def test_a_name_in_a_space_file_is_written_out(
    tmp_path: Path, milp_search: Command, text: str
) -> None:
    file = tmp_path / "file.yaml"
    file.write_text(f'name: "{text}"\nlayers: 4\ndimensions: {{lora_rank: [1, 2]}}\n')
    code, out, _ = milp_search("validate", file)
    assert code == 0
    assert printable(out) == out
    assert "red" in out or "der" in out


def test_a_folder_with_a_hostile_name_is_shown_written_out(
    tmp_path: Path, milp_search: Command
) -> None:
    code, _, error = milp_search("status", tmp_path / "\x1b]0;owned\x07[bold]\u202e")
    assert code == 2
    assert "\\x1b]0;owned\\x07[bold]\\u202e" in error


@pytest.mark.parametrize("text", [*HOSTILE, *MARKUP])
def test_a_hostile_metric_on_the_front_is_text(text: str, tmp_path: Path) -> None:
    layers = SearchSpace("s", 2, configure({"lora_rank": [1, 2]}, 2))
    goal = Objective(text.replace("\ud800", ""), "minimize", 1.0)
    out = io.StringIO()
    with Study.create(
        tmp_path / "study", space=layers, objectives=[goal], proposer="random", initial_trials=1
    ) as study:
        study.tell(study.ask().index, {goal.metric: 0.5})
        print_front(study.folder, PlainConsole(file=out, width=400))
    assert printable(goal.metric) in out.getvalue()
    assert printable(out.getvalue()) == out.getvalue()

"""The search looks into every file there is, and says where it found the id."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from milp_search.dispatch.forget.traces import traces
from milp_search.dispatch.forget.wanted import Wanted
from milp_search.study.page import chart_library

USER = "nobody-else"


def as_link(folder: Path) -> None:
    (folder / "link").symlink_to(f"/srv/{USER}/data")


def as_file_name(folder: Path) -> None:
    (folder / f"{USER}.json").write_text("{}")


def as_folder_name(folder: Path) -> None:
    (folder / USER).mkdir()


def in_metadata(folder: Path) -> None:
    save_file({"a": torch.zeros(1)}, folder / "m.safetensors", metadata={"user": USER})


def in_tensors(folder: Path) -> None:
    letters = torch.tensor([*f"12{USER}34".encode()], dtype=torch.uint8)
    save_file({"a": letters}, folder / "t.safetensors")


def database(folder: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(folder / "d.sqlite3", isolation_level=None)
    connection.execute("CREATE TABLE events (payload TEXT)")
    return connection


def in_a_cell(folder: Path) -> None:
    connection = database(folder)
    connection.execute("INSERT INTO events VALUES (?)", (json.dumps(["x", USER]),))
    connection.close()


def in_a_free_page(folder: Path) -> None:
    connection = database(folder)
    connection.execute("PRAGMA secure_delete = OFF")
    connection.execute("INSERT INTO events VALUES (?)", (f"x{USER}" * 2000,))
    connection.execute("DELETE FROM events")
    connection.close()


CASES: list[tuple[Callable[[Path], None], list[str]]] = [
    (as_link, ["link: in where it leads"]),
    (as_file_name, [f"{USER}.json: in its name"]),
    (as_folder_name, [f"{USER}: in its name"]),
    (in_metadata, ["m.safetensors: in the tensors' names or metadata",
                   "m.safetensors: in its bytes"]),
    (in_tensors, ["t.safetensors: in its bytes"]),
    (in_a_cell, ["d.sqlite3: in its content", "d.sqlite3: in its pages",
                 "d.sqlite3: in row 1 of events"]),
    (in_a_free_page, ["d.sqlite3: in its pages"]),
]  # fmt: skip


@pytest.mark.parametrize(("leave", "expected"), CASES)
def test_an_id_is_found(leave: Callable[[Path], None], expected: list[str], tmp_path: Path) -> None:
    leave(tmp_path)
    assert traces(tmp_path, Wanted(USER)) == expected
    assert traces(tmp_path, Wanted("somebody")) == []


def test_folders_below_are_searched_and_files_that_are_empty(tmp_path: Path) -> None:
    deep = tmp_path / "parts" / "one" / "results"
    deep.mkdir(parents=True)
    (deep / "r.json").write_text(json.dumps({"u": USER}))
    (tmp_path / "empty.safetensors").write_bytes(b"")
    assert traces(tmp_path, Wanted(USER)) == ["parts/one/results/r.json: in its content"]


def test_an_id_that_two_pages_of_a_database_share_is_found(tmp_path: Path) -> None:
    connection = database(tmp_path)
    # What is longer than a page goes on in others, of 4,092 bytes: in two rows of three, a page
    # ends within an id.
    for shift in range(3):
        connection.execute("INSERT INTO events VALUES (?)", (" " * shift + "z0 " * 4096,))
    connection.close()
    found = traces(tmp_path, Wanted("z0"))
    assert found[-3:] == [f"d.sqlite3: in row {row} of events" for row in (1, 2, 3)]


def test_a_damaged_database_is_searched_as_it_stands(tmp_path: Path) -> None:
    (tmp_path / "d.sqlite3").write_bytes(b"SQLite format 3\0 of " + USER.encode() + b" torn")
    assert traces(tmp_path, Wanted(USER)) == [
        "d.sqlite3: in its content", "d.sqlite3: in its pages",
    ]  # fmt: skip


def test_what_every_report_and_every_base_model_holds_is_no_trace(tmp_path: Path) -> None:
    word = "Plotly"
    assert word in chart_library()
    (tmp_path / "report.html").write_text(f"<script>{chart_library()}</script>")
    (tmp_path / "tokenizer.json").write_text(json.dumps({"vocab": {word: 1}}))
    assert traces(tmp_path, Wanted(word)) == []
    (tmp_path / "report.html").write_text(f"<script>{chart_library()}</script> {word} ")
    assert traces(tmp_path, Wanted(word)) == ["report.html: in its content"]


def written_by_a_study(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "study.sqlite3").write_bytes(b"")
    (folder / "report.html").write_text('<th scope="row">1</th><rect x="1"/>')
    (folder / "front.json").write_text(json.dumps({"test_seeds": {"1": {}}}))


def test_numbers_of_trials_and_seeds_are_no_users(tmp_path: Path) -> None:
    written_by_a_study(tmp_path / "parts" / "news")
    (tmp_path / "logo-2.html").write_text("<td>1</td>")
    assert traces(tmp_path, Wanted("1")) == []
    (tmp_path / "parts" / "news" / "manifest.json").write_text(json.dumps({"users": {"1": []}}))
    (tmp_path / "parts" / "mine.html").write_text("<td>1</td>")
    assert traces(tmp_path, Wanted("1")) == [
        "parts/mine.html: in its content", "parts/news/manifest.json: in its content",
    ]  # fmt: skip


def test_an_id_that_is_a_word_is_looked_for_in_reports_too(tmp_path: Path) -> None:
    written_by_a_study(tmp_path / "run")
    (tmp_path / "run" / "report.html").write_text(f"<td>{USER}</td>")
    assert traces(tmp_path, Wanted(USER)) == ["run/report.html: in its content"]

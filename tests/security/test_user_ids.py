"""A user's id names no file, and no link in a study's folder leads writing out of it."""

from __future__ import annotations

import json
import os
import stat
from io import StringIO
from pathlib import Path

import pytest
import torch

from dispatch.small_study import small_study
from milp_search.adapters.stage_cache import StageCache
from milp_search.core.errors import StudyError
from milp_search.core.private_files import appending, keep_private, own_folder
from milp_search.dispatch.console import PlainConsole
from milp_search.dispatch.drive import prepare, run_study
from milp_search.dispatch.show import copy_adapters
from milp_search.study.spec_file import load_study_spec

HOSTILE = (
    "../../evil", "/tmp/evil-absolute", "nul\0byte", "new\nline", "x" * 300, "CON", "-rf",
    "\u0430dmin", "a/b\\c", "..", "\u202eevil", "study.sqlite3", "$(touch evil)", "*",
)  # fmt: skip
# What our own names hold as well.
OURS = ("study.sqlite3", "..")


def hostile_data(folder: Path) -> Path:
    records = [
        {"user_id": user, "query": f"what {n}?", "response": f"that {n}", "timestamp": 86_400 * n}
        for user in HOSTILE
        for n in range(8)
    ]
    file = folder / "data.jsonl"
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    return file


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a study of hostile users, run where others may read what is made."""
    place = tmp_path_factory.mktemp("hostile")
    file = small_study(place, trials=2)
    lines = file.read_text().splitlines(keepends=True)
    text = "".join(line for line in lines if "population:" not in line)
    text = text.replace("  targets: 3", f"  targets: 13\n  path: {hostile_data(place)}")
    file.write_text(text.replace("training:", "training:\n  base_training: lora"))
    before = os.umask(0)
    try:
        spec = load_study_spec(file, {"dispatch.local": True})
        code = run_study(prepare(spec, file), place / "out", PlainConsole(file=StringIO()))
        copy_adapters(place / "out", place / "copy")
    finally:
        os.umask(before)
    assert code == 0
    return place


@pytest.mark.slow
def test_everything_lies_in_the_folder_and_no_name_holds_an_id(finished: Path) -> None:
    names = {path.name for path in finished.iterdir()}
    assert names == {"study.yaml", "space.yaml", "data.jsonl", "out", "copy"}
    written = [path for path in (finished / "out").rglob("*")]
    assert {path.name for path in (finished / "out").iterdir()} >= {"adapters", "cache", "results"}
    for path in written:
        assert not path.is_symlink()
        assert not [user for user in HOSTILE if user in path.name and user not in OURS]
        assert path.name.isascii()
        assert path.name.isprintable()
        assert len(path.name) < 100


@pytest.mark.slow
def test_users_are_told_apart_by_their_whole_id(finished: Path) -> None:
    for manifest in (finished / "out" / "adapters").glob("trial-*/manifest.json"):
        users = json.loads(manifest.read_text())["users"]
        assert set(users) < set(HOSTILE)
        own = [names[-1] for names in users.values() if names]
        assert len(set(own)) in (len(own), 1)


@pytest.mark.slow
def test_folders_are_0700_and_files_0600_whatever_the_umask(finished: Path) -> None:
    tops = [finished / "out", *(finished / "copy" / "adapters").iterdir()]
    for path in [*tops, *(path for top in tops for path in top.rglob("*"))]:
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600), f"{path} {mode:o}"
    suffixes = {path.suffix for path in (finished / "out").rglob("*")}
    assert suffixes >= {".safetensors", ".json", ".sqlite3", ".yaml", ".html", ".csv"}


def test_a_link_in_place_of_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "results").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StudyError, match=r"got a link(.|\n)*Remove the link"):
        own_folder(tmp_path / "results")


def test_a_log_is_not_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "log.txt").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StudyError, match="got a link"), appending(tmp_path / "log.txt"):
        pass
    assert not (tmp_path / "elsewhere").exists()


def test_the_cache_is_not_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "cache").symlink_to(tmp_path / "elsewhere")
    StageCache(tmp_path / "cache").put("kind", "key", {"x": torch.zeros(1)}, {})
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_what_was_open_becomes_private(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir(mode=0o755)
    (tmp_path / "a" / "b").write_text("x")
    (tmp_path / "a" / "b").chmod(0o644)
    keep_private(tmp_path / "a")
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == 0o600

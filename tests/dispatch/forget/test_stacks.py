"""What goes with a user from a folder of stacks, by how far it reaches."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from milp_search.core.errors import StudyError
from milp_search.dispatch.forget.stacks import (
    Reach,
    Taken,
    forget_in_stacks,
    method_of,
    stacks_without,
    users_of,
)

# A community of `u1` and `u10`, one of `z` alone, and a user without any adapter.
STACKS = {"u1": ["g-1", "l-1"], "u10": ["g-1", "l-10"], "z": ["g-z", "l-z"], "none": []}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A trial's adapters as they lie on disk."""
    trial = tmp_path / "trial-0"
    for name in {name for stack in STACKS.values() for name in stack}:
        (trial / name).mkdir(parents=True)
        (trial / name / "adapter_model.safetensors").write_bytes(name.encode())
    manifest = {"plan": {"method": "logo"}, "trial": 0, "users": STACKS}
    (trial / "manifest.json").write_text(json.dumps(manifest))
    return trial


def content(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize(
    ("reach", "left"),
    [
        ("own", {"u10": ["g-1", "l-10"], "z": ["g-z", "l-z"], "none": []}),
        ("stack", {"z": ["g-z", "l-z"], "none": []}),
        ("all", {"none": []}),
    ],
)
def test_who_keeps_a_stack(reach: Reach, left: dict[str, list[str]]) -> None:
    assert stacks_without(STACKS, "u1", reach) == left


def test_a_user_without_stack_takes_nothing_along_but_where_all_goes() -> None:
    assert stacks_without(STACKS, "o", "stack") == STACKS
    assert stacks_without(STACKS, "o", "own") == STACKS
    assert stacks_without(STACKS, "o", "all") == {"none": []}


def test_a_shared_adapter_goes_with_the_user_and_with_it_what_stands_on_it(folder: Path) -> None:
    before = content(folder)
    assert forget_in_stacks(folder, "u1", "stack") == Taken(adapters=3, others=1, kept=0)
    after = content(folder)
    assert json.loads(after.pop("manifest.json")) == {
        "plan": {"method": "logo"}, "trial": 0, "users": {"none": [], "z": ["g-z", "l-z"]},
    }  # fmt: skip
    assert after == {name: before[name] for name in before if name.startswith(("g-z", "l-z"))}


def test_a_shared_adapter_stays_where_that_is_wanted(folder: Path) -> None:
    before = content(folder)
    assert forget_in_stacks(folder, "u1", "own") == Taken(adapters=1, others=0, kept=1)
    after = content(folder)
    assert "u1" not in json.loads(after.pop("manifest.json"))["users"]
    assert set(before) - set(after) == {"l-1/adapter_model.safetensors", "manifest.json"}


def test_a_second_call_removes_what_a_killed_first_one_left(folder: Path) -> None:
    content_before = json.loads((folder / "manifest.json").read_text())
    content_before["users"] = stacks_without(STACKS, "u1", "stack")
    (folder / "manifest.json").write_text(json.dumps(content_before))
    assert forget_in_stacks(folder, "u1", "stack").adapters == 3
    assert {path.name for path in folder.iterdir()} == {"manifest.json", "g-z", "l-z"}
    assert forget_in_stacks(folder, "u1", "stack") == Taken()


@pytest.mark.parametrize("text", [None, "", "{", "[]", '{"users": {'])
def test_a_folder_without_a_manifest_that_can_be_read_is_removed(
    text: str | None, folder: Path
) -> None:
    (folder / "manifest.json").unlink()
    if text is not None:
        (folder / "manifest.json").write_text(text)
    assert users_of(folder) == {}
    assert method_of(folder) is None
    forget_in_stacks(folder, "u1", "own")
    assert not folder.exists()


def test_nothing_is_removed_through_a_link(folder: Path) -> None:
    link = folder.with_name("trial-1")
    link.symlink_to(folder)
    before = content(folder)
    with pytest.raises(StudyError, match="a link to another place"):
        forget_in_stacks(link, "u1", "all")
    assert content(folder) == before


def test_the_method_is_the_plans(folder: Path) -> None:
    assert method_of(folder) == "logo"

from __future__ import annotations

import json
import logging
import os
import resource
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from milp_search.adapters.stage_cache import StageCache

KEY, OTHER = "0" * 32, "1" * 32
TENSORS = {"a": torch.tensor([1.5, -0.0, float("inf")]), "b": torch.tensor([[7]])}
FACTS = {"paths": ["z", "a"], "n": 3}
MIB = 2**20


def file_of(folder: Path, key: str = KEY) -> Path:
    return folder / "kind" / f"{key}.safetensors"


def written(folder: Path, key: str = KEY) -> Path:
    StageCache(folder).put("kind", key, TENSORS, FACTS)
    return file_of(folder, key)


def keys_of(folder: Path) -> set[str]:
    return {path.stem for path in folder.glob("*/*")}


def test_an_entry_comes_back_bit_for_bit_from_the_folder(tmp_path: Path) -> None:
    written(tmp_path)
    found = StageCache(tmp_path).get("kind", KEY)
    assert found is not None
    tensors, facts = found
    assert facts == FACTS
    assert tensors.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert tensors[name].dtype == tensor.dtype
        assert tensors[name].numpy().tobytes() == tensor.numpy().tobytes()


def test_what_was_never_put_is_not_there(tmp_path: Path) -> None:
    cache = StageCache(tmp_path / "none")
    assert cache.get("kind", KEY) is None
    assert not (tmp_path / "none").exists()


def test_kinds_are_kept_apart(tmp_path: Path) -> None:
    written(tmp_path)
    assert StageCache(tmp_path).get("other", KEY) is None


def test_hits_and_misses_are_counted_by_kind_until_the_reset(tmp_path: Path) -> None:
    cache = StageCache(tmp_path)
    cache.get("kind", KEY)
    cache.put("kind", KEY, TENSORS, FACTS)
    cache.get("kind", KEY)
    cache.count("other", hit=True)
    assert cache.counts == {"kind": (1, 1), "other": (1, 0)}
    cache.reset_counts()
    assert cache.counts == {}


def test_what_is_changed_after_it_was_put_does_not_change_the_entry(tmp_path: Path) -> None:
    cache, tensor, facts = StageCache(tmp_path), torch.ones(2), {"n": [1]}
    cache.put("kind", KEY, {"a": tensor}, facts)
    tensor.zero_()
    facts["n"].append(2)
    for one in (cache, StageCache(tmp_path)):
        found = one.get("kind", KEY)
        assert found is not None
        assert found[0]["a"].tolist() == [1, 1]
        assert found[1] == {"n": [1]}


def test_tensors_that_share_memory_or_are_transposed_are_kept(tmp_path: Path) -> None:
    pool = torch.arange(6.0).reshape(2, 3)
    StageCache(tmp_path).put("kind", KEY, {"all": pool, "turned": pool.T, "part": pool[1]}, {})
    found = StageCache(tmp_path).get("kind", KEY)
    assert found is not None
    assert found[0]["turned"].tolist() == [[0, 3], [1, 4], [2, 5]]
    assert found[0]["part"].tolist() == [3, 4, 5]


def test_folders_and_files_are_their_owners_alone(tmp_path: Path) -> None:
    file = written(tmp_path / "cache")
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (file.parent.parent, file.parent, file)]
    assert modes == [0o700, 0o700, 0o600]


def test_no_unfinished_file_stays(tmp_path: Path) -> None:
    file = written(tmp_path)
    assert [*file.parent.iterdir()] == [file]


# --- damage ---------------------------------------------------------------------------------


@given(data=st.data())
def test_a_file_cut_anywhere_or_with_any_byte_changed_is_a_miss_and_goes(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("damage")
    file = written(folder)
    whole = file.read_bytes()
    place = data.draw(st.integers(0, len(whole) - 1))
    if data.draw(st.booleans()):
        file.write_bytes(whole[:place])
    else:
        changed = whole[place] ^ data.draw(st.integers(1, 255))
        file.write_bytes(whole[:place] + bytes([changed]) + whole[place + 1 :])
    found = StageCache(folder).get("kind", KEY)
    if found is None:
        assert not file.exists()
    else:  # a byte of the header that says nothing, such as a space
        assert all(torch.equal(found[0][name], TENSORS[name]) for name in TENSORS)
        assert found[1] == FACTS


def test_a_damaged_entry_is_told_of_without_its_content(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    written(tmp_path).write_bytes(b"anna likes tea")
    assert StageCache(tmp_path).get("kind", KEY) is None
    assert caplog.messages == [f"removed an unreadable entry, kind/{KEY}: SafetensorError"]


def test_a_safetensors_file_that_is_not_ours_is_a_miss(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    file = file_of(tmp_path)
    file.parent.mkdir()
    save_file({"a": torch.ones(1)}, file)
    assert StageCache(tmp_path).get("kind", KEY) is None


# --- room -----------------------------------------------------------------------------------


def put_at(cache: StageCache, key: str, time: float, size: float = 0.1 * MIB) -> None:
    cache.put("kind", key, {"a": torch.zeros(int(size) // 4)}, {})
    os.utime(file_of(cache.folder, key), (time, time))


def test_the_files_longest_unused_go_first(tmp_path: Path) -> None:
    cache = StageCache(tmp_path, limit_mib=1)
    for n in range(8):
        put_at(cache, f"{n:032}", 1000.0 + n)
    assert cache.get("kind", f"{0:032}")
    put_at(cache, f"{8:032}", 2000.0)
    assert keys_of(tmp_path) == {f"{n:032}" for n in (0, 2, 3, 4, 5, 6, 7, 8)}


@pytest.mark.parametrize("size", [0.01, 0.1, 0.24])
def test_the_files_never_take_more_than_the_bound(tmp_path: Path, size: float) -> None:
    cache = StageCache(tmp_path, limit_mib=1)
    for n in range(int(3 / size)):
        put_at(cache, f"{n:032}", 1000.0 + n, size * MIB)
        assert sum(path.stat().st_size for path in tmp_path.glob("*/*")) <= MIB


def test_an_entry_larger_than_a_quarter_of_the_bound_is_not_kept(tmp_path: Path) -> None:
    cache = StageCache(tmp_path, limit_mib=1)
    cache.put("kind", KEY, {"a": torch.zeros(MIB // 16 + 1)}, {})
    assert cache.get("kind", KEY) is None


def test_what_a_killed_process_left_unfinished_goes_like_the_rest(tmp_path: Path) -> None:
    left = tmp_path / "kind" / "tmpx"
    left.parent.mkdir()
    left.write_bytes(bytes(MIB))
    os.utime(left, (1000.0, 1000.0))
    StageCache(tmp_path, limit_mib=1).put("kind", KEY, TENSORS, FACTS)
    assert keys_of(tmp_path) == {KEY}


@contextmanager
def full_disk() -> Iterator[None]:
    """Lets no file grow beyond 100 bytes: a real failure in the middle of writing.

    Only around the writing: what pytest itself prints may go to a file, too.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_on_a_full_disk_nothing_is_kept_nothing_left_and_it_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = StageCache(tmp_path)
    with caplog.at_level(logging.INFO), full_disk():
        for key in (KEY, OTHER):
            cache.put("kind", key, TENSORS, FACTS)
    assert keys_of(tmp_path) == set()
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith(f"cannot keep stages in {tmp_path}: ")
    assert cache.get("kind", KEY) is not None, "it is still in memory"
    assert StageCache(tmp_path).get("kind", KEY) is None


def test_an_unfinished_file_that_another_process_took_away_is_no_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(source: str, target: Path) -> None:
        os.unlink(source)
        raise FileNotFoundError(source)

    monkeypatch.setattr(os, "replace", gone)
    StageCache(tmp_path).put("kind", KEY, TENSORS, FACTS)
    assert keys_of(tmp_path) == set()
    assert caplog.messages == []


def test_a_folder_that_cannot_be_made_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    cache = StageCache(tmp_path / "file" / "cache", memory_mib=0)
    cache.put("kind", KEY, TENSORS, FACTS)
    assert cache.get("kind", KEY) is None


def test_without_memory_entries_come_from_the_folder(tmp_path: Path) -> None:
    cache = StageCache(tmp_path, memory_mib=0)
    cache.put("kind", KEY, TENSORS, FACTS)
    assert cache.get("kind", KEY) is not None
    assert json.dumps(cache.counts) == '{"kind": [1, 0]}'

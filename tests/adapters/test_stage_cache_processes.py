"""Several processes and threads on one cache."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from milp_search.adapters.stage_cache import StageCache

# Puts entries of its own and entries that all write, and reads all the while: whatever is found
# is whole, for each holds its key's number throughout.
WRITER = """
import sys
from pathlib import Path
import torch
from milp_search.adapters.stage_cache import StageCache

folder, own = Path(sys.argv[1]), int(sys.argv[2])
cache = StageCache(folder, limit_mib=float(sys.argv[3]), memory_mib=0)
for turn in range(60):
    for n in (turn % 4, 100 + turn % 4 + own * 10):
        cache.put("kind", f"{n:032}", {"a": torch.full((20_000,), float(n))}, {"n": n})
    for n in (0, 1, 2, 3, *range(100, 104), *range(110, 114)):
        found = cache.get("kind", f"{n:032}")
        assert found is None or (found[0]["a"] == n).all() and found[1] == {"n": n}
print(sum(misses for _, misses in cache.counts.values()))
"""


def run_writers(folder: Path, limit_mib: float) -> Sequence[tuple[str, str]]:
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(folder), str(own), str(limit_mib)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for own in (0, 1)
    ]
    return [writer.communicate(timeout=120) for writer in writers]


@pytest.mark.slow
def test_two_processes_that_write_the_same_and_other_entries_lose_none(tmp_path: Path) -> None:
    for _, errors in run_writers(tmp_path, 1024):
        assert errors == ""
    cache = StageCache(tmp_path)
    for n in (0, 1, 2, 3, *range(100, 104), *range(110, 114)):
        found = cache.get("kind", f"{n:032}")
        assert found is not None
        assert (found[0]["a"] == n).all()
    assert len([*tmp_path.glob("*/*")]) == 12


@pytest.mark.slow
def test_two_processes_that_make_room_at_once_disturb_neither(tmp_path: Path) -> None:
    """An entry takes 80 KB, the bound is 400 KB: nearly every entry written drives out another."""
    for misses, errors in run_writers(tmp_path, 0.4):
        assert errors == ""
        assert int(misses) > 0


def test_threads_share_one_cache(tmp_path: Path) -> None:
    cache = StageCache(tmp_path, memory_mib=0.1)

    def work() -> None:
        for n in range(40):
            cache.put("kind", f"{n % 5:032}", {"a": torch.full((3000,), float(n % 5))}, {})
            assert cache.get("kind", f"{n % 5:032}")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert cache.counts == {"kind": (160, 0)}

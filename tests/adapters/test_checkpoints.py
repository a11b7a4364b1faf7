"""Every stage of a run is on disk until the run has ended, and no other run's is taken."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from adapters.counting import JOB, PLAN, SETTINGS, Counting
from adapters.test_stage_cache import full_disk
from milp_search.adapters.checkpoints import Checkpoints
from milp_search.adapters.jobs import Adapter, TrainJob
from milp_search.adapters.stage_cache import StageCache
from milp_search.core.plan import AdapterPlan
from milp_search.core.settings import TrainingSettings

GLOBAL = replace(JOB, reusable=True)
LOCAL = replace(JOB, key="local:anna", below=(), start=None, reusable=False)


def attempt(
    folder: Path,
    *jobs: TrainJob,
    size: int = 1,
    base: str = "base",
    settings: TrainingSettings = SETTINGS,
    shared: StageCache | None = None,
) -> tuple[list[Adapter], int]:
    """Returns what a new process gets of a run's stages, and how many it had to train."""
    inner = Counting(settings, size)
    trainer = Checkpoints.open(folder, base, shared).behind(inner)
    return [trainer.train([job])[0] for job in jobs], sum(map(len, inner.calls))


def bits(adapters: list[Adapter]) -> list[list[bytes]]:
    return [
        [matrix.numpy().tobytes() for pair in one.tensors.values() for matrix in pair]
        for one in adapters
    ]


def files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.safetensors"))


def test_another_attempt_trains_no_stage_again_and_has_it_bit_for_bit(tmp_path: Path) -> None:
    first, trained = attempt(tmp_path, GLOBAL, LOCAL)
    assert trained == 2
    again, trained = attempt(tmp_path, GLOBAL, LOCAL)
    assert trained == 0
    assert bits(again) == bits(first)
    assert [one.key for one in again] == ["global:a", "local:anna"]


def test_a_stage_is_on_disk_before_the_next_begins(tmp_path: Path) -> None:
    class Dying(Counting):
        def train(self, jobs: object) -> list[Adapter]:
            if self.calls:
                raise KeyboardInterrupt
            return super().train(jobs)  # type: ignore[arg-type]

    trainer = Checkpoints.open(tmp_path, "base", None).behind(Dying())
    trainer.train([GLOBAL])
    with pytest.raises(KeyboardInterrupt):
        trainer.train([LOCAL])
    assert attempt(tmp_path, GLOBAL)[1] == 0
    assert attempt(tmp_path, LOCAL)[1] == 1


def test_a_users_stage_is_kept_however_large_it_is(tmp_path: Path) -> None:
    large = 3 * 2**20  # A and B of 12 MiB each: the study's cache would not keep it
    attempt(tmp_path, LOCAL, size=large)
    assert attempt(tmp_path, LOCAL, size=large)[1] == 0


def test_jobs_without_examples_or_rank_leave_nothing(tmp_path: Path) -> None:
    attempt(tmp_path, replace(LOCAL, examples=()), replace(LOCAL, plan=AdapterPlan((0, 0, 0))))
    assert files(tmp_path) == []


@pytest.mark.parametrize(
    "change",
    [
        {"plan": replace(PLAN, alpha_over_rank=2.0)},
        {"seed": 6},
        {"examples": JOB.examples[:2]},
        {"key": "local:bert"},
        {"epochs": 7},
    ],
    ids=["plan", "seed", "data", "user", "length"],
)
def test_a_stage_of_another_job_is_never_taken(
    tmp_path: Path, change: Mapping[str, object]
) -> None:
    attempt(tmp_path, LOCAL)
    assert attempt(tmp_path, replace(LOCAL, **change))[1] == 1  # type: ignore[arg-type]


def test_a_stage_of_another_base_or_other_settings_is_never_taken(tmp_path: Path) -> None:
    attempt(tmp_path, LOCAL)
    assert attempt(tmp_path, LOCAL, base="other")[1] == 1
    assert attempt(tmp_path, LOCAL, settings=replace(SETTINGS, learning_rate=2e-2))[1] == 1


def test_a_stage_on_a_retrained_one_is_never_the_old_one(tmp_path: Path) -> None:
    (below,), _ = attempt(tmp_path, GLOBAL)
    attempt(tmp_path, replace(LOCAL, below=(below,)))
    other = Adapter(below.key, below.plan, {"layer.one": (torch.ones(1, 1), torch.ones(1, 1))})
    assert attempt(tmp_path, replace(LOCAL, below=(other,)))[1] == 1


@pytest.mark.parametrize("damage", ["torn", "empty", "flipped"])
def test_a_damaged_stage_is_trained_anew_and_then_whole(tmp_path: Path, damage: str) -> None:
    first, _ = attempt(tmp_path, LOCAL)
    (file,) = files(tmp_path)
    content = file.read_bytes()
    flipped = content[:-1] + bytes([content[-1] ^ 1])
    file.write_bytes({"torn": content[:-9], "empty": b"", "flipped": flipped}[damage])
    again, trained = attempt(tmp_path, LOCAL)
    assert (trained, bits(again)) == (1, bits(first))
    assert attempt(tmp_path, LOCAL)[1] == 0


# --- beside the study's cache ---------------------------------------------------------------


def test_what_the_studys_cache_holds_is_not_written_twice_but_outlives_it(tmp_path: Path) -> None:
    shared = StageCache(tmp_path / "cache")
    attempt(tmp_path / "one", GLOBAL)  # elsewhere, to have the entry's name
    (entry,) = files(tmp_path / "one")
    place = shared.path("global_adapters", entry.stem)
    place.parent.mkdir(parents=True)
    entry.rename(place)
    attempt(tmp_path / "two", GLOBAL, shared=shared)
    (linked,) = files(tmp_path / "two")
    assert linked.samefile(place)
    place.unlink()
    assert attempt(tmp_path / "two", GLOBAL)[1] == 0


def test_on_a_disk_without_second_names_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    attempt(tmp_path / "own", GLOBAL, shared=StageCache(tmp_path / "cache"))
    assert attempt(tmp_path / "own", GLOBAL)[1] == 0


def test_two_processes_that_end_one_stage_both_have_it(tmp_path: Path) -> None:
    shared = StageCache(tmp_path / "cache")
    shared.put("k", "0", {"a": torch.ones(1)}, {})
    for _ in range(2):
        StageCache(tmp_path / "own", beside=shared, memory_mib=0).put(
            "k", "0", {"a": torch.ones(1)}, {}
        )
    assert files(tmp_path / "own")[0].samefile(shared.path("k", "0"))


# --- the disk -------------------------------------------------------------------------------


def test_on_a_full_disk_the_run_goes_on_with_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO), full_disk():
        adapters, trained = attempt(tmp_path, GLOBAL, LOCAL, replace(LOCAL, key="local:bert"))
    assert (len(adapters), trained) == (3, 3)
    assert files(tmp_path) == []
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith(f"cannot keep stages in {tmp_path}: ")


def test_folders_and_files_are_their_owners_alone_and_name_nobody(tmp_path: Path) -> None:
    attempt(tmp_path / "checkpoints" / "trial-3", LOCAL)
    (file,) = files(tmp_path)
    made = [tmp_path / "checkpoints", file.parents[1], file.parent]
    assert [stat.S_IMODE(one.stat().st_mode) for one in made] == [0o700] * 3
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert b"anna" not in os.fsencode(file) + file.read_bytes()

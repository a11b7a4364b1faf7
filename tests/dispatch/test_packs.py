"""How many jobs go together, and what becomes of a pack's jobs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from dispatch.small_study import small_study
from dispatch.test_source import failed, new_study, outcome
from milp_search.core.trial import TrialStatus
from milp_search.dispatch.drive import prepare, run_study
from milp_search.dispatch.jobs import Pack
from milp_search.dispatch.source import StudySource, largest_pack
from milp_search.study.spec import DispatchSettings
from milp_search.study.spec_file import load_study_spec
from milp_search.study.study import Study


@contextmanager
def source_of(folder: Path, **changes: Any) -> Iterator[StudySource]:
    """Yields the source of a study of eight trials, by default four proposed together."""
    given = {"batch": 4, **{key.replace("__", "."): value for key, value in changes.items()}}
    with new_study(folder, trials=8) as study:
        yield StudySource(study, load_study_spec(folder / "study.yaml", given))


def numbers(pack: Pack) -> list[int]:
    return [job.trial for job in pack]


@pytest.mark.parametrize(
    ("settings", "queued", "expected"),
    [
        ({"parallel": 2}, 4, 2),
        ({"parallel": 1}, 4, 4),
        ({"parallel": 8}, 4, 1),
        ({"parallel": 3}, 4, 2),
        ({"parallel": 2, "local": True}, 4, 4),
        ({"parallel": 1}, 100, 8),
        ({"parallel": 2, "pack": 3}, 4, 3),
        ({"parallel": 1}, 0, 1),
    ],
)
def test_each_worker_gets_its_share_of_the_queue(
    settings: dict[str, Any], queued: int, expected: int
) -> None:
    assert largest_pack(DispatchSettings(**settings), queued) == expected


def test_two_workers_share_four_proposals(tmp_path: Path) -> None:
    with source_of(tmp_path, dispatch__parallel=2) as source:
        first, second = source.next(), source.next()
        assert (numbers(first), numbers(second)) == ([0, 1], [2, 3])
        assert all(source.study.attempt(n) == 0 for n in range(4))
        for job in second:
            source.done(job, outcome(1.0))
        # The other worker has not ended: the next proposals know of its trials.
        assert numbers(source.next()) == [4, 5]


def test_a_worker_alone_takes_all_that_were_proposed_together(tmp_path: Path) -> None:
    with source_of(tmp_path) as source:
        assert numbers(source.next()) == [0, 1, 2, 3]


def test_a_pack_of_one_is_what_it_was_before(tmp_path: Path) -> None:
    with source_of(tmp_path, dispatch__pack=1) as source:
        assert [numbers(source.next()) for _ in range(3)] == [[0], [1], [2]]


def test_adapters_that_fill_the_memory_make_smaller_packs(tmp_path: Path) -> None:
    # A kibibyte holds no adapter.
    with source_of(tmp_path, dispatch__memory_gib=1e-6) as source:
        assert numbers(source.next()) == [0]


def test_the_final_tests_are_packed_too(tmp_path: Path) -> None:
    with source_of(tmp_path) as source:
        for _ in range(2):
            for job in source.next():
                source.done(job, outcome(10.0))
        tests = source.next()
        assert {(job.kind, job.seed) for job in tests} == {("test", 7)}
        assert numbers(tests) == [trial.index for trial in source.study.front()]


@pytest.mark.parametrize("kind", ["out_of_memory", "lost_worker", "exception"])
def test_jobs_of_a_lost_pack_are_tried_again_one_by_one(tmp_path: Path, kind: str) -> None:
    with source_of(tmp_path) as source:
        for job in source.next():
            source.done(job, failed(kind))
        again = [source.next() for _ in range(4)]
    assert sorted(numbers(pack) for pack in again) == [[0], [1], [2], [3]]
    assert {job.attempt for pack in again for job in pack} == {1}
    assert {job.halvings for pack in again for job in pack} == {int(kind == "out_of_memory")}


def test_one_job_of_a_pack_may_fail_and_the_others_are_told(tmp_path: Path) -> None:
    with source_of(tmp_path) as source:
        pack = source.next()
        for job in pack:
            source.done(job, failed("non_finite") if job.trial == 1 else outcome(1.0))
        states = [source.study.trial(n).status for n in range(4)]
        assert states.count(TrialStatus.COMPLETED) == 3
        assert states[1] is TrialStatus.FAILED
        assert numbers(source.next()) == [4, 5, 6, 7]


def test_a_resumed_study_packs_what_had_not_been_started(tmp_path: Path) -> None:
    with source_of(tmp_path, dispatch__parallel=2) as source:
        lost = source.next()
    with Study.open(tmp_path) as study:
        again = StudySource(study, load_study_spec(tmp_path / "study.yaml", {"batch": 4}))
        again.adopt()
        packs = [numbers(again.next()) for _ in range(3)]
    assert packs == [*([n] for n in numbers(lost)), [2, 3]]


@pytest.mark.slow
def test_a_study_in_packs_with_reuse_ends_as_one_without_either(tmp_path: Path) -> None:
    def trials(name: str, **given: Any) -> dict[int, Mapping[str, Any]]:
        changes = {"dispatch.local": True, "batch": 4} | {
            f"dispatch.{key}": value for key, value in given.items()
        }
        file = small_study(tmp_path, trials=6, metrics="[rouge_l]")
        spec = load_study_spec(file, changes)
        assert run_study(prepare(spec), tmp_path / name, Console(quiet=True)) == 0
        with Study.open(tmp_path / name, read_only=True) as study:
            assert max(trial.pack for trial in study.trials) == (1 if given.get("pack") else 4)
            return {trial.index: trial.measurements for trial in study.trials}

    plain = trials("plain", trainer="plain", reuse=False, pack=1)
    packed = trials("packed", trainer="plain")
    assert packed == plain

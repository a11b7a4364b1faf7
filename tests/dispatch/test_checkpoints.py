"""A trial that was cut short goes on from its last whole stage; its checkpoints go in the end."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from dispatch.small_study import small_study
from dispatch.test_source import failed, new_study, offered, outcome
from dispatch.training_ledger import HANGS, noted, noting
from milp_search.adapters.packed.trainer import PackedTrainer
from milp_search.dispatch.checkpoints import job_checkpoints
from milp_search.dispatch.drive import prepare, resume_study, run_study
from milp_search.dispatch.folders import CACHE, CHECKPOINTS, adapters_folder, checkpoints_folder
from milp_search.dispatch.jobs import Job
from milp_search.dispatch.source import StudySource
from milp_search.dispatch.worker import write_outcome
from milp_search.study.report import write_report
from milp_search.study.spec_file import load_study_spec
from milp_search.study.study import Study

QUIET = Console(quiet=True)


# --- a killed process -----------------------------------------------------------------------


def one_trial(folder: Path, *, reuse: bool) -> Path:
    folder.mkdir()
    file = small_study(folder, trials=1, metrics="[rouge_l]")
    text = file.read_text().replace("initial_trials: 2", "initial_trials: 1")
    switch = str(reuse).lower()
    file.write_text(text.replace("dispatch: {", f"dispatch: {{local: true, reuse: {switch}, "))
    return file


def killed_in_the_local_stage(file: Path, folder: Path, ledger: Path) -> None:
    """Runs a study in a process of its own, which gets SIGKILL while it trains a user's adapter."""
    tests = str(Path(__file__).parents[1])
    paths = os.pathsep.join([tests, *filter(None, [os.environ.get("PYTHONPATH")])])
    process = subprocess.Popen(
        [sys.executable, "-m", "dispatch.training_ledger", str(file), str(folder), str(ledger)],
        env={**os.environ, "PYTHONPATH": paths},
    )
    try:
        deadline = time.monotonic() + 300
        while HANGS not in noted(ledger):
            assert process.poll() is None, "ended before its local stage"
            assert time.monotonic() < deadline
            time.sleep(0.1)
    finally:
        process.kill()
        assert process.wait() == -signal.SIGKILL


def adapters_of(folder: Path) -> dict[str, bytes]:
    trial = adapters_folder(folder, 0)
    return {str(p.relative_to(trial)): p.read_bytes() for p in trial.rglob("*.safetensors")}


@pytest.mark.slow
@pytest.mark.parametrize("reuse", [True, False], ids=["reuse", "no reuse"])
def test_after_sigkill_in_the_local_stage_no_stage_before_is_trained_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reuse: bool
) -> None:
    file, cut, whole = one_trial(tmp_path / "in", reuse=reuse), tmp_path / "cut", tmp_path / "whole"
    killed_in_the_local_stage(file, cut, tmp_path / "cut.txt")
    before = noted(tmp_path / "cut.txt")
    assert before["global"] > 0
    assert checkpoints_folder(cut, 0).exists()
    with Study.open(cut, read_only=True) as study:
        write_report(study)
    shutil.rmtree(cut / CACHE, ignore_errors=True)  # the study's cache may forget

    monkeypatch.setattr(PackedTrainer, "train", noting(tmp_path / "whole.txt"))
    assert run_study(prepare(load_study_spec(file), file), whole, QUIET) == 0
    monkeypatch.undo()
    monkeypatch.setattr(PackedTrainer, "train", noting(tmp_path / "resumed.txt"))
    assert resume_study(cut, QUIET) == 0

    once, resumed = noted(tmp_path / "whole.txt"), noted(tmp_path / "resumed.txt")
    # What was whole before the kill is missing after it, and nothing else.
    assert before - Counter([HANGS]) + resumed == once
    assert before["memory"] > 0
    with Study.open(cut, read_only=True) as one, Study.open(whole, read_only=True) as other:
        assert one.trial(0).measurements == other.trial(0).measurements
        assert one.tests(0) == other.tests(0)
        assert one.attempt(0) == 1
    assert adapters_of(cut) == adapters_of(whole)
    assert len(adapters_of(cut)) > 0
    for folder in (cut, whole):
        assert not (folder / CHECKPOINTS).exists()


# --- when checkpoints go --------------------------------------------------------------------


@pytest.fixture
def source(tmp_path: Path) -> Iterator[StudySource]:
    with new_study(tmp_path) as study:
        yield StudySource(study, load_study_spec(tmp_path / "study.yaml"))


def kept(source: StudySource, job: Job) -> Path:
    """Returns a job's checkpoints, which it is given here."""
    folder = job_checkpoints(source.study.folder, job)
    folder.mkdir(parents=True)
    (folder / "stage").touch()
    return folder


def taken(source: StudySource) -> Job:
    (job,) = offered(source)
    return job


def test_they_go_when_the_trial_is_completed_and_not_when_it_is_tried_again(
    source: StudySource,
) -> None:
    one, other = taken(source), taken(source)
    folder, others = kept(source, one), kept(source, other)
    source.done(one, failed("lost_worker"))
    assert folder.exists()
    source.done(taken(source), outcome(1.0))
    assert (folder.exists(), others.exists()) == (False, True)
    source.done(other, outcome(2.0))
    assert not (source.study.folder / CHECKPOINTS).exists()


def test_they_go_when_the_trial_fails_for_good(source: StudySource) -> None:
    job = taken(source)
    folder = kept(source, job)
    source.done(job, failed("non_finite"))
    assert not folder.exists()


def test_a_final_test_has_its_own(source: StudySource) -> None:
    job = taken(source)
    tests = [replace(job, kind="test", seed=seed) for seed in (7, 8)]
    folders = {job_checkpoints(source.study.folder, one) for one in (job, *tests)}
    assert [folder.name for folder in sorted(folders)] == [
        "trial-0",
        "trial-0-seed7",
        "trial-0-seed8",
    ]
    assert job_checkpoints(Path(), replace(job, kind="row", attempt=2)) == checkpoints_folder(
        Path(), 0
    )


def test_those_of_a_final_test_go_with_it(source: StudySource) -> None:
    for loss in (1.0, 2.0, 3.0):
        source.done(taken(source), outcome(loss))
    pack = offered(source)
    folders = [kept(source, job) for job in pack]
    assert [one.name for one in folders] == [f"trial-{job.trial}-seed7" for job in pack]
    for job, result in zip(
        pack, [outcome(1.0), failed("non_finite"), failed("hang")], strict=False
    ):
        source.done(job, result)
    assert [one.exists() for one in folders] == [False, False, True][: len(pack)]


def test_a_resumed_driver_removes_what_ended_jobs_left_and_nothing_else(tmp_path: Path) -> None:
    with new_study(tmp_path) as study:
        source = StudySource(study, load_study_spec(tmp_path / "study.yaml"))
        told, on_disk, lost = (taken(source) for _ in range(3))
        source.done(told, outcome(1.0))
        folders = [kept(source, job) for job in (told, on_disk, lost)]
        test, tested = (replace(told, kind="test", seed=seed) for seed in (7, 8))
        study.record_test(0, 8, outcome(1.0).measurements)
        folders += [kept(source, test), kept(source, tested)]
        foreign = tmp_path / CHECKPOINTS / "trial-9"
        foreign.mkdir()
        write_outcome(tmp_path, on_disk, outcome(2.0))
    with Study.open(tmp_path) as study:
        StudySource(study, load_study_spec(tmp_path / "study.yaml")).adopt()
    assert [folder.exists() for folder in folders] == [False, False, True, True, False]
    assert foreign.exists()

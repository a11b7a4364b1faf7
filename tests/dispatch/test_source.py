"""A study turned into jobs: order, retries, adoption of results, final tests."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dispatch.small_study import SPACE, small_study
from milp_search.core.model_shape import LinearMap, ModelShape
from milp_search.core.plan import AdapterPlan, TrialPlan
from milp_search.core.trial import Failure, Measurement, TrialStatus
from milp_search.dispatch.folders import adapters_folder
from milp_search.dispatch.jobs import Job, Outcome, Pack, job_from_dict, outcome_from_dict
from milp_search.dispatch.source import StudySource
from milp_search.dispatch.worker import write_outcome
from milp_search.space.space_file import load_search_space
from milp_search.study.spec_file import load_study_spec
from milp_search.study.study import Study

SHAPE = ModelShape(8, "model.layers", (LinearMap("up", "mlp.up", 4, 8),))


@pytest.fixture
def source(tmp_path: Path) -> Iterator[StudySource]:
    with new_study(tmp_path) as study:
        yield StudySource(study, load_study_spec(tmp_path / "study.yaml"))


def new_study(folder: Path, trials: int = 3, constraints: Sequence[str] = ()) -> Study:
    spec = load_study_spec(small_study(folder, trials=trials))
    assert (folder / "space.yaml").read_text() == SPACE
    return Study.create(
        folder,
        space=load_search_space(folder / "space.yaml", layers=8),
        objectives=spec.objectives,
        proposer="random",
        initial_trials=2,
        metrics=["loss", "trainable_params"],
        shape=SHAPE,
        max_communities=3,
        constraints=constraints,
    )


def outcome(loss: float) -> Outcome:
    return Outcome({"loss": Measurement(loss, 0.1, (loss, loss))}, duration_s=1.0)


def failed(kind: str) -> Outcome:
    return Outcome({}, Failure(kind, "why"))


def take(source: StudySource) -> Job:
    (job,) = offered(source)
    return job


def offered(source: StudySource) -> Pack:
    """Returns the next pack, which may still be thought about."""
    for _ in range(200):
        if pack := source.next():
            return pack
        time.sleep(0.05)
    raise AssertionError("no job came")


def test_a_search_ends_with_the_final_tests_of_the_front(source: StudySource) -> None:
    for number in range(3):
        job = take(source)
        assert (job.kind, job.trial, job.seed) == ("search", number, 0)
        source.done(job, outcome(1.0 + number))
    tests = []
    while not source.finished:
        for test in source.next():
            tests.append(test)
            source.done(test, outcome(2.0))
    front = [trial.index for trial in source.study.front()]
    assert [(job.kind, job.trial, job.seed) for job in tests] == [("test", i, 7) for i in front]
    assert all(source.study.tests(index)[7]["loss"].mean == 2.0 for index in front)


def test_no_test_job_before_the_last_trial_has_ended(source: StudySource) -> None:
    jobs = [take(source) for _ in range(3)]
    assert source.next() == ()
    assert not source.finished
    source.done(jobs[0], outcome(1.0))
    assert source.next() == ()


@pytest.mark.parametrize(
    ("kind", "attempts"),
    [
        ("lost_driver", 10),
        ("lost_worker", 4),
        ("exception", 2),
        ("out_of_memory", 2),
        ("hang", 2),
        ("non_finite", 1),
        ("refused", 1),
    ],
)
def test_each_kind_of_failure_has_its_number_of_attempts(
    source: StudySource, kind: str, attempts: int
) -> None:
    for attempt in range(attempts):
        job = take(source)
        assert (job.trial, job.attempt) == (0, attempt)
        source.done(job, failed(kind))
    assert source.study.trial(0).status is TrialStatus.FAILED
    assert source.study.trial(0).failure == Failure(kind, "why")


def test_attempts_are_counted_by_kind_and_a_resumed_driver_goes_on_counting(
    tmp_path: Path,
) -> None:
    def attempts(*kinds: str) -> None:
        with Study.open(tmp_path) as study:
            source = StudySource(study, load_study_spec(tmp_path / "study.yaml"))
            source.adopt()
            for kind in kinds:
                source.done(take(source), failed(kind))
            take(source)

    new_study(tmp_path).close()
    attempts("lost_worker", "exception", "lost_worker")
    # The driver was ended in the middle of an attempt, which counts for nothing.
    attempts("lost_worker")
    with Study.open(tmp_path) as study:
        assert study.state.lost[0] == ("lost_worker", "exception", "lost_worker", "lost_worker")
        source = StudySource(study, load_study_spec(tmp_path / "study.yaml"))
        source.adopt()
        source.done(take(source), failed("lost_worker"))
        assert study.trial(0).failure == Failure("lost_worker", "why")


def test_a_lost_worker_whose_watch_fired_has_hung(tmp_path: Path) -> None:
    with new_study(tmp_path) as study:
        source = StudySource(study, load_study_spec(tmp_path / "study.yaml"))
        job = take(source)
        write_watch(tmp_path, job, word="no sign of life\nFile x.py in step")
        source.done(job, failed("lost_worker"))
        again = take(source)
        assert study.state.lost == {0: ("hang",)}
        write_watch(tmp_path, again, word="no sign of life\nFile x.py in step")
        source.done(again, failed("lost_worker"))
        assert study.trial(0).failure == Failure("hang", "no sign of life")


def test_a_driver_that_hung_is_known_by_its_watch(tmp_path: Path) -> None:
    with new_study(tmp_path) as study:
        job = take(StudySource(study, load_study_spec(tmp_path / "study.yaml")))
        write_watch(tmp_path, job, word="still training\nFile x.py in step")
    with Study.open(tmp_path) as study:
        source = StudySource(study, load_study_spec(tmp_path / "study.yaml"))
        source.adopt()
        assert take(source) == replace(job, attempt=1)
        assert study.state.lost == {0: ("hang",)}
        assert list((tmp_path / "results").glob("*.watch")) == []


@pytest.mark.parametrize(("local", "lost"), [(True, ("lost_driver",)), (False, ())])
def test_a_trial_whose_driver_was_killed_has_lost_an_attempt_only_if_it_ran_in_the_driver(
    tmp_path: Path, local: bool, lost: tuple[str, ...]
) -> None:
    with new_study(tmp_path) as study:
        job = take(StudySource(study, load_study_spec(tmp_path / "study.yaml")))
        write_watch(tmp_path, job, word="")
    with Study.open(tmp_path) as study:
        spec = load_study_spec(tmp_path / "study.yaml", {"dispatch.local": local})
        source = StudySource(study, spec)
        source.adopt()
        assert take(source).attempt == 1
        assert study.state.lost.get(0, ()) == lost


def test_a_pack_that_went_with_its_driver_is_held_against_none_of_its_trials(
    tmp_path: Path,
) -> None:
    with new_study(tmp_path) as study:
        source = StudySource(study, load_study_spec(tmp_path / "study.yaml"))
        pack = [take(source) for _ in range(2)]
        write_watch(tmp_path, *pack, word="")
    with Study.open(tmp_path) as study:
        spec = load_study_spec(tmp_path / "study.yaml", {"dispatch.local": True})
        source = StudySource(study, spec)
        source.adopt()
        assert [take(source).attempt for _ in pack] == [1, 1]
        assert study.state.lost == {}


def test_a_result_outweighs_the_watch_of_its_pack(tmp_path: Path) -> None:
    with new_study(tmp_path) as study:
        job = take(StudySource(study, load_study_spec(tmp_path / "study.yaml")))
        write_outcome(tmp_path, job, outcome(2.0))
        write_watch(tmp_path, job, word="still training\n")
    with Study.open(tmp_path) as study:
        StudySource(study, load_study_spec(tmp_path / "study.yaml")).adopt()
        assert study.trial(0).measurements["loss"].mean == 2.0


@pytest.mark.parametrize("kind", ["lost_worker", "out_of_memory", "exception"])
def test_a_result_of_a_pack_that_was_lost_is_taken_and_not_made_again(
    source: StudySource, kind: str
) -> None:
    first, second = take(source), take(source)
    write_outcome(source.study.folder, first, outcome(1.5))
    for job in (first, second):
        source.done(job, failed(kind))
    assert source.study.trial(0).measurements["loss"].mean == 1.5
    assert [(job.trial, job.attempt) for job in offered(source)] == [(1, 1)]


def test_a_result_that_tells_of_a_failure_does_not_stand_for_a_lost_worker(
    source: StudySource,
) -> None:
    job = take(source)
    write_outcome(source.study.folder, job, failed("non_finite"))
    source.done(job, failed("lost_worker"))
    again = take(source)
    assert (again.trial, again.attempt) == (0, 1)


OTHER = TrialPlan("logo", AdapterPlan((8,) * 8))


@pytest.mark.parametrize("change", [{"plan": OTHER}, {"seed": 5}], ids=["plan", "seed"])
def test_a_result_with_another_plan_or_seed_does_not_stand_for_a_lost_worker(
    source: StudySource, change: dict[str, Any]
) -> None:
    job = take(source)
    write_outcome(source.study.folder, replace(job, **change), outcome(1.5))
    source.done(job, failed("lost_worker"))
    assert take(source) == replace(job, attempt=1)


@pytest.mark.parametrize("change", [{"plan": OTHER}, {"seed": 5}], ids=["plan", "seed"])
def test_a_result_with_another_plan_or_seed_is_not_adopted(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    with new_study(tmp_path) as study:
        job = take(StudySource(study, load_study_spec(tmp_path / "study.yaml")))
        write_outcome(tmp_path, replace(job, **change), outcome(1.5))
    with Study.open(tmp_path) as study:
        source = StudySource(study, load_study_spec(tmp_path / "study.yaml"))
        source.adopt()
        assert take(source) == replace(job, attempt=1)


@pytest.mark.parametrize("change", [{}, {"plan": OTHER}], ids=["of a later trial", "plan"])
def test_a_final_test_of_a_trial_that_a_repair_dropped_is_not_adopted(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    with new_study(tmp_path) as study:
        source = StudySource(study, load_study_spec(tmp_path / "study.yaml"))
        first, second = take(source), take(source)
        source.done(first, outcome(1.0))
        tested = replace(first, **change) if change else second
        write_outcome(tmp_path, replace(tested, kind="test", seed=7), outcome(1.5))
    with Study.open(tmp_path) as study:
        StudySource(study, load_study_spec(tmp_path / "study.yaml")).adopt()
        assert not study.state.tests


def write_watch(folder: Path, *pack: Job, word: str) -> None:
    (folder / "results").mkdir(exist_ok=True)
    file = folder / "results" / f"{pack[0].name}.watch"
    file.write_text(json.dumps([job.as_dict() for job in pack]) + "\n" + word)


def test_an_attempt_after_out_of_memory_has_half_the_micro_batch(source: StudySource) -> None:
    source.done(take(source), failed("out_of_memory"))
    assert take(source).halvings == 1


def test_a_resumed_driver_halves_what_ran_out_of_memory_before(tmp_path: Path) -> None:
    with new_study(tmp_path) as study:
        source = StudySource(study, load_study_spec(tmp_path / "study.yaml"))
        source.done(take(source), failed("out_of_memory"))
        again = take(source)
    with Study.open(tmp_path) as study:
        source = StudySource(study, load_study_spec(tmp_path / "study.yaml"))
        source.adopt()
        assert take(source) == replace(again, attempt=2)
        assert again.halvings == 1


def test_stopping_hands_out_nothing_and_waits_for_what_runs(source: StudySource) -> None:
    job = take(source)
    source.stopping = True
    assert source.next() == ()
    assert not source.finished
    source.done(job, outcome(1.0))
    assert source.finished


def test_adapters_of_dominated_trials_are_removed(source: StudySource) -> None:
    jobs = [take(source) for _ in range(3)]
    for job in jobs:
        adapters_folder(source.study.folder, job.trial).mkdir(parents=True)
    for job, loss in zip(jobs, (3.0, 2.0, 1.0), strict=True):
        source.done(job, outcome(loss))
    kept = {int(path.name.split("-")[1]) for path in (source.study.folder / "adapters").iterdir()}
    assert kept == {trial.index for trial in source.study.front()}


def test_a_resumed_driver_adopts_results_and_runs_the_rest_again(tmp_path: Path) -> None:
    with new_study(tmp_path) as study:
        first = StudySource(study, load_study_spec(tmp_path / "study.yaml"))
        told, on_disk, lost = (take(first) for _ in range(3))
        first.done(told, outcome(1.0))
        write_outcome(tmp_path, on_disk, outcome(2.0))
    with Study.open(tmp_path) as study:
        second = StudySource(study, load_study_spec(tmp_path / "study.yaml"))
        second.adopt()
        assert study.trial(told.trial).measurements["loss"].mean == 1.0
        assert study.trial(on_disk.trial).measurements["loss"].mean == 2.0
        assert take(second) == replace(lost, attempt=1)
        assert len(study.trials) == 3


def test_a_result_that_was_told_already_is_not_told_again(tmp_path: Path) -> None:
    with new_study(tmp_path) as study:
        source = StudySource(study, load_study_spec(tmp_path / "study.yaml"))
        job = take(source)
        write_outcome(tmp_path, job, outcome(5.0))
        source.done(job, outcome(1.0))
        source.adopt()
        assert study.trial(0).measurements["loss"].mean == 1.0


def test_a_half_written_result_is_ignored_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with new_study(tmp_path) as study:
        source = StudySource(study, load_study_spec(tmp_path / "study.yaml"))
        job = take(source)
        write_outcome(tmp_path, job, outcome(5.0))
        file = tmp_path / "results" / f"{job.name}.json"
        file.write_text(file.read_text()[:40])
        source.adopt()
        assert "unreadable result" in caplog.text
        assert not study.trial(0).status.terminal


def test_a_search_over_all_plans_ends_early(tmp_path: Path) -> None:
    file = small_study(tmp_path, trials=50)
    (tmp_path / "space.yaml").write_text(
        "name: two\nlayers: 8\ndimensions:\n  lora_rank: [1, 2]\n"
        "  ffn_layer_mask: last\n  retrieved_items: 0\n"
    )
    spec = load_study_spec(file)
    with Study.create(
        tmp_path,
        space=load_search_space(tmp_path / "space.yaml"),
        objectives=spec.objectives,
        proposer="random",
        initial_trials=2,
        shape=SHAPE,
    ) as study:
        source = StudySource(study, spec)
        while not source.finished:
            for job in source.next():
                source.done(job, outcome(1.0))
        assert len(study.trials) == 2


def test_jobs_and_outcomes_survive_json(source: StudySource) -> None:
    job = take(source)
    assert job_from_dict(job.as_dict()) == job
    for result in (outcome(1.0), failed("hang")):
        assert outcome_from_dict(result.as_dict()) == result


def test_job_names_differ_by_kind_seed_and_attempt(source: StudySource) -> None:
    job = take(source)
    others = [job, replace(job, attempt=1), replace(job, kind="test"),
              replace(job, kind="test", seed=9)]  # fmt: skip
    assert len({other.name for other in others}) == 4


def test_a_final_test_that_failed_before_a_resume_is_run_once(tmp_path: Path) -> None:
    with new_study(tmp_path, trials=2) as study:
        source = StudySource(study, load_study_spec(tmp_path / "study.yaml"))
        for _ in range(2):
            source.done(take(source), outcome(1.0))
        write_outcome(tmp_path, take(source), failed("exception"))
    with Study.open(tmp_path) as resumed:
        source = StudySource(resumed, load_study_spec(tmp_path / "study.yaml"))
        source.adopt()
        handed_out: list[Job] = []
        while pack := source.next():  # as workers that are all free would
            handed_out += pack
        for job in handed_out:
            source.done(job, outcome(2.0))
        assert source.finished
        assert sorted(job.trial for job in handed_out) == [t.index for t in resumed.front()]


@pytest.mark.parametrize(("most", "tested"), [(1.5, {0}), (0.5, set())])
def test_only_trials_that_keep_the_constraints_are_tested_and_keep_adapters(
    tmp_path: Path, most: float, tested: set[int]
) -> None:
    with new_study(tmp_path, constraints=[f"loss <= {most}"]) as study:
        source = StudySource(study, load_study_spec(tmp_path / "study.yaml"))
        for number in range(3):
            job = take(source)
            adapters_folder(tmp_path, job.trial).mkdir(parents=True)
            source.done(job, outcome(1.0 + number))
        found = set()
        while not source.finished:
            for test in source.next():
                found.add(test.trial)
                source.done(test, outcome(9.0))
        assert found == tested
        kept = {int(path.name.split("-")[1]) for path in (tmp_path / "adapters").iterdir()}
        assert kept == tested

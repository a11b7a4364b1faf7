"""A pack in a worker: who fails with whom, shares of time and reuse, the base that is given."""

from __future__ import annotations

import gc
import json
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from adapters.making import llama
from dispatch.counting_trainer import CountingTrainer, train_job
from dispatch.small_study import small_study
from milp_search.adapters.placed_base import place_base
from milp_search.core.plan import AdapterPlan, TrialPlan
from milp_search.core.trial import Measurement
from milp_search.dispatch import worker
from milp_search.dispatch.jobs import Job, outcome_from_dict
from milp_search.dispatch.lost_gpu import LostGpuError
from milp_search.dispatch.worker import RunnerFactory, TrialRunner, shares
from milp_search.personalize.method import Run, Trained
from milp_search.study.spec_file import load_study_spec

PLAN = TrialPlan("milp", AdapterPlan((1, 1, 1)), communities=0)


def job(trial: int, rank: int = 1, **changes: Any) -> Job:
    plan = replace(PLAN, adapter=AdapterPlan((rank, 0, 0)))
    return replace(Job("test", trial, 0, plan, seed=0), **changes)


def train_one(run: Run) -> Trained:
    """Trains a single job, named by the plan's rank; rank 13 brings bad luck."""
    name = str(run.plan.adapter.total_rank)
    run.trainer.train([train_job(name)])
    if run.cache is not None:
        run.cache.count("global_adapters", hit=False)
    if name == "13":
        raise ValueError("bad luck")
    return Trained({})


@pytest.fixture
def runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrialRunner:
    """Returns a runner whose trials take no time."""
    monkeypatch.setattr(worker, "train", train_one)
    monkeypatch.setattr(worker, "answer", lambda *_, **__: None)
    monkeypatch.setattr(worker, "measure", lambda *_: {"loss": Measurement(1.0, 0.1)})
    spec = load_study_spec(small_study(tmp_path))
    made = TrialRunner(tmp_path, spec, (llama(), None))
    made.trainer = CountingTrainer()
    return made


def test_the_jobs_of_a_pack_meet_in_the_trainer(runner: TrialRunner) -> None:
    runner.run((job(0, 1), job(1, 2), job(2, 3)))
    assert runner.trainer.calls == [("train", ["1", "2", "3"])]  # type: ignore[attr-defined]


def test_a_failing_plan_fails_alone(runner: TrialRunner) -> None:
    outcomes = runner.run((job(0, 1), job(1, 13), job(2, 3)))
    kinds = [one.failure.kind if one.failure else None for one in outcomes]
    assert kinds == [None, "exception", None]
    assert [set(one.measurements) for one in outcomes] == [
        {"loss", "trainable_params"}, set(), {"loss", "trainable_params"},
    ]  # fmt: skip


def test_out_of_memory_in_a_shared_pass_is_every_jobs(runner: TrialRunner) -> None:
    runner.trainer.raises = MemoryError()  # type: ignore[attr-defined]
    failures = [one.failure for one in runner.run((job(0), job(1)))]
    assert [failure.kind for failure in failures if failure] == ["out_of_memory"] * 2


def test_the_trainer_halves_as_often_as_the_pack_needs_it(runner: TrialRunner) -> None:
    runner.run((job(0, halvings=1), job(1, halvings=3)))
    assert runner.trainer.halvings == 3
    runner.run((job(2),))
    assert runner.trainer.halvings == 0


def test_each_job_has_its_result_file_and_its_share_of_the_time(runner: TrialRunner) -> None:
    pack = (job(0, 1), job(1, 2))
    outcomes = runner.run(pack)
    for one, outcome in zip(pack, outcomes, strict=True):
        content = json.loads((runner.folder / "results" / f"{one.name}.json").read_text())
        assert outcome_from_dict(content["outcome"]) == outcome
        assert outcome.pack == 2
    assert outcomes[0].duration_s == outcomes[1].duration_s


def test_a_job_that_has_ended_is_on_disk_before_the_next_of_its_pack_goes_on(
    runner: TrialRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = runner.folder / "results"
    seen: list[list[str]] = []

    def measure(*_: object) -> dict[str, Measurement]:
        seen.append(sorted(path.name for path in results.glob("*.json")))
        return {"loss": Measurement(1.0, 0.1)}

    monkeypatch.setattr(worker, "measure", measure)
    runner.run((job(0, 1), job(1, 2), job(2, 3)))
    first, second = "test-00000-seed0-0.json", "test-00001-seed0-0.json"
    assert seen == [[], [first], [first, second]]


def test_what_a_pack_looked_up_is_shared_among_its_jobs(runner: TrialRunner) -> None:
    runner.run((job(0),))
    outcomes = runner.run((job(1, 1), job(2, 2)))
    assert [outcome.reused for outcome in outcomes] == [{"global_adapters": (0, 1)}] * 2


def test_shares_sum_up_and_never_have_more_hits_than_lookups() -> None:
    counts = {"embeddings": (3, 4), "retrieval": (0, 1)}
    parts = shares(counts, 5)
    assert [sum(part["embeddings"][n] for part in parts) for n in (0, 1)] == [3, 7]
    assert [sum(part["retrieval"][n] for part in parts) for n in (0, 1)] == [0, 1]
    assert all(hits <= lookups for part in parts for hits, lookups in part.values())


def test_results_of_earlier_versions_are_packs_of_one_that_reused_nothing() -> None:
    outcome = outcome_from_dict({"measurements": {}, "failure": None, "duration_s": 2.0})
    assert (outcome.pack, outcome.reused) == (1, {})


def test_a_runner_that_was_given_the_base_reads_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(*_: object, **__: object) -> None:
        raise AssertionError("the base was read")

    small_study(tmp_path)
    base = llama()
    monkeypatch.setattr(worker, "load_base_model", read)
    run = RunnerFactory(tmp_path, place_base(base), tmp_path / "base-1")()
    made = run.__self__  # type: ignore[attr-defined]
    assert made.base.fingerprint == base.fingerprint
    assert made._base_stage() == {"mode": "none", "folder": "../../base-1"}


@pytest.mark.parametrize("placed", [True, False])
def test_a_worker_without_a_gpu_of_its_own_computes_on_the_cpu_of_a_machine_with_one(
    placed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Ray leaves such a worker what it sees.
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    file = small_study(tmp_path)
    file.write_text(file.read_text().replace("device: cpu", "device: auto"))
    run = RunnerFactory(tmp_path, place_base(llama()) if placed else None)()
    base = run.__self__.base  # type: ignore[attr-defined]
    assert (base.device.type, base.model.dtype) == ("cpu", torch.float32)


def test_a_failure_that_takes_the_gpu_with_it_is_no_trials(
    runner: TrialRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost() -> None:
        raise torch.AcceleratorError("CUDA error: an illegal memory access\nCompile with")

    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", lost)
    with pytest.raises(LostGpuError, match=r"got: CUDA error: an illegal memory access\n .*resume"):
        runner.run((job(0, 1), job(1, 13)))
    # What had ended well stays; the other's end is open, and its cause in the log.
    results = runner.folder / "results"
    assert [path.name for path in results.iterdir()] == ["test-00000-seed0-0.json"]
    assert "--- test-00001-seed0-0\n" in (runner.folder / "log.txt").read_text()
    runner.run((job(2, 1), job(3, 2)))


def test_a_failure_that_leaves_the_gpu_alone_is_the_trials(
    runner: TrialRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    (outcome,) = runner.run((job(0, 13),))
    assert outcome.failure is not None
    assert outcome.failure.kind == "exception"


def test_what_a_failed_job_held_is_gone_when_memory_is_given_back(
    runner: TrialRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[weakref.ref[torch.Tensor]] = []
    left: list[torch.Tensor | None] = []

    def train(run: Run) -> Trained:
        tensor = torch.zeros(1)
        held.append(weakref.ref(tensor))
        raise MemoryError

    def free_memory() -> None:
        gc.collect()
        left.extend(reference() for reference in held)

    monkeypatch.setattr(worker, "train", train)
    monkeypatch.setattr(worker, "free_memory", free_memory)
    runner.run((job(0, 1), job(1, 2)))
    assert left == [None, None]

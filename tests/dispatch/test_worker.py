"""One trial's run in a worker: measurements, result file, adapters, failures."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel

from dispatch.small_study import small_study
from milp_search.adapters.base_model import load_base_model
from milp_search.adapters.encoding import encode, training_batch
from milp_search.adapters.peft_trainer import token_losses
from milp_search.core.arm import Arm
from milp_search.core.errors import MeasurementError
from milp_search.dispatch import worker
from milp_search.dispatch.jobs import Job, outcome_from_dict
from milp_search.dispatch.worker import TrialRunner, describe_failure
from milp_search.personalize.retrieval import held_out_examples
from milp_search.space.space_file import load_search_space
from milp_search.study.spec_file import load_study_spec

SECRET = "what a user wrote"
ARM = Arm({"lora_rank": 2, "time_splits": 2, "retrieved_items": 1, "communities": 2})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("worker")


@pytest.fixture(scope="module")
def runner(folder: Path) -> TrialRunner:
    return TrialRunner(folder, load_study_spec(small_study(folder, metrics="[rouge_l]")))


@pytest.fixture(scope="module")
def job(folder: Path, runner: TrialRunner) -> Job:
    space = load_search_space(folder / "space.yaml", layers=8)
    return Job("search", 0, 0, space.plan(ARM, "milp_logo"), seed=0)


@pytest.mark.slow
def test_an_exported_trial_reproduces_its_recorded_loss_through_plain_peft(
    folder: Path, runner: TrialRunner, job: Job
) -> None:
    recorded = runner.run((job,))[0].measurements["loss"]
    trial = folder / "adapters" / "trial-0"
    manifest = json.loads((trial / "manifest.json").read_text())
    losses = [
        _loss_through_peft(runner, trial, manifest["users"][user.user], user)
        for user in runner.task.targets
    ]
    assert recorded.mean == pytest.approx(sum(losses) / len(losses), abs=1e-4)
    assert recorded.per_user == pytest.approx(losses, abs=1e-4)
    assert manifest["plan"]["adapter"]["ranks"] == [0, 0, 0, 0, 0, 0, 8, 8]


def _loss_through_peft(runner: TrialRunner, trial: Path, stack: list[str], user: Any) -> float:
    """Returns a user's token-weighted validation loss, with a fresh base and PEFT alone."""
    base = load_base_model(device="cpu")
    model = PeftModel.from_pretrained(base.model, trial / stack[0], adapter_name=stack[0])
    for name in stack[1:]:
        model.load_adapter(trial / name, adapter_name=name)
    model.base_model.set_adapter(stack, inference_mode=True)
    examples = held_out_examples(user.history, user.validation, k=1)
    rows = [encode(base.tokenizer, example, 96) for example in examples]
    total = 0.0
    for row in rows:
        batch = training_batch([row], base.tokenizer.pad_token_id, base.device)
        with torch.no_grad():
            total += float(token_losses(model, *batch).sum())
    return total / sum(len(row.response) for row in rows)


@pytest.mark.slow
def test_a_job_gives_the_same_values_whatever_ran_before(runner: TrialRunner, job: Job) -> None:
    space = load_search_space(runner.folder / "space.yaml", layers=8)
    first, _ = runner.evaluate(job.plan, 3, "validation")
    runner.evaluate(space.plan(Arm({**ARM, "lora_rank": 4}), "milp_logo"), 5, "test")
    again, _ = runner.evaluate(job.plan, 3, "validation")
    assert first == again


@pytest.mark.slow
def test_the_outcome_lies_in_the_result_file_before_it_is_reported(
    folder: Path, runner: TrialRunner, job: Job
) -> None:
    (outcome,) = runner.run((job,))
    content = json.loads((folder / "results" / f"{job.name}.json").read_text())
    assert outcome_from_dict(content["outcome"]) == outcome
    assert set(outcome.measurements) == {"loss", "rouge_l", "trainable_params"}
    # 2 modules of rank 8 in all (n = 8 over 2 layers, r = 2), three maps of 128 + 384 each
    assert outcome.measurements["trainable_params"].mean == 16 * 3 * 512


@pytest.mark.slow
def test_a_base_stage_is_trained_once_and_stands_in_the_manifest(tmp_path: Path) -> None:
    file = small_study(tmp_path)
    file.write_text(file.read_text().replace("training:", "training:\n  base_training: full"))
    runner = TrialRunner(tmp_path, load_study_spec(file))
    space = load_search_space(tmp_path / "space.yaml", layers=8)
    job = Job("search", 0, 0, space.plan(ARM, "milp_logo"), seed=0)
    assert runner.run((job,))[0].failure is None
    stage = next(tmp_path.glob("base-*"))
    manifest = json.loads((tmp_path / "adapters" / "trial-0" / "manifest.json").read_text())
    assert (tmp_path / "adapters" / "trial-0" / manifest["base_stage"]["folder"]).samefile(stage)
    written = stage.stat().st_mtime_ns
    again = TrialRunner(tmp_path, load_study_spec(file))
    assert again.base.fingerprint == runner.base.fingerprint
    assert stage.stat().st_mtime_ns == written
    assert load_base_model(device="cpu").fingerprint != again.base.fingerprint


def test_a_failure_is_an_outcome_and_its_message_quotes_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, job: Job
) -> None:
    def raises(*_: object) -> None:
        raise ValueError(SECRET)

    runner = TrialRunner(tmp_path, load_study_spec(small_study(tmp_path)))
    monkeypatch.setattr(worker, "train", raises)
    (outcome,) = runner.run((job,))
    assert outcome.failure is not None
    assert outcome.failure.kind == "exception"
    assert outcome.failure.reason.startswith("ValueError at test_worker.py:")
    everything = "".join(
        p.read_text() for p in tmp_path.rglob("*") if p.suffix in (".txt", ".json")
    )
    assert "ValueError" in everything
    assert SECRET not in everything


def test_failures_are_told_apart() -> None:
    assert describe_failure(MeasurementError("NaN")).kind == "non_finite"
    assert describe_failure(MemoryError()).kind == "out_of_memory"
    assert describe_failure(torch.OutOfMemoryError()).kind == "out_of_memory"
    no_room = RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried 4 TiB")
    assert describe_failure(no_room).kind == "out_of_memory"
    with pytest.raises(KeyError) as caught:
        raise KeyError("text")
    assert describe_failure(caught.value).kind == "exception"


@pytest.mark.slow
def test_a_killed_writing_of_adapters_leaves_no_half_folder(runner: TrialRunner, job: Job) -> None:
    folder = runner.folder / "adapters"
    (folder / "trial-0.partial").mkdir(parents=True, exist_ok=True)
    (folder / "trial-0.partial" / "rubbish").touch()
    runner.run((job,))
    assert not (folder / "trial-0.partial").exists()
    assert not (folder / "trial-0" / "rubbish").exists()
    shutil.rmtree(folder)

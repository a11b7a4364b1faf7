"""The base model on its way from the driver to the workers."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file, save_file

from dispatch.small_study import small_study
from dispatch.test_source import new_study
from milp_search import adapters
from milp_search.core.errors import ModelError, SpecError, StudyError
from milp_search.core.plan import AdapterPlan, TrialPlan
from milp_search.data.load import load_task
from milp_search.dispatch import drive
from milp_search.dispatch.check_base import workers_device
from milp_search.dispatch.jobs import Job, Outcome
from milp_search.dispatch.source import drop_results
from milp_search.dispatch.worker import write_outcome
from milp_search.study.spec_file import load_study_spec

EMBEDDED = Path(adapters.__file__).parent / "embedded"


@pytest.mark.parametrize(("free_mib", "placed"), [(100.0, True), (1.0, False)])
def test_a_base_that_fits_into_shared_memory_is_carried_to_the_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free_mib: float, placed: bool
) -> None:
    spec = load_study_spec(small_study(tmp_path))
    monkeypatch.setattr(drive, "shared_memory_mib", lambda: free_mib)
    factory = drive.sharing_factory(tmp_path, spec, load_task(spec.data))
    assert (factory.placed is not None) is placed


def test_workers_read_a_quantised_base_by_themselves_and_pack_nothing(tmp_path: Path) -> None:
    spec = load_study_spec(small_study(tmp_path), {"dispatch.device": "auto"})
    assert drive.unpacked(spec) is None
    halved = spec.model_copy(update={"base_precision": "8bit"})
    assert drive.sharing_factory(tmp_path, halved, load_task(spec.data)).placed is None
    assert drive.unpacked(halved) == "8bit weights"


def test_workers_on_gpus_are_sent_half_the_bytes(tmp_path: Path) -> None:
    for device, expected in (("auto", np.int16), ("cpu", np.float32)):
        changes = {"dispatch.gpus_per_trial": 1.0, "dispatch.device": device}
        spec = load_study_spec(small_study(tmp_path), changes)
        placed = drive.sharing_factory(tmp_path, spec, load_task(spec.data)).placed
        assert placed is not None
        assert {array.dtype for array in placed.arrays.values()} == {np.dtype(expected)}


@pytest.mark.parametrize(
    ("settings", "device"),
    [
        ({"device": "auto"}, "cpu"),
        ({"device": "auto", "gpus_per_trial": 0.5}, "auto"),
        ({"device": "auto", "local": True}, "auto"),
        ({"device": "cuda"}, "cuda"),
    ],
)
def test_the_driver_loads_the_base_as_its_workers_would(
    tmp_path: Path, settings: dict[str, Any], device: str
) -> None:
    changes = {f"dispatch.{key}": value for key, value in settings.items()}
    spec = load_study_spec(small_study(tmp_path), changes)
    assert workers_device(spec) == device


@pytest.mark.parametrize(
    ("settings", "gpus", "expected"),
    [
        ({"parallel": 1}, 0, 0.0),
        ({"parallel": 1}, 4, 1.0),
        ({"parallel": 4}, 4, 1.0),
        ({"parallel": 3}, 2, 0.5),
        ({"parallel": 3}, 1, 0.3333),
        ({"parallel": 1, "gpus_per_trial": 0.25}, 4, 0.25),
        ({"parallel": 1, "gpus_per_trial": 0.0}, 4, 0.0),
        ({"parallel": 1, "local": True}, 4, 0.0),
        ({"parallel": 1, "device": "cpu"}, 4, 0.0),
        ({"parallel": 1, "ray_address": "auto"}, 4, 0.0),
    ],
)
def test_workers_share_this_machines_gpus_where_nobody_says(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    settings: dict[str, Any],
    gpus: int,
    expected: float,
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    changes = {f"dispatch.{key}": value for key, value in ({"device": "auto"} | settings).items()}
    spec = load_study_spec(small_study(tmp_path), changes)
    assert drive.prepare(spec).spec.dispatch.gpus_per_trial == expected


def test_retention_of_a_single_target_is_refused_before_anything_runs(tmp_path: Path) -> None:
    file = small_study(tmp_path, metrics="[retention@cvar]")
    assert drive.prepare(load_study_spec(file), file).task.targets[1:]
    file.write_text(file.read_text().replace("targets: 3", "targets: 1"))
    with pytest.raises(SpecError, match=r"study\.yaml:8:1: expected at least 2 target users"):
        drive.prepare(load_study_spec(file), file)


@pytest.mark.parametrize(("trials", "expected"), [(40, 5), (3, 3)])
def test_an_initial_design_left_out_goes_by_the_space_within_the_budget(
    trials: int, expected: int, tmp_path: Path
) -> None:
    file = small_study(tmp_path, trials=trials)
    file.write_text(file.read_text().replace("initial_trials: 2\n", ""))
    spec = load_study_spec(file)
    assert spec.initial_trials is None
    # Four parameters have a choice, and five trials are the least.
    assert drive.prepare(spec).spec.initial_trials == expected


def test_a_new_study_takes_no_results_of_the_one_whose_store_was_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drive, "drive", lambda *_: 0)
    prepared = drive.prepare(load_study_spec(small_study(tmp_path)))
    results = tmp_path / "results"
    results.mkdir()
    plan = TrialPlan("milp_logo", AdapterPlan((1,) * 4))
    write_outcome(tmp_path, Job("search", 0, 0, plan, 0), Outcome({}))
    (results / "mine.json").write_text("{}")
    assert drive.run_study(prepared, tmp_path, Console(quiet=True)) == 0
    assert [path.name for path in results.iterdir()] == ["mine.json"]


def test_a_study_does_not_go_on_with_another_base_model_in_the_same_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drive, "drive", lambda *_: 0)
    model = tmp_path / "model"
    shutil.copytree(EMBEDDED, model)
    spec = load_study_spec(small_study(tmp_path), {"base_model": str(model)})
    assert drive.run_study(drive.prepare(spec), tmp_path / "out", Console(quiet=True)) == 0
    assert drive.resume_study(tmp_path / "out", Console(quiet=True)) == 0
    weights = load_file(model / "model.safetensors")
    name = min(weights)
    save_file({**weights, name: -weights[name]}, model / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match="has changed since the study began"):
        drive.resume_study(tmp_path / "out", Console(quiet=True))


def test_a_study_that_recorded_no_base_model_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drive, "drive", lambda *_: 0)
    with new_study(tmp_path) as study:
        assert "base_digest" not in study.settings
    assert drive.resume_study(tmp_path, Console(quiet=True)) == 0


def test_a_study_that_python_made_is_not_resumed(tmp_path: Path) -> None:
    new_study(tmp_path).close()
    (tmp_path / "study.yaml").unlink()
    with pytest.raises(StudyError, match=r"without study\.yaml(.|\n)*Study\.open"):
        drive.resume_study(tmp_path, Console(quiet=True))


def test_results_behind_a_link_are_not_removed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "results").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StudyError, match="a link to another place"):
        drop_results(tmp_path)

"""What a study asks of its base model, checked before anything is trained."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from adapters.chatting import TEMPLATE, chat_llama
from adapters.encoders import encoder, film_kinds
from milp_search.adapters import quantised
from milp_search.adapters.base_model import BaseModel
from milp_search.core.errors import ModelError
from milp_search.core.methods import METHODS, MethodTraits
from milp_search.dispatch import check_base
from milp_search.dispatch.comparison.parts import rows_part
from milp_search.dispatch.drive import MakeSpace, prepare, run_study
from milp_search.space.row_space import Row, RowSpace
from milp_search.study.spec import StudySpec
from milp_search.study.spec_file import load_study_spec

STUDY = """\
space: space.yaml
data: {{path: films.jsonl, task: {task}, targets: 2, min_interactions: 4,
       validation: 0.25, test: 0.25}}
base_model: base
method: {method}
objectives:
  - {{metric: {metric}, direction: {direction}, reference: {reference}}}
  - {{metric: trainable_params, direction: minimize, reference: 1.0e6}}
proposer: random
initial_trials: 2
budget: {{trials: 2}}
batch: 1
training: {{learning_rate: 1.0e-2, tuning_epochs: 2, max_length: {length}, global_steps: 2}}
dispatch: {{local: true, device: cpu}}
"""
SPACE = """\
name: small_space
layers: auto
dimensions: {{lora_rank: [1, 2], retrieved_items: [0, 1]{more}}}
"""


def study(
    folder: Path,
    *,
    base: BaseModel | None = None,
    method: str = "milp_logo",
    task: str = "classification",
    metric: str = "accuracy",
    length: int = 60,
    more: str = "",
) -> StudySpec:
    """Writes a study of films over a tiny base and returns it."""
    base = base or encoder(layers=2)
    base.model.save_pretrained(folder / "base")
    base.tokenizer.save_pretrained(folder / "base")
    rated = {"comedy": "4", "crime": "2", "drama": "5", "science fiction": "1"}
    lines = [
        {
            "user_id": f"u{user}",
            "query": film,
            "response": rated[kind] if task == "rating" else kind,
        }
        for user in range(4)
        for film, kind in film_kinds(user, 16)
    ]
    (folder / "films.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "space.yaml").write_text(SPACE.format(more=more))
    file = folder / "study.yaml"
    direction = "maximize" if metric == "accuracy" else "minimize"
    reference = 0.0 if metric == "accuracy" else 9.0
    file.write_text(
        STUDY.format(
            task=task, method=method, metric=metric, direction=direction, reference=reference,
            length=length,
        )
    )  # fmt: skip
    return load_study_spec(file)


@pytest.mark.parametrize(("task", "metric"), [("classification", "accuracy"), ("rating", "mae")])
def test_a_roberta_study_of_labels_or_ratings_runs_to_its_report(
    task: str, metric: str, tmp_path: Path
) -> None:
    spec = study(tmp_path, task=task, metric=metric)
    training = replace(spec.training, base_training="lora")
    prepared = prepare(spec.model_copy(update={"training": training}))
    out = tmp_path / "out"
    assert run_study(prepared, out, Console(quiet=True)) == 0
    front = json.loads((out / "front.json").read_text())["trials"]
    values = [trial["measurements"][metric]["mean"] for trial in front]
    assert values
    assert all(0 <= value <= (1 if metric == "accuracy" else 4) for value in values)
    manifest = json.loads(next(out.glob("adapters/*/manifest.json")).read_text())
    kinds = ["comedy", "crime", "drama", "science fiction"]
    assert manifest["choices"] == (kinds if metric == "accuracy" else ["1", "2", "3", "4", "5"])
    assert manifest["chat_template"] is None
    config = json.loads(next(out.glob("adapters/*/*/adapter_config.json")).read_text())
    assert config["task_type"] is None


def test_a_study_in_a_chat_names_its_template_where_it_exports(tmp_path: Path) -> None:
    spec = study(tmp_path, base=chat_llama(), task="text", metric="loss", length=100)
    out = tmp_path / "out"
    assert run_study(prepare(spec), out, Console(quiet=True)) == 0
    manifest = json.loads(next(out.glob("adapters/*/manifest.json")).read_text())
    assert (manifest["chat_template"], manifest["choices"]) == (TEMPLATE, None)


def test_an_encoder_is_refused_for_free_text(tmp_path: Path) -> None:
    spec = study(tmp_path, task="text", metric="loss")
    with pytest.raises(ModelError, match=r"study\.yaml:4(.|\n)*cannot write text"):
        prepare(spec, tmp_path / "study.yaml")


@pytest.mark.parametrize(
    ("method", "more"),
    [
        ("oppu_pag", ""),
        ("logo_pag", ""),
        ("logo", ", profile: [off, on]"),
        ("oppu", ", profile: on"),
    ],
)
def test_an_encoder_is_refused_where_it_would_write_profiles(
    method: str, more: str, tmp_path: Path
) -> None:
    spec = study(tmp_path, method=method, more=more)
    with pytest.raises(ModelError, match=rf"profile texts that method '{method}'"):
        prepare(spec)


def test_a_space_without_profile_serves_an_encoder_whatever_the_method_s_default(
    tmp_path: Path,
) -> None:
    prepare(study(tmp_path, method="oppu_pag", more=", profile: off"))


def test_the_rows_of_a_table_are_what_an_encoder_has_to_serve(tmp_path: Path) -> None:
    def rows(more: str) -> MakeSpace:
        spec = study(tmp_path, more=more)
        made = rows_part("rows", spec, (Row("OPPU", "oppu"), Row("PAG", "oppu_pag")), (0,))
        return made.make_space

    spec = study(tmp_path, method="oppu_pag", more=", profile: [off, on]")
    space = prepare(spec, make_space=rows(", profile: [off, on]")).space
    assert isinstance(space, RowSpace)
    assert [*space.rows] == ["OPPU"]
    fixed = rows(", profile: on")
    with pytest.raises(ModelError, match="profile texts that method 'oppu'"):
        prepare(load_study_spec(tmp_path / "study.yaml"), make_space=fixed)


def test_an_encoder_is_refused_for_a_method_that_works_inside_a_decoder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside: dict[str, Any] = {**METHODS, "milp_logo": MethodTraits("inside", open_base=True)}
    spec = study(tmp_path)
    monkeypatch.setattr(check_base, "METHODS", inside)
    with pytest.raises(ModelError, match="'milp_logo' works inside a decoder"):
        prepare(spec)


def test_a_length_beyond_the_positions_is_refused_before_anything_is_trained(
    tmp_path: Path,
) -> None:
    with pytest.raises(ModelError, match="at most 62, the positions of base model"):
        prepare(study(tmp_path, length=63))


def test_a_chat_template_that_leaves_no_room_is_refused_before_anything_is_trained(
    tmp_path: Path,
) -> None:
    spec = study(tmp_path, base=chat_llama(), length=60)
    with pytest.raises(ModelError, match=r"20 tokens of its own(.|\n)*max_length = 60"):
        prepare(spec)
    prepare(study(tmp_path, base=chat_llama(), length=69))


@pytest.mark.parametrize("changes", [{"local": True}, {"local": False, "gpus_per_trial": 0.0}])
def test_quantised_weights_are_refused_where_the_workers_have_no_gpu(
    changes: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantised, "find_spec", lambda name: name)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: not changes["local"])
    spec = study(tmp_path)
    dispatch = spec.dispatch.model_copy(update={"device": "auto", **changes})
    asked = spec.model_copy(update={"base_precision": "4bit", "dispatch": dispatch})
    with pytest.raises(ModelError, match=r"needs a CUDA device, got cpu(.|\n)*gpus_per_trial"):
        prepare(asked)
    # What the machines of a cluster have is not known here.
    elsewhere = dispatch.model_copy(update={"ray_address": "auto"})
    prepare(asked.model_copy(update={"dispatch": elsewhere}))

"""The study file: what is read, what is refused and where."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from milp_search.core.errors import SpecError, StudyError
from milp_search.core.settings import DataSettings, TrainingSettings
from milp_search.core.trial import Objective
from milp_search.search.constraints import OutcomeConstraint
from milp_search.search.presets import PRESETS, EngineOptions, filled_options
from milp_search.study.spec import Budget, DispatchSettings, StudySpec
from milp_search.study.spec_file import load_study_spec, write_resolved

METRICS = ("loss", "rouge_l", "mae")

GOALS = """\
objectives:
  - {metric: loss, direction: minimize, reference: 3.0}
  - {metric: rouge_l, direction: maximize}
"""

LEAST = "space: milp\n" + GOALS

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a study file."""

    def written(text: str) -> Path:
        file = tmp_path / "first.yaml"
        file.write_text(text, encoding="utf-8")
        return file

    return written


def test_the_least_file_gets_every_default(write: Write) -> None:
    assert load_study_spec(write(LEAST), metrics=METRICS) == StudySpec(
        name="first",
        space="milp",
        data=DataSettings(),
        base_model="embedded",
        method="milp_logo",
        objectives=(Objective("loss", "minimize", 3.0), Objective("rouge_l", "maximize", None)),
        metrics=(),
        proposer="saas_nehvi",
        preset="default",
        initial_trials=None,
        budget=Budget(trials=40),
        batch=1,
        training=TrainingSettings(),
        dispatch=DispatchSettings(),
        seed=0,
        test_seeds=(0,),
    )


def test_files_of_servers_are_relative_to_the_study_file(write: Write, tmp_path: Path) -> None:
    text = "method: chat\nendpoint: {model: m, key_file: key, responses: ../answers}\n"
    endpoint = load_study_spec(write(LEAST + text)).endpoint
    assert endpoint is not None
    assert endpoint.key_file == str(tmp_path / "key")
    assert endpoint.responses == str(tmp_path.parent / "answers")


@pytest.mark.parametrize("name", ["hub:me/diary", "hf://datasets/me/diary/all.jsonl"])
def test_data_of_the_hub_are_no_path(write: Write, name: str) -> None:
    written = load_study_spec(write(f"{LEAST}data: {{path: {name!r}}}\n"))
    given = load_study_spec(write(LEAST), {"data.path": name})
    assert written.data.path == given.data.path == name


def test_every_key_is_read(write: Write, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "spaces").mkdir()
    (tmp_path / "spaces" / "mine.yaml").touch()
    (tmp_path / "model").mkdir()
    text = (
        GOALS
        + """\
name: Größe
space: spaces/mine.yaml
data: {path: data, format: jsonl, targets: 7, validation: 0.2}
base_model: model
method: logo
metrics: [mae]
constraints: [trainable_params <= 100000, "mae >= 0.25"]
proposer: sobol
initial_trials: 4
budget: {trials: 9}
batch: 2
training: {learning_rate: 1.0e-3, global_steps: 5, embedding: model}
dispatch: {parallel: 2, gpus_per_trial: 0.5, device: cuda}
seed: 3
test_seeds: [1, 2]
"""
    )
    spec = load_study_spec(write(text), metrics=METRICS)
    assert spec.name == "Größe"
    assert spec.space == str(tmp_path / "spaces" / "mine.yaml")
    assert spec.data == DataSettings(str(tmp_path / "data"), "jsonl", targets=7, validation=0.2)
    assert spec.base_model == str(tmp_path / "model")
    assert (spec.method, spec.metrics, spec.proposer) == ("logo", ("mae",), "sobol")
    assert spec.constraints == (
        OutcomeConstraint("trainable_params", "<=", 100000.0),
        OutcomeConstraint("mae", ">=", 0.25),
    )
    assert (spec.initial_trials, spec.budget.trials, spec.batch) == (4, 9, 2)
    assert spec.training == TrainingSettings(
        learning_rate=1e-3, global_steps=5, embedding=str(tmp_path / "model")
    )
    assert spec.dispatch == DispatchSettings(parallel=2, gpus_per_trial=0.5, device="cuda")
    assert (spec.seed, spec.test_seeds) == (3, (1, 2))


def test_a_preset_brings_its_design_and_batch_unless_the_file_says_otherwise(write: Write) -> None:
    paper = PRESETS["paper"]
    text = LEAST + "preset: paper\nbudget: {trials: 200}\n"
    spec = load_study_spec(write(text))
    assert (spec.initial_trials, spec.batch) == (paper.initial_trials, paper.batch)
    assert load_study_spec(write(text + "initial_trials: 50\n")).initial_trials == 50


def test_engine_options_change_a_preset_and_are_spelled_out(write: Write, tmp_path: Path) -> None:
    text = LEAST + "preset: paper\nbudget: {trials: 200}\nengine: {acquisition: qnehvi}\n"
    spec = load_study_spec(write(text))
    expected = EngineOptions(
        acquisition="qnehvi",
        outcome_transform="copula",
        inputs="realised",
        initial_design="random",
        warm_start=False,
        evaluations=2000,
        restarts=10,
        monte_carlo_samples=128,
    )
    assert spec.engine == expected
    kept = write_resolved(spec, tmp_path, versions={}, data_fingerprint="")
    assert load_study_spec(kept).engine == expected
    assert load_study_spec(write(LEAST)).engine == filled_options("default")


def test_packs_reuse_and_trainer_have_defaults_and_can_be_said(write: Write) -> None:
    default = load_study_spec(write(LEAST)).dispatch
    assert (default.trainer, default.reuse, default.pack, default.memory_gib) == (
        "packed", True, "auto", None,
    )  # fmt: skip
    said = "dispatch: {trainer: plain, reuse: false, pack: 3, memory_gib: 2.5}\n"
    assert load_study_spec(write(LEAST + said)).dispatch == DispatchSettings(
        trainer="plain", reuse=False, pack=3, memory_gib=2.5
    )


def test_a_hub_name_is_left_as_it_is(write: Write) -> None:
    assert load_study_spec(write(LEAST + "base_model: owner/llama\n")).base_model == "owner/llama"
    text = LEAST + "training: {embedding: owner/minilm}\n"
    assert load_study_spec(write(text)).training.embedding == "owner/minilm"


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        (LEAST + "sede: 1\n", "5:1", r"unknown key 'sede'\n  did you mean `seed`"),
        (LEAST + "seed: one\n", "5:1", "seed: expected"),
        (LEAST + "seed: -1\n", "5:1", "seed: expected"),
        (LEAST + "seed: 1\nseed: 2\n", "6:1", "seed"),
        (LEAST + "data: {pth: x}\n", "5:8", "unknown key 'data.pth'"),
        (LEAST + "data: {targets: 0}\n", "5:8", "data.targets: expected at least 1, got 0"),
        (LEAST + "data: {others: -1}\n", "5:8", "data.others: expected at least 0"),
        (LEAST + "data: {test: 1.5}\n", "5:8", "data.test: expected a share from 0 to below 1"),
        (LEAST + "data: {validation: 0.5, test: 0.5}\n", "5:25", "something to train on"),
        (LEAST + "data: {path: none}\n", "5:8", "found nothing there"),
        (LEAST + "training: {batch_size: 0}\n", "5:12", "batch_size: expected at least 1"),
        (LEAST + "training:\n  learning_rate: -1.0\n", "6:3", "learning_rate: expected at least 0"),
        (LEAST + "training: {warmup: 1.0}\n", "5:12", "warmup: expected a share"),
        (LEAST + "method: mlip\n", "5:1", r"got 'mlip'\n  did you mean `milp`"),
        (LEAST + "proposer: sobel\n", "5:1", "did you mean `sobol`"),
        (LEAST + "preset: papers\n", "5:1", "did you mean `paper`"),
        (LEAST + "engine: {acqusition: nehvi}\n", "5:10", "did you mean `acquisition`"),
        (LEAST + "engine: {acquisition: ei}\n", "5:10", "engine.acquisition: expected .*'qnehvi'"),
        (
            LEAST + "engine: {restarts: 0}\n",
            "5:1",
            "engine: expected restarts to be a whole number of at least 1, got 0",
        ),
        (
            LEAST + "constraints: [loss <= 2]\nengine: {acquisition: qlognehvi}\n",
            "5:1",
            "no constraints with preset 'default' and acquisition 'qlognehvi'",
        ),
        (LEAST + "metrics: [mea]\n", "5:11", "did you mean `mae`"),
        (LEAST + "metrics: [mea@cvar]\n", "5:11", "got 'mea@cvar'\n  did you mean `mae`"),
        (LEAST + "metrics: [mae@coldstart]\n", "5:11", "did you mean `cold_start`"),
        (LEAST + "metrics: [mae@cvar0]\n", "5:11", "cvar1 to cvar99.* got 'cvar0'"),
        (LEAST + "metrics: [mae@]\n", "5:11", "expected a part of the users .* got ''"),
        (LEAST + "metrics: [trainable_params@cvar]\n", "5:11", "same for every user: name it"),
        (
            LEAST + "  - {metric: mae@cold, direction: minimize}\n",
            "5:6",
            "expected a part of the users",
        ),
        (LEAST + "constraints: [loss@cold <= 2]\n", "5:15", "expected a part of the users"),
        (
            LEAST + "constraints: [rouge_l@cold_start >= 0.1]\n",
            "5:15",
            "add `rouge_l@cold_start` to `metrics`",
        ),
        (LEAST + "constraints: loss <= 2\n", "5:1", "constraints: expected a list, got 'loss <="),
        (LEAST + "constraints: [loss < 2]\n", "5:15", "constraints.0: expected a constraint such"),
        (LEAST + "constraints: [{loss: 2}]\n", "5:15", "a constraint such as .*, got .*'loss': 2"),
        (LEAST + "constraints: [rouge_1 >= 0]\n", "5:15", "did you mean `rouge_l`"),
        (LEAST + "constraints: [mae <= 2]\n", "5:15", r"got 'mae <= 2'\n  add `mae` to `metrics`"),
        (LEAST + "constraints: [loss >= 2]\n", "5:15", "by getting better, got 'loss >= 2'"),
        (
            LEAST + "metrics: [mae]\nconstraints:\n  - mae >= 2\n  - mae <= 1\n",
            "8:5",
            "some value of 'mae' keeps, got 'mae >= 2' and 'mae <= 1'",
        ),
        (
            LEAST + "budget: {trials: 200}\nconstraints: [loss <= 2]\npreset: paper\n",
            "6:1",
            "no constraints with preset 'paper'",
        ),
        (LEAST + "budget: {trials: 0}\n", "5:10", "budget.trials: expected"),
        (LEAST + "initial_trials: 50\n", "5:1", "at most the budget of 40 trials, got 50"),
        (
            LEAST + "preset: paper\nbudget: {trials: 8}\n",
            "1:1",
            "at most the budget of 8 trials, got 100",
        ),
        (LEAST + "dispatch: {parallel: 0}\n", "5:12", "dispatch.parallel: expected"),
        (LEAST + "dispatch: {cpus_per_trial: .inf}\n", "5:28", "a finite number"),
        (LEAST + "dispatch: {pack: 0}\n", "5:12", "dispatch.pack: expected .*1.* or 'auto', got 0"),
        (LEAST + "dispatch: {pack: all}\n", "5:12", "dispatch.pack: expected .*'auto', got 'all'"),
        (LEAST + "dispatch: {trainer: peft}\n", "5:12", "dispatch.trainer: expected 'packed' or"),
        (LEAST + "dispatch: {memory_gib: 0}\n", "5:12", "dispatch.memory_gib: expected"),
        (LEAST + "test_seeds: [1, 1]\n", "5:17", "each once, got 1"),
        (LEAST + "test_seeds: [-1]\n", "5:14", "a seed from 0 to below 2"),
        (LEAST + "test_seeds: [2147483648]\n", "5:14", "31, each once, got 2147483648"),
        (LEAST + "base_precision: 2bit\n", "5:1", "base_precision: expected .*'4bit'"),
        (
            LEAST + "base_precision: 8bit\ntraining: {base_training: lora}\n",
            "5:1",
            r"base_training none with 8bit weights(.|\n)*got lora",
        ),
        (LEAST + "base_precision: 4bit\ndispatch: {device: cpu}\n", "5:1", "expected a GPU"),
        (LEAST + "training: {chat_template: off}\n", "5:12", "chat_template: expected 'auto'"),
        (LEAST + "base_model: ./none\n", "5:1", "found none at .*none"),
        (LEAST + "training: {embedding: ./none}\n", "5:12", "found none at .*none"),
        ("space: mlp\n" + GOALS, "1:1", "did you mean `milp`"),
        ("space: none.yaml\n" + GOALS, "1:1", "expected a space file, found none"),
        ("space: milp\n", "1:1", "expected the key 'objectives'"),
        ("space: milp\nobjectives: []\n", "2:1", "objectives: expected"),
        (
            "space: milp\nobjectives:\n  - {metric: trainable_params, direction: minimize}\n",
            "2:1",
            "one objective that is measured, got trainable_params",
        ),
        (LEAST + "  - {metric: loss, direction: minimize}\n", "5:6", "'loss' again"),
        (LEAST + "  - {metric: maes, direction: minimize}\n", "5:6", "did you mean `mae`"),
        (LEAST + "  - {metric: mae, direction: down}\n", "5:19", "objectives.2.direction"),
        (LEAST + "  - {metric: mae, direction: minimize, ref: 1}\n", "5:40", "unknown key"),
        (
            LEAST + "  - {metric: mae, direction: minimize, reference: .nan}\n",
            "5:51",
            "a finite number",
        ),
    ],
)
def test_a_bad_file_is_refused_at_its_place(
    write: Write, text: str, place: str, message: str
) -> None:
    with pytest.raises(SpecError, match=message) as caught:
        load_study_spec(write(text), metrics=METRICS)
    assert f"first.yaml:{place}" in str(caught.value)


def test_a_metric_may_be_named_over_a_part_of_the_users(write: Write, tmp_path: Path) -> None:
    text = LEAST + "  - {metric: loss@cvar10, direction: minimize}\n"
    text += "metrics: [rouge_l@cold_start, mae@high_activity]\n"
    text += "constraints: [rouge_l@cold_start >= 0.1, loss@cvar10 <= 4]\n"
    spec = load_study_spec(write(text), metrics=METRICS)
    assert [one.metric for one in spec.objectives] == ["loss", "rouge_l", "loss@cvar10"]
    assert spec.metrics == ("rouge_l@cold_start", "mae@high_activity")
    assert spec.constraints[0] == OutcomeConstraint("rouge_l@cold_start", ">=", 0.1)
    path = write_resolved(spec, tmp_path, versions={}, data_fingerprint="")
    again = load_study_spec(path, metrics=METRICS)
    assert (again.objectives, again.metrics, again.constraints) == (
        spec.objectives, spec.metrics, spec.constraints,
    )  # fmt: skip


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"none\.yaml"):
        load_study_spec(tmp_path / "none.yaml")


def test_unnamed_metrics_leave_names_unchecked(write: Write) -> None:
    assert load_study_spec(write(LEAST + "metrics: [bleu]\n")).metrics == ("bleu",)


def test_overrides_take_the_files_place(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    (here / "data").mkdir(parents=True)
    monkeypatch.chdir(here)
    overrides = {"seed": 7, "data.path": "data", "dispatch.parallel": 3, "budget.trials": 20}
    spec = load_study_spec(write(LEAST + "data: {path: none, targets: 5}\n"), overrides)
    assert (spec.seed, spec.dispatch.parallel, spec.budget.trials) == (7, 3, 20)
    assert spec.data == DataSettings(path=str(here / "data"), targets=5)


def test_a_smaller_budget_on_the_command_line_shortens_the_initial_design(write: Write) -> None:
    spec = load_study_spec(write(LEAST + "initial_trials: 9\n"), {"budget.trials": 4})
    assert (spec.initial_trials, spec.budget.trials) == (4, 4)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"seed": "x"}, "command line: seed: expected"),
        ({"budget.trials": 0}, "command line: budget.trials: expected"),
        ({"data.path": "nowhere"}, "command line: expected data at"),
        ({"data.path": ""}, "data.path: expected a path, got an empty text"),
        ({"initial_trials": 90}, "command line: expected initial_trials of at most"),
        ({"training.warmup": 2.0}, "command line: training.warmup: expected a share"),
        ({"base_model": "./nowhere"}, "command line: expected a model folder"),
    ],
)
def test_a_bad_override_is_refused_as_one(
    write: Write, overrides: dict[str, Any], message: str
) -> None:
    with pytest.raises(SpecError, match=message):
        load_study_spec(write(LEAST), overrides)


def test_the_resolved_file_spells_out_every_default_and_reads_back(
    write: Write, tmp_path: Path
) -> None:
    spec = load_study_spec(write(LEAST), metrics=METRICS)
    path = write_resolved(
        spec, tmp_path, versions={"torch": "2.13.0"}, data_fingerprint="0123456789012345"
    )
    assert path == tmp_path / "study.yaml"
    text = path.read_text("utf-8")
    for key in (*StudySpec.model_fields, "learning_rate", "gpus_per_trial", "max_queries"):
        assert f"{key}:" in text
    again = load_study_spec(path, metrics=METRICS)
    assert again.resolved is not None
    assert again.resolved.versions == {"torch": "2.13.0"}
    assert again.resolved.data_fingerprint == "0123456789012345"
    assert again.model_copy(update={"resolved": None}) == spec


@settings(max_examples=30)
@given(
    name=st.text(
        st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=200
    ),
    rate=st.floats(0, 1e9),
    seed=st.integers(0, 2**31 - 1),
)
def test_whatever_a_spec_holds_is_written_so_that_it_reads_back(
    tmp_path_factory: pytest.TempPathFactory, name: str, rate: float, seed: int
) -> None:
    spec = StudySpec(
        name=name,
        space="milp",
        objectives=(Objective("no", "minimize"),),
        training=TrainingSettings(learning_rate=rate),
        seed=seed,
        metrics=("1e3", "null", "~", "# x"),
    )
    folder = tmp_path_factory.mktemp("resolved")
    path = write_resolved(spec, folder, versions={}, data_fingerprint="1e10")
    again = load_study_spec(path)
    assert again.resolved is not None
    assert again.resolved.data_fingerprint == "1e10"
    assert again.model_copy(update={"resolved": None}) == spec


def test_a_folder_that_is_not_there_cannot_be_written(write: Write, tmp_path: Path) -> None:
    spec = load_study_spec(write(LEAST))
    with pytest.raises(StudyError, match="expected to write"):
        write_resolved(spec, tmp_path / "none", versions={}, data_fingerprint="")


def test_constraints_are_written_as_texts_and_read_back(write: Write, tmp_path: Path) -> None:
    text = LEAST + "constraints: [trainable_params <= 1.0e5, rouge_l >= 0.1]\nproposer: map_saas\n"
    spec = load_study_spec(write(text), {"seed": 3}, metrics=METRICS)
    path = write_resolved(spec, tmp_path, versions={}, data_fingerprint="")
    assert "- trainable_params <= 100000\n- rouge_l >= 0.1\n" in path.read_text("utf-8")
    again = load_study_spec(path, metrics=METRICS)
    assert again.constraints == spec.constraints
    assert len(again.constraints) == 2


def test_proposers_that_ignore_outcomes_take_constraints_with_any_preset(write: Write) -> None:
    text = LEAST + "constraints: [loss <= 2]\nproposer: random\npreset: paper\ninitial_trials: 9\n"
    assert len(load_study_spec(write(text)).constraints) == 1

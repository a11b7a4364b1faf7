"""A table from beginning to end: run, stopped, gone on with, refused."""

from __future__ import annotations

import csv
import json
import signal
import stat
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from dispatch.comparison.making import small_subject
from milp_search.adapters.jobs import Adapter
from milp_search.core.errors import SpecError, StudyError
from milp_search.core.forgotten import new_mark
from milp_search.core.plan import AdapterPlan
from milp_search.core.trial import TrialStatus
from milp_search.dispatch.comparison import parts
from milp_search.dispatch.comparison.command import analyze_study, compare_studies, parse_levels
from milp_search.dispatch.comparison.compare import run_comparison
from milp_search.dispatch.comparison.drift import chain_similarities, cosines
from milp_search.dispatch.comparison.figures import make_figure
from milp_search.dispatch.comparison.parts import rows_part
from milp_search.dispatch.comparison.request import Comparison, Subject
from milp_search.dispatch.comparison.tables import make_table
from milp_search.dispatch.drive import prepare
from milp_search.dispatch.show import copy_adapters
from milp_search.dispatch.source import StudySource
from milp_search.space.row_space import Row
from milp_search.study.spec_file import write_resolved
from milp_search.study.study import Study, made_folder

# GPyTorch scripts functions when it is imported, which Torch no longer likes.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")

ROWS = (Row("Base", "base"), Row("Again", "base"), Row("LoGo", "logo", {"time_splits": 2}))


def made(one: Subject, seeds: tuple[int, ...] = (0, 1)) -> Comparison:
    return Comparison(
        "rows", "t", (rows_part("rows", one.spec, ROWS, seeds, one.file),), lambda _: ([], [])
    )


def quiet() -> Console:
    return Console(file=StringIO(), width=200)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished table of stages."""
    folder = tmp_path_factory.mktemp("table")
    one = small_subject(folder, paper="MedDia")
    comparison = make_table("milp-5", [one], (0, 1))
    assert run_comparison(comparison, folder / "out", quiet()) == 0
    return folder / "out"


@pytest.mark.slow
class TestAFinishedTable:
    def test_every_row_was_measured_with_every_seed_on_the_test_split(self, table: Path) -> None:
        with Study.open(table / "parts" / "small", read_only=True) as study:
            assert len(study.trials) == 6
            assert {trial.status for trial in study.trials} == {TrialStatus.COMPLETED}
            assert {str(trial.arm["seed"]) for trial in study.trials} == {"0", "1"}
        files = [path.name for path in (table / "parts" / "small" / "results").glob("*.json")]
        assert all(name.startswith("row-") for name in files)

    def test_its_files_say_the_same(self, table: Path) -> None:
        with open(table / "milp-5.csv", newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["metric"] == "loss"]
        assert [row["row"] for row in rows] == [
            "Instruction tuning", "Memory injection", "Full MiLP",
        ]  # fmt: skip
        assert all(len(json.loads(row["values"])) == 2 for row in rows)
        assert "| Full MiLP | " in (table / "milp-5.md").read_text()
        page = (table / "milp-5.html").read_text()
        assert "Full MiLP" in page
        assert "22.96" not in page  # ours are shares
        assert "0.2296" in page

    def test_its_folder_and_files_are_their_owner_s(self, table: Path) -> None:
        for path in (table, *table.rglob("*")):
            mode = stat.S_IMODE(path.stat().st_mode)
            assert mode == (0o700 if path.is_dir() else 0o600), f"{path.name} {mode:o}"

    def test_making_it_again_trains_nothing(
        self, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(parts, "run_study", None)
        monkeypatch.setattr(parts, "resume_study", None)
        one = small_subject(tmp_path)
        assert run_comparison(make_table("milp-5", [one], (0, 1)), table, quiet()) == 0

    def test_other_seeds_in_the_same_folder_are_refused(self, table: Path, tmp_path: Path) -> None:
        comparison = make_table("milp-5", [small_subject(tmp_path)], (0, 1, 2))
        with pytest.raises(StudyError, match="a study of other rows, seeds or space"):
            run_comparison(comparison, table, quiet())

    def test_other_data_in_the_same_folder_are_refused(self, table: Path, tmp_path: Path) -> None:
        one = small_subject(tmp_path)
        spec = one.spec.model_copy(update={"data": replace(one.spec.data, seed=9)})
        comparison = make_table("milp-5", [replace(one, spec=spec)], (0, 1))
        with pytest.raises(StudyError, match="a study of other data"):
            run_comparison(comparison, table, quiet())

    def test_other_settings_in_the_same_folder_are_refused(
        self, table: Path, tmp_path: Path
    ) -> None:
        one = small_subject(tmp_path)
        longer = replace(one.spec.training, tuning_epochs=3)
        spec = one.spec.model_copy(update={"training": longer})
        with pytest.raises(StudyError, match="a study of other settings"):
            run_comparison(make_table("milp-5", [replace(one, spec=spec)], (0, 1)), table, quiet())

    def test_other_workers_in_the_same_folder_are_not(self, table: Path, tmp_path: Path) -> None:
        one = small_subject(tmp_path, overrides={"dispatch.parallel": 2})
        assert run_comparison(make_table("milp-5", [one], (0, 1)), table, quiet()) == 0

    def test_its_rows_have_no_adapters_to_export(self, table: Path, tmp_path: Path) -> None:
        with pytest.raises(StudyError, match="the rows of a table are measured only"):
            copy_adapters(table / "parts" / "small", tmp_path)

    def test_its_study_is_an_ax_experiment_too(self, table: Path) -> None:
        with Study.open(table / "parts" / "small", read_only=True) as study:
            assert len(study.to_ax().trials) == 6

    def test_a_study_s_folder_is_no_table_s(self, table: Path, tmp_path: Path) -> None:
        comparison = make_table("milp-5", [small_subject(tmp_path)], (0, 1))
        with pytest.raises(StudyError, match="holds a study, not a table"):
            run_comparison(comparison, table / "parts" / "small", quiet())


@pytest.mark.slow
def test_rows_that_train_the_same_are_trained_once(tmp_path: Path) -> None:
    assert run_comparison(made(small_subject(tmp_path), (0,)), tmp_path / "out", quiet()) == 0
    with Study.open(tmp_path / "out" / "parts" / "rows", read_only=True) as study:
        assert [trial.arm["row"] for trial in study.trials] == ["Base", "LoGo"]


@pytest.mark.slow
def test_a_stopped_table_goes_on_where_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = small_subject(tmp_path, overrides={"dispatch.pack": 1})
    told = StudySource.done

    def stop_after_one(source: StudySource, *told_what: object) -> None:
        told(source, *told_what)  # type: ignore[arg-type]
        if sum(trial.status.terminal for trial in source.study.trials) == 1:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(StudySource, "done", stop_after_one)
    assert run_comparison(made(one), tmp_path / "out", quiet()) == 130
    before = measured(tmp_path / "out" / "parts" / "rows")
    assert len(before) == 1
    monkeypatch.setattr(StudySource, "done", told)
    assert run_comparison(made(one), tmp_path / "out", quiet()) == 0
    after = measured(tmp_path / "out" / "parts" / "rows")
    assert len(after) == 4
    assert before.items() <= after.items()


def measured(folder: Path) -> dict[tuple[str, str], float]:
    with Study.open(folder, read_only=True) as study:
        return {
            (str(trial.arm["row"]), str(trial.arm["seed"])): trial.measurements["loss"].mean
            for trial in study.trials
            if trial.status is TrialStatus.COMPLETED
        }


@pytest.mark.slow
def test_global_adapters_of_later_periods_resemble_one_another(tmp_path: Path) -> None:
    one = small_subject(tmp_path)
    assert run_comparison(made(one, (0,)), tmp_path / "out", quiet()) == 0
    square = np.array(chain_similarities(tmp_path / "out" / "parts" / "rows", "LoGo"))
    assert square.shape == (2, 2)
    assert np.diag(square) == pytest.approx([1.0, 1.0])
    assert square[0, 1] == square[1, 0] > 0.5  # the second starts from the first


@pytest.mark.slow
def test_drift_shows_as_many_periods_as_there_are(tmp_path: Path) -> None:
    one = small_subject(tmp_path, overrides={"data.max_target_history": 1, "data.targets": 1})
    assert run_comparison(make_figure("drift", one, (0,), None), tmp_path / "out", quiet()) == 0
    with open(tmp_path / "out" / "drift-similarity.csv", newline="") as file:
        assert [row["metric"] for row in csv.DictReader(file)] == ["T1"]


@pytest.mark.slow
def test_without_rank_there_is_no_drift_of_adapters(tmp_path: Path) -> None:
    one = small_subject(tmp_path)
    space = Path(one.spec.space)
    space.write_text(space.read_text().replace("lora_rank: [1, 2, 4]", "lora_count: 0"))
    assert run_comparison(make_figure("drift", one, (0,), None), tmp_path / "out", quiet()) == 0
    assert (tmp_path / "out" / "drift.csv").exists()
    assert "similarity" not in (tmp_path / "out" / "drift.html").read_text()


def test_cosines_are_those_of_all_matrices_as_one_vector() -> None:
    def adapter(a: float, b: float) -> Adapter:
        return Adapter("x", AdapterPlan((1,)), {"m": (torch.tensor([[a]]), torch.tensor([[b]]))})

    square = cosines([adapter(1.0, 0.0), adapter(1.0, 1.0), adapter(-2.0, 0.0)])
    assert square[0].tolist() == pytest.approx([1.0, 0.5**0.5, -1.0])


@pytest.mark.parametrize("links", [True, False])
def test_the_base_stage_of_one_part_serves_those_that_would_train_the_same(
    links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_here(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    if not links:
        monkeypatch.setattr("os.link", none_here)
    spec = small_subject(tmp_path).spec
    first = tmp_path / "parts" / "first"
    (first / "base-0123").mkdir(parents=True)
    (first / "base-0123" / "weights").write_text("w")
    (first / "base-4567.partial").mkdir()
    write_resolved(spec, first, versions={}, data_fingerprint="")
    less = spec.model_copy(update={"data": replace(spec.data, max_target_history=2)})
    other = spec.model_copy(update={"data": replace(spec.data, seed=5)})
    for name, one in (("less", less), ("other", other)):
        parts._adopt_base_stage(one, tmp_path / "parts" / name)
    assert [path.name for path in (tmp_path / "parts" / "less").iterdir()] == ["base-0123"]
    assert (tmp_path / "parts" / "less" / "base-0123" / "weights").read_text() == "w"
    assert not (tmp_path / "parts" / "other").exists()


def test_a_base_stage_is_not_taken_over_through_a_link(tmp_path: Path) -> None:
    spec = small_subject(tmp_path).spec
    (tmp_path / "parts" / "first" / "base-0123").mkdir(parents=True)
    write_resolved(spec, tmp_path / "parts" / "first", versions={}, data_fingerprint="")
    less = spec.model_copy(update={"data": replace(spec.data, max_target_history=2)})
    elsewhere, folder = tmp_path / "elsewhere", tmp_path / "parts" / "less"
    elsewhere.mkdir()
    folder.mkdir()
    (folder / "base-0123.partial").symlink_to(elsewhere)
    with pytest.raises(StudyError, match="got a link"):
        parts._adopt_base_stage(less, folder)


def test_a_part_begun_later_leaves_out_who_was_forgotten_before(tmp_path: Path) -> None:
    prepared = prepare(small_subject(tmp_path).spec)
    first, *left = prepared.task.targets
    data = replace(prepared.spec.data, forgotten=(new_mark(first.user),))
    spec = prepared.spec.model_copy(update={"data": data})
    write_resolved(spec, made_folder(tmp_path / "before"), versions={}, data_fingerprint="")
    later = parts._without_forgotten(prepared, tmp_path)
    assert later.spec == spec
    assert later.task == replace(prepared.task, targets=tuple(left))
    assert later.space == prepared.space
    assert parts._decisive(later.spec) == parts._decisive(prepared.spec)


@pytest.mark.slow
def test_a_table_none_of_whose_trials_succeeded_says_so_and_exits_3(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(run: object) -> None:
        raise ValueError("no")

    monkeypatch.setattr("milp_search.dispatch.worker.train", broken)
    comparison = made(small_subject(tmp_path), (0,))
    assert run_comparison(comparison, tmp_path / "out", quiet()) == 3
    # Looked at again, it is no other.
    assert run_comparison(comparison, tmp_path / "out", quiet()) == 3


@pytest.mark.slow
def test_a_search_none_of_whose_trials_keeps_the_constraints_says_so(tmp_path: Path) -> None:
    file = small_subject(tmp_path).file
    file.write_text(file.read_text().replace("metrics: []", "constraints: [loss <= 0.01]"))
    given = {"dispatch.local": True, "budget.trials": 1}
    assert compare_studies([file], "milp-7", tmp_path / "out", None, None, given, quiet()) == 3
    page = (tmp_path / "out" / "milp-7.html").read_text("utf-8")
    assert page.count("1 of 1 trials completed, none of which keeps every constraint") == 2


def test_a_file_in_the_folder_s_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(StudyError, match="expected to make the folder"):
        run_comparison(made(small_subject(tmp_path)), tmp_path / "out", quiet())


@pytest.mark.parametrize("name", ["..", "../up", "a/b", "a\\\\b", "\u4e00" * 67])
def test_a_name_that_would_leave_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    file = small_subject(tmp_path).file
    file.write_text(file.read_text().replace("name: small", f'name: "{name}"'))
    with pytest.raises(SpecError, match="a study name that can be a folder's"):
        compare_studies([file], "logo-1", tmp_path / "out", None, None, {}, quiet())
    assert not (tmp_path / "out").exists()


def test_a_budget_of_trials_is_refused_where_nothing_is_searched(tmp_path: Path) -> None:
    file = small_subject(tmp_path).file
    with pytest.raises(SpecError, match="expected no --trials for 'logo-1'"):
        compare_studies([file], "logo-1", tmp_path, None, None, {"budget.trials": 5}, quiet())


def test_a_study_without_test_seeds_needs_seeds(tmp_path: Path) -> None:
    file = small_subject(tmp_path).file
    file.write_text(file.read_text().replace("test_seeds: [7]", "test_seeds: []"))
    with pytest.raises(SpecError, match="at least one training seed, got no `test_seeds`"):
        analyze_study(file, "drift", tmp_path / "out", None, None, {}, quiet())


@pytest.mark.parametrize("text", ["", "a", "1,,2", "0,4", "-1", "1.5"])
def test_levels_are_positive_whole_numbers(text: str) -> None:
    with pytest.raises(SpecError, match="expected --levels"):
        parse_levels(text)


def test_levels_are_ascending_and_each_once() -> None:
    assert parse_levels("20, 5,10,5") == (5, 10, 20)


def test_data_of_the_command_line_are_those_of_one_study(tmp_path: Path) -> None:
    file = small_subject(tmp_path).file
    given = {"data.path": str(tmp_path)}
    with pytest.raises(SpecError, match="--data with a single study, got 2 studies"):
        compare_studies([file, file], "logo-1", tmp_path, None, None, given, quiet())


def test_studies_of_one_name_are_refused(tmp_path: Path) -> None:
    file = small_subject(tmp_path).file
    with pytest.raises(SpecError, match="different names, got 'small' 2 times"):
        compare_studies([file, file], "logo-1", tmp_path, None, None, {}, quiet())


def test_no_seed_is_refused(tmp_path: Path) -> None:
    file = small_subject(tmp_path).file
    with pytest.raises(SpecError, match="at least one training seed, got --seeds 0"):
        analyze_study(file, "drift", tmp_path, 0, None, {}, quiet())

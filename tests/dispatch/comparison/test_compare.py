"""A table from beginning to end: run, stopped, gone on with, refused."""

from __future__ import annotations

import csv
import signal
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
from milp_search.core.plan import AdapterPlan
from milp_search.core.trial import TrialStatus
from milp_search.dispatch.comparison import parts
from milp_search.dispatch.comparison.command import analyze_study, compare_studies, parse_levels
from milp_search.dispatch.comparison.compare import run_comparison
from milp_search.dispatch.comparison.drift import chain_similarities, cosines
from milp_search.dispatch.comparison.parts import rows_part
from milp_search.dispatch.comparison.request import Comparison, Subject
from milp_search.dispatch.comparison.tables import make_table
from milp_search.dispatch.source import StudySource
from milp_search.space.row_space import Row
from milp_search.study.study import Study

# GPyTorch scripts functions when it is imported, which Torch no longer likes.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")

ROWS = (Row("Base", "base"), Row("Again", "base"), Row("LoGo", "logo", {"time_splits": 2}))


def made(one: Subject, seeds: tuple[int, ...] = (0, 1)) -> Comparison:
    return Comparison(
        "t", (rows_part("rows", one.spec, ROWS, seeds, one.file),), lambda _: ([], [])
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
        with Study.open(table / "small", read_only=True) as study:
            assert len(study.trials) == 6
            assert {trial.status for trial in study.trials} == {TrialStatus.COMPLETED}
            assert {str(trial.arm["seed"]) for trial in study.trials} == {"0", "1"}
        files = [path.name for path in (table / "small" / "results").glob("*.json")]
        assert all(name.startswith("row-") for name in files)

    def test_its_files_say_the_same(self, table: Path) -> None:
        with open(table / "milp-5.csv", newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["metric"] == "loss"]
        assert [row["row"] for row in rows] == [
            "Instruction tuning", "Memory injection", "Full MiLP",
        ]  # fmt: skip
        assert all(len(row["values"].split()) == 2 for row in rows)
        assert "| Full MiLP | " in (table / "milp-5.md").read_text()
        page = (table / "table.html").read_text()
        assert "Full MiLP" in page
        assert "22.96" not in page  # ours are shares
        assert "0.2296" in page

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

    def test_a_study_s_folder_is_no_table_s(self, table: Path, tmp_path: Path) -> None:
        comparison = make_table("milp-5", [small_subject(tmp_path)], (0, 1))
        with pytest.raises(StudyError, match="holds a study, not a table"):
            run_comparison(comparison, table / "small", quiet())


@pytest.mark.slow
def test_rows_that_train_the_same_are_trained_once(tmp_path: Path) -> None:
    assert run_comparison(made(small_subject(tmp_path), (0,)), tmp_path / "out", quiet()) == 0
    with Study.open(tmp_path / "out" / "rows", read_only=True) as study:
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
    before = measured(tmp_path / "out" / "rows")
    assert len(before) == 1
    monkeypatch.setattr(StudySource, "done", told)
    assert run_comparison(made(one), tmp_path / "out", quiet()) == 0
    after = measured(tmp_path / "out" / "rows")
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
    square = np.array(chain_similarities(tmp_path / "out" / "rows", "LoGo"))
    assert square.shape == (2, 2)
    assert np.diag(square) == pytest.approx([1.0, 1.0])
    assert square[0, 1] == square[1, 0] > 0.5  # the second starts from the first


def test_cosines_are_those_of_all_matrices_as_one_vector() -> None:
    def adapter(a: float, b: float) -> Adapter:
        return Adapter("x", AdapterPlan((1,)), {"m": (torch.tensor([[a]]), torch.tensor([[b]]))})

    square = cosines([adapter(1.0, 0.0), adapter(1.0, 1.0), adapter(-2.0, 0.0)])
    assert square[0].tolist() == pytest.approx([1.0, 0.5**0.5, -1.0])


def test_the_base_stage_of_one_part_serves_the_next(tmp_path: Path) -> None:
    stage = tmp_path / "first" / "base-0123"
    stage.mkdir(parents=True)
    (stage / "weights").write_text("w")
    (tmp_path / "first" / "base-4567.partial").mkdir()
    parts._adopt_base_stages(tmp_path / "second")
    assert [path.name for path in (tmp_path / "second").iterdir()] == ["base-0123"]
    assert (tmp_path / "second" / "base-0123" / "weights").read_text() == "w"


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
    with pytest.raises(SpecError, match="at least one seed, got --seeds 0"):
        analyze_study(file, "drift", tmp_path, 0, None, {}, quiet())

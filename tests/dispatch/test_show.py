"""What the smaller commands print."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from dispatch.small_study import small_study
from milp_search.core.arm import Arm
from milp_search.core.errors import SpecError, StudyError
from milp_search.core.plan import AdapterPlan, TrialPlan
from milp_search.core.trial import Measurement, Objective, Trial, TrialStatus
from milp_search.dispatch.folders import adapters_folder
from milp_search.dispatch.progress import Progress, clock, progress_line
from milp_search.dispatch.show import (
    check_file,
    copy_adapters,
    plan_text,
    print_front,
    print_status,
    value_text,
)
from milp_search.space.space_file import load_search_space
from milp_search.study.study import Study

PLAN = TrialPlan("milp_logo", AdapterPlan((0, 8)), time_splits=2, communities=4, retrieved_items=0)
ROOT = Path(__file__).parents[2]


def study_of_two_layers(folder: Path, *constraints: str) -> Study:
    return Study.create(
        folder,
        space=load_search_space("milp", layers=2),
        objectives=[Objective("loss", "minimize", 3.0), Objective("rouge_l", "maximize", 0.0)],
        proposer="random",
        initial_trials=2,
        constraints=constraints,
    )


def test_a_plan_is_told_by_its_ranks_and_what_counts() -> None:
    assert plan_text(Trial(0, Arm({}), PLAN)) == "0-8 T2 c4"
    base = replace(PLAN, adapter=AdapterPlan((0, 0)), time_splits=0, communities=0)
    assert plan_text(Trial(0, Arm({}), base)) == "no adapter"
    assert plan_text(Trial(0, Arm({}))) == ""
    asked = replace(PLAN, adapter=AdapterPlan(()), profile=True, summary_lines=5)
    assert plan_text(Trial(0, Arm({}), asked)) == "T2 c4 profile lines=5"


def test_a_value_is_told_with_its_standard_error_unless_it_is_exact() -> None:
    values = {"loss": Measurement(1.23456, 0.0123), "trainable_params": Measurement(24576.0, 0.0)}
    assert value_text(values, "loss") == "1.235±0.01"
    assert value_text(values, "trainable_params") == "24576"
    assert value_text(values, "rouge_l") == "-"


def test_durations_are_clocks() -> None:
    assert [clock(s) for s in (5, 65, 3725)] == ["0:05", "1:05", "1:02:05"]


def test_the_progress_line_tells_count_best_values_hypervolume_and_time(tmp_path: Path) -> None:
    with study_of_two_layers(tmp_path) as study:
        study.tell(study.ask().index, {"loss": 2.0, "rouge_l": 0.5})
        study.tell(study.ask().index, {"loss": 1.0, "rouge_l": 0.25})
        study.fail(study.ask().index, "why")
        line = progress_line(study, 10, 75.0)
    # 1 x 0.5 beside 2 x 0.25, overlapping in 1 x 0.25
    assert line == (
        "3/10 trials | 1 failed | best loss 1 | best rouge_l 0.5 | hypervolume 0.75 | 1:15 left"
    )


def test_progress_prints_a_plain_line_a_change_where_there_is_no_terminal(tmp_path: Path) -> None:
    text = StringIO()
    with study_of_two_layers(tmp_path) as study:
        progress = Progress(study, 4, Console(file=text, width=20))
        progress.show()
        progress.show()
        study.tell(study.ask().index, {"loss": 2.0, "rouge_l": 0.5})
        progress.show()
        progress.close()
    lines = text.getvalue().splitlines()
    assert lines[0] == "0/4 trials | hypervolume 0"
    assert lines[1].startswith("1/4 trials | best loss 2 | best rouge_l 0.5")
    assert len(lines) == 2


def test_the_status_says_what_was_reused_where_anything_was_looked_up(tmp_path: Path) -> None:
    folder = tmp_path / "study"
    with study_of_two_layers(folder) as study:
        study.tell(study.ask().index, {"loss": 2.0, "rouge_l": 0.5})
        small_study(folder)
        assert "reused" not in status_text(folder)
        reused = {"global_adapters": (1, 4)}
        study.tell(study.ask().index, {"loss": 1.0, "rouge_l": 0.5}, reused=reused)
        assert "reused: global adapters 1 of 4" in status_text(folder)


def test_a_study_without_a_study_file_has_a_status(tmp_path: Path) -> None:
    with study_of_two_layers(tmp_path) as study:
        study.tell(study.ask().index, {"loss": 2.0, "rouge_l": 0.5})
        study.ask()
    lines = status_text(tmp_path).splitlines()
    assert lines[0].startswith("1 trials | best loss 2 | ")
    assert lines[1:] == ["1 asked, 1 completed"]


def test_a_study_whose_data_is_gone_has_a_status(tmp_path: Path) -> None:
    with study_of_two_layers(tmp_path) as study:
        study.ask()
    file = small_study(tmp_path, trials=8)
    file.write_text(file.read_text().replace("data:\n", f"data:\n  path: {tmp_path / 'gone'}\n"))
    assert status_text(tmp_path).splitlines()[0].startswith("0/8 trials")


def status_text(folder: Path) -> str:
    text = StringIO()
    print_status(folder, Console(file=text))
    return text.getvalue()


def test_a_study_without_adapters_cannot_be_exported(tmp_path: Path) -> None:
    with study_of_two_layers(tmp_path / "study") as study:
        trial = study.ask()
        study.tell(trial.index, {"loss": 2.0, "rouge_l": 0.5})
        assert study.trial(trial.index).status is TrialStatus.COMPLETED
    with pytest.raises(StudyError, match=r"no adapters to export(.|\n)*made in Python"):
        copy_adapters(tmp_path / "study", tmp_path / "to")
    small_study(tmp_path / "study")
    with pytest.raises(StudyError, match=r"no adapters to export(.|\n)*milp-search resume"):
        copy_adapters(tmp_path / "study", tmp_path / "to")


def test_adapters_are_exported_to_another_folder_only(tmp_path: Path) -> None:
    folder = tmp_path / "study"
    with study_of_two_layers(folder) as study:
        trial = study.ask()
        study.tell(trial.index, {"loss": 2.0, "rouge_l": 0.5})
    source = adapters_folder(folder, trial.index)
    (source / "local").mkdir(parents=True)
    (source / "manifest.json").write_text("{}")
    (copy,) = copy_adapters(folder, tmp_path / "to")
    assert (copy / "manifest.json").read_text() == "{}"
    with pytest.raises(StudyError, match="another folder than the study's own"):
        copy_adapters(folder, tmp_path / "to" / ".." / "study")
    (tmp_path / "file").write_text("")
    with pytest.raises(StudyError, match=r"cannot copy the adapters to .*: Not a directory"):
        copy_adapters(folder, tmp_path / "file")
    blocked = tmp_path / "blocked"
    (blocked / source.relative_to(folder)).mkdir(parents=True)
    (blocked / source.relative_to(folder) / "local").write_text("")
    with pytest.raises(StudyError, match=r"cannot copy the adapters to .*: .*File exists"):
        copy_adapters(folder, blocked)


def test_a_file_is_checked_as_what_it_is(tmp_path: Path) -> None:
    assert "search space milp, " in check_file(ROOT / "search_spaces" / "milp.yaml")
    assert "study quickstart, " in check_file(ROOT / "experiments" / "quickstart.yaml")
    (tmp_path / "bad.yaml").write_text("dimensions: 3\n")
    with pytest.raises(SpecError, match=r"bad\.yaml:"):
        check_file(tmp_path / "bad.yaml")


def test_an_empty_front_is_told_and_nothing_exported(tmp_path: Path) -> None:
    folder = tmp_path / "study"
    with study_of_two_layers(folder, "loss <= 0.5", "rouge_1 >= 0") as study:
        small_study(folder)
        assert "the front is empty" not in status_text(folder)
        for _ in range(2):
            study.tell(study.ask().index, {"loss": 2.0, "rouge_l": 0.5, "rouge_1": 0.5})
        line = progress_line(study, 10, None)
    assert line == "2/10 trials | 2 breaking a constraint | hypervolume 0"
    text = status_text(folder)
    assert "loss <= 0.5, broken by 2 of 2 completed trials\n" in text
    assert "rouge_1 >= 0, broken by 0 of 2 completed trials\n" in text
    assert "no completed trial keeps every constraint: the front is empty" in text
    printed = StringIO()
    print_front(folder, Console(file=printed))
    assert "Pareto front of 0 trials" in printed.getvalue()
    assert "the front is empty" in printed.getvalue()
    with pytest.raises(StudyError, match="no completed trial keeps every constraint"):
        copy_adapters(folder, tmp_path / "to")


def test_the_best_value_is_one_that_keeps_the_constraints(tmp_path: Path) -> None:
    with study_of_two_layers(tmp_path, "rouge_l >= 0.3") as study:
        study.tell(study.ask().index, {"loss": 1.0, "rouge_l": 0.25})
        study.tell(study.ask().index, {"loss": 2.0, "rouge_l": 0.5})
        line = progress_line(study, 10, None)
    assert line == (
        "2/10 trials | 1 breaking a constraint | best loss 2 | best rouge_l 0.5 | hypervolume 0.5"
    )

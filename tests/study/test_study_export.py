"""`trials.csv` and `front.json` against an independent reading of each other."""

from __future__ import annotations

import csv
import json
import math
import random
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import pytest

from milp_search.core.errors import StudyError
from milp_search.core.trial import Measurement, Objective
from milp_search.core.whole_file import write_whole
from milp_search.study.export import export, front_json, over_seeds, trials_csv
from milp_search.study.report import render_report
from milp_search.study.study import Study
from study.making import GOALS, SHAPE, Make, tell_many

# GPyTorch scripts functions when it is imported, which Torch no longer likes.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")

Row = dict[str, str]


def rows(study: Study) -> list[Row]:
    return list(csv.DictReader(trials_csv(study).splitlines()))


def costs(row: Row, objectives: list[dict[str, Any]]) -> tuple[float, ...]:
    """Returns how far a row lies from the reference, each objective turned to be minimised."""
    return tuple(
        (float(row[goal["metric"]]) - goal["reference"])
        * (1 if goal["direction"] == "minimize" else -1)
        for goal in objectives
    )


def brute_front(table: list[Row], objectives: list[dict[str, Any]]) -> list[int]:
    points = {int(row["trial"]): costs(row, objectives) for row in table}
    return [
        trial
        for trial, point in points.items()
        if not any(
            other != point and all(a <= b for a, b in zip(other, point, strict=True))
            for other in points.values()
        )
    ]


def brute_hypervolume(table: list[Row], objectives: list[dict[str, Any]]) -> float:
    """Adds up the cells of the grid that the points span, wherever one dominates the cell."""
    points = [costs(row, objectives) for row in table]
    points = [point for point in points if max(point) < 0]
    axes = [sorted({point[i] for point in points} | {0.0}) for i in range(len(objectives))]
    volume = 0.0
    for cell in product(*(list(pairwise(axis)) for axis in axes)):
        corner = [low for low, _ in cell]
        if any(all(p <= c for p, c in zip(point, corner, strict=True)) for point in points):
            volume += math.prod(high - low for low, high in cell)
    return volume


@pytest.mark.parametrize("count", [1, 2, 3])
def test_front_json_is_what_trials_csv_gives(make: Make, count: int) -> None:
    goals = [*GOALS, Objective("trainable_params", "minimize", 3e4)][:count]
    study = make(objectives=goals, shape=SHAPE)
    rng = random.Random(count)
    for number in range(14):
        trial = study.ask()
        if number == 5:
            study.fail(trial.index, "x")
        else:
            study.tell(trial.index, {"loss": rng.uniform(1, 4), "rouge_l": rng.random()})
    study.ask()
    front = json.loads(front_json(study))
    done = [row for row in rows(study) if row["status"] == "completed"]
    assert len(done) == 13
    assert [trial["trial"] for trial in front["trials"]] == brute_front(done, front["objectives"])
    expected = brute_hypervolume(done, front["objectives"])
    assert front["hypervolume"] == pytest.approx(expected, rel=1e-12)
    trace = [
        brute_hypervolume([row for row in done if int(row["trial"]) <= last], front["objectives"])
        for last in range(15)
    ]
    assert front["hypervolume_trace"] == pytest.approx(trace, rel=1e-12)


def test_the_table_has_a_line_per_trial_and_a_column_per_fact(make: Make) -> None:
    study = make(shape=SHAPE)
    tell_many(study, 4)
    study.ask()
    table = rows(study)
    assert list(table[0]) == [
        *("trial", "status", "origin", "lora_count", "lora_rank"),
        *(f"ffn_layer_{layer}" for layer in range(4)),
        *("retrieved_items", "loss", "loss_sem", "rouge_l", "rouge_l_sem", "rouge_1"),
        *("rouge_1_sem", "trainable_params", "duration_s", "failure"),
    ]
    assert [row["status"] for row in table] == [
        *("completed", "completed", "failed", "completed", "asked")
    ]
    for row, trial in zip(table, study.trials, strict=True):
        assert row["trial"] == str(trial.index)
        assert row["origin"] == "random"
        assert row["lora_rank"] == str(trial.arm["lora_rank"])
        assert row["trainable_params"] == str(study.trainable_params(trial))
    # Numbers are written so that reading gives them back bit for bit.
    assert float(table[0]["rouge_1"]) == 1 / 3
    assert (table[0]["loss_sem"], table[0]["rouge_1_sem"], table[0]["duration_s"]) == (
        *("0.01", "", "0.1"),
    )
    assert (table[2]["loss"], table[2]["failure"]) == ("", "out_of_memory: boom <script>")


def test_told_parameter_counts_stand_in_where_the_shape_is_unknown(make: Make) -> None:
    study = make()
    study.tell(study.ask().index, {"loss": 1.0, "rouge_l": 0.1, "trainable_params": 640})
    study.tell(study.ask().index, {"loss": 1.0, "rouge_l": 0.1, "trainable_params": 0.5})
    study.ask()
    assert [row["trainable_params"] for row in rows(study)] == ["640", "0.5", ""]


@pytest.mark.parametrize("start", ["=", "+", "-", "@"])
def test_text_that_a_spreadsheet_would_run_is_neutralised(make: Make, start: str) -> None:
    study = make()
    trial = study.ask()
    study.tell(trial.index, {"loss": -1.5, "rouge_l": 0.1, f"{start}m": -2.0})
    (header, row) = trials_csv(study).splitlines()
    assert f",'{start}m,'{start}m_sem," in header
    assert "-1.5" in row.split(",")  # a number is no text


def test_a_study_without_an_end_is_exported_too(make: Make) -> None:
    study = make(objectives=[Objective("loss", "minimize")])
    assert len(trials_csv(study).splitlines()) == 1
    study.ask()
    assert json.loads(front_json(study)) == {
        "objectives": [{"metric": "loss", "direction": "minimize", "reference": None}],
        "constraints": [],
        "hypervolume": None,
        "hypervolume_trace": [],
        "trials": [],
    }


def test_a_front_trial_stands_with_plan_and_test_measurements(make: Make) -> None:
    study = make()
    trial = study.ask()
    study.tell(trial.index, {"loss": Measurement(2.0, 0.1), "rouge_l": 0.5})
    study.record_test(trial.index, 0, {"loss": Measurement(2.2, 0.3), "rouge_l": 0.4})
    study.record_test(trial.index, 1, {"loss": Measurement(2.4, 0.4)})
    (front,) = json.loads(front_json(study))["trials"]
    assert front == {
        "trial": 0,
        "arm": dict(trial.arm),
        "plan": study.plan(trial.arm).as_dict(),
        "measurements": {"loss": {"mean": 2.0, "sem": 0.1}, "rouge_l": {"mean": 0.5, "sem": None}},
        "test": {
            # sqrt((0.09 + 0.16) / 2)
            "loss": {"mean": pytest.approx(2.3), "sem": pytest.approx(math.sqrt(0.125))},
            "rouge_l": {"mean": 0.4, "sem": None},
        },
        "test_seeds": {
            "0": {"loss": {"mean": 2.2, "sem": 0.3}, "rouge_l": {"mean": 0.4, "sem": None}},
            "1": {"loss": {"mean": 2.4, "sem": 0.4}},
        },
    }


def test_a_hypervolume_that_no_number_can_hold_is_null(make: Make) -> None:
    study = make(objectives=[Objective("a", "minimize", 0.0), Objective("b", "minimize", 0.0)])
    study.tell(study.ask().index, {"a": -2.0, "b": -3.0})
    study.tell(study.ask().index, {"a": -1e200, "b": -1e200})
    front = json.loads(front_json(study))
    assert (front["hypervolume"], front["hypervolume_trace"]) == (None, [6.0, None])
    assert "1.000e+200" in render_report(study)


def test_no_test_gives_no_mean() -> None:
    assert over_seeds({}) == {}


def test_export_can_be_redone_from_the_closed_study(make: Make, tmp_path: Path) -> None:
    study = make()
    tell_many(study)
    table, front = export(study)
    assert {table.parent, front.parent} == {study.folder}
    study.close()
    (tmp_path / "again").mkdir()
    with Study.open(study.folder, read_only=True) as seen:
        again = export(seen, tmp_path / "again")
    assert again[0].read_bytes() == table.read_bytes()
    assert again[1].read_bytes() == front.read_bytes()


def test_a_file_that_cannot_be_replaced_stays_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    path = write_whole(tmp_path / "f", "old")
    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(StudyError, match="No space left"):
        write_whole(path, "new")
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["f"]


def test_the_front_is_of_trials_that_keep_the_constraints(make: Make) -> None:
    study = make(constraints=["rouge_1 >= 0.3"])
    for loss, rouge_1 in ((1.0, 0.2), (2.0, 0.3), (2.5, 0.4)):
        values = {"loss": loss, "rouge_l": 0.5, "rouge_1": rouge_1}
        study.tell(study.ask().index, values)
    front = json.loads(front_json(study))
    assert front["constraints"] == [{"metric": "rouge_1", "relation": ">=", "bound": 0.3}]
    assert [trial["trial"] for trial in front["trials"]] == [1]
    assert (front["hypervolume"], front["hypervolume_trace"]) == (0.5, [0.0, 0.5, 0.5])

"""Ax experiments in and out of a study."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from milp_search.core.errors import MeasurementError, SpecError, StudyError
from milp_search.core.trial import Measurement, Objective
from milp_search.space.search_space import SearchSpace
from milp_search.study.store import EventStore, begun
from milp_search.study.study import STORE_NAME, Study
from study.making import GOALS, SHAPE, Make

pytestmark = [
    pytest.mark.slow,  # importing Ax takes seconds
    # GPyTorch scripts functions when it is imported, which Torch no longer likes.
    pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning"),
    # Ax imports modules of its own by their former names.
    pytest.mark.filterwarnings("ignore:ax.service:DeprecationWarning"),
    # Ax calls pandas in a way that pandas is about to drop.
    pytest.mark.filterwarnings("ignore:The inplace keyword in DataFrame:DeprecationWarning"),
]


def lived(make: Make) -> Study:
    """A study with a trial of each status."""
    study = make(settings={"name": "mine"})
    first, second, third, fourth, _ = study.ask_batch(5)
    study.tell(first.index, {"loss": Measurement(2.0, 0.1), "rouge_l": 0.5, "rouge_1": 0.6})
    study.fail(second.index, "x")
    study.abandon(third.index, "y")
    study.start(fourth.index)
    return study


def test_a_study_becomes_an_ax_experiment_with_all_its_trials(make: Make) -> None:
    study = lived(make)
    experiment = study.to_ax()
    assert experiment.name == "mine"
    assert {index: twin.status.name for index, twin in experiment.trials.items()} == {
        0: "COMPLETED",
        1: "FAILED",
        2: "ABANDONED",
        3: "RUNNING",
        4: "RUNNING",
    }
    for trial in study.trials:
        assert experiment.trials[trial.index].arm.parameters == dict(trial.arm)
    table = experiment.lookup_data().df.set_index("metric_name")
    assert sorted(table.index) == ["loss", "rouge_l"]
    assert (table["mean"]["loss"], table["sem"]["loss"]) == (2.0, 0.1)
    assert table["mean"]["rouge_l"] == 0.5
    assert math.isnan(table["sem"]["rouge_l"])


def test_an_ax_experiment_is_adopted_and_searched_further(make: Make, tmp_path: Path) -> None:
    study = lived(make)
    goals = [Objective("loss", "minimize"), GOALS[1]]
    with Study.adopt(
        tmp_path / "adopted",
        study.to_ax(),
        space=study.space,
        objectives=goals,
        proposer="random",
        initial_trials=3,
    ) as adopted:
        assert [trial.arm for trial in adopted.trials] == [trial.arm for trial in study.trials]
        assert [trial.plan for trial in adopted.trials] == [trial.plan for trial in study.trials]
        assert [str(trial.status) for trial in adopted.trials] == [
            *("completed", "failed", "abandoned", "running", "running")
        ]
        assert adopted.trials[0].measurements == {
            "loss": Measurement(2.0, 0.1),
            "rouge_l": Measurement(0.5),
        }
        assert {trial.origin for trial in adopted.trials} == {"ax"}
        assert adopted.objectives[0].reference is not None
        fresh = adopted.ask()
        assert fresh.plan not in [trial.plan for trial in study.trials]


def test_exact_metrics_are_filled_in_for_adopted_trials(make: Make, tmp_path: Path) -> None:
    study = lived(make)
    goals = [*GOALS, Objective("trainable_params", "minimize", 1e6)]
    with Study.adopt(
        tmp_path / "adopted", study.to_ax(), space=study.space, objectives=goals, shape=SHAPE
    ) as adopted:
        trial = adopted.trials[0]
        assert trial.measurements["trainable_params"].mean == adopted.trainable_params(trial)


def test_a_completed_trial_without_an_objective_counts_as_failed(
    make: Make, tmp_path: Path
) -> None:
    study = lived(make)
    goals = [Objective("mae", "minimize", 1.0)]
    with Study.adopt(
        tmp_path / "adopted", study.to_ax(), space=study.space, objectives=goals
    ) as adopted:
        assert adopted.trials[0].failure is not None
        assert adopted.trials[0].failure.kind == "told"


def test_an_experiment_whose_data_contradict_a_closed_form_is_refused(
    make: Make, tmp_path: Path
) -> None:
    study = lived(make)
    given: dict[str, Any] = {"space": study.space, "objectives": GOALS}
    with pytest.raises(MeasurementError, match=r"expected 0.25 for 'rouge_l', .* got 0.5"):
        Study.adopt(tmp_path / "a", study.to_ax(), exact={"rouge_l": lambda arm: 0.25}, **given)


def test_a_study_that_cannot_adopt_all_is_none(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A study without the trials would begin from nothing, and hold the folder."""
    study, costs = lived(make), [5.0, float("nan")]
    given: dict[str, Any] = {"space": study.space, "objectives": GOALS, "constraints": ["cost<=9"]}
    given |= {"exact": {"cost": lambda arm: costs.pop()}}
    with pytest.raises(MeasurementError, match="finite mean, got nan"):
        Study.adopt(tmp_path / "adopted", study.to_ax(), **given)
    assert not begun(tmp_path / "adopted" / STORE_NAME)
    costs += [5.0] * 5
    commits: list[None] = []
    append = EventStore.append
    with monkeypatch.context() as patch:
        patch.setattr(EventStore, "append", lambda *of: commits.append(append(*of)))
        with Study.adopt(tmp_path / "adopted", study.to_ax(), **given) as adopted:
            assert len(adopted.trials) == 5
    assert len(commits) == 1


def test_an_experiment_over_another_space_is_refused(
    make: Make, tmp_path: Path, space: SearchSpace
) -> None:
    experiment = lived(make).to_ax()
    other = SearchSpace("other", 4, space.dimensions[:1])
    with pytest.raises(SpecError, match="expected an arm of the space 'other'"):
        Study.adopt(tmp_path / "adopted", experiment, space=other, objectives=GOALS)
    assert not (tmp_path / "adopted").exists()


def test_a_folder_with_a_study_adopts_nothing(make: Make) -> None:
    study = lived(make)
    experiment = study.to_ax()
    study.close()
    with pytest.raises(StudyError, match="holds a study already"):
        Study.adopt(study.folder, experiment, space=study.space, objectives=GOALS)


def test_constraints_go_to_ax_and_come_back_with_their_data(make: Make, tmp_path: Path) -> None:
    study = make(constraints=["rouge_1 >= 0.5"])
    for rouge_1 in (0.4, 0.6):
        study.tell(study.ask().index, {"loss": 2.0, "rouge_l": 0.5, "rouge_1": rouge_1})
    experiment = study.to_ax()
    given: dict[str, Any] = {"space": study.space, "objectives": GOALS, "proposer": "random"}
    with Study.adopt(tmp_path / "adopted", experiment, **given) as adopted:
        assert adopted.constraints == study.constraints
        assert [trial.index for trial in adopted.front()] == [1]
    with Study.adopt(tmp_path / "free", experiment, **given, constraints=()) as free:
        assert [trial.index for trial in free.front()] == [0, 1]
    with Study.adopt(tmp_path / "other", experiment, **given, constraints=["mae <= 1"]) as other:
        assert [str(trial.status) for trial in other.trials] == ["failed", "failed"]

"""A study of metrics over parts of the users, from their measurement to the report."""

from __future__ import annotations

import csv
import json

import pytest

from milp_search.core.trial import Measurement, Objective
from milp_search.study.export import front_json, trials_csv
from milp_search.study.report import render_report
from milp_search.study.study import Study
from study.making import Make

# GPyTorch scripts functions when it is imported, which Torch no longer likes.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")

GOALS = (Objective("loss", "minimize", 3.0), Objective("loss@cvar10", "minimize", 5.0))
COLD = "rouge_l@cold_start"


@pytest.fixture
def study(make: Make) -> Study:
    """Returns a study of which the first trial is the best, but bad for cold-start users."""
    study = make(objectives=GOALS, metrics=[COLD], constraints=[f"{COLD} >= 0.1"])
    for loss, worst, cold in ((1.0, 2.0, 0.0), (2.0, 4.0, 0.5), (2.5, 3.0, 0.1)):
        study.tell(
            study.ask().index,
            {
                "loss": Measurement(loss, 0.1, (loss, loss)),
                "loss@cvar10": Measurement(worst, None, (worst,)),
                COLD: Measurement(cold, 0.1),
            },
        )
    return study


def test_the_front_is_made_by_the_parts_named(study: Study) -> None:
    assert [trial.index for trial in study.front()] == [1, 2]
    # 1: (3 - 2)(5 - 4); 2 adds (3 - 2.5)(4 - 3).
    assert study.hypervolume() == pytest.approx(1.5)


def test_their_names_are_columns_and_keys(study: Study) -> None:
    (first, *_) = csv.DictReader(trials_csv(study).splitlines())
    assert (first["loss@cvar10"], first["loss@cvar10_sem"], first[COLD]) == ("2.0", "", "0.0")
    front = json.loads(front_json(study))
    assert front["constraints"] == [{"metric": COLD, "relation": ">=", "bound": 0.1}]
    assert front["trials"][0]["measurements"]["loss@cvar10"] == {"mean": 4.0, "sem": None}


def test_the_report_shows_them(study: Study) -> None:
    page = render_report(study)
    assert "loss@cvar10" in page
    assert f"{COLD} &gt;= 0.1, broken by 1 of 3 completed trials" in page

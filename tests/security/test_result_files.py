"""A forged result file of a study's folder neither leads out of it nor stops the study."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dispatch.small_study import small_study
from milp_search.core.plan import AdapterPlan, TrialPlan
from milp_search.core.trial import Measurement, Objective
from milp_search.dispatch.jobs import Job, Outcome
from milp_search.dispatch.source import StudySource
from milp_search.space.search_space import SearchSpace, configure
from milp_search.study.spec_file import load_study_spec
from milp_search.study.study import Study

PLAN = TrialPlan("milp_logo", AdapterPlan((1, 1)))
JOB = Job("search", 0, 0, PLAN, 0).as_dict()
DONE = Outcome({"loss": Measurement(0.5, 0.1)}).as_dict()
FAR = {**JOB, "trial": 10**9}

FORGED: dict[str, Any] = {
    "a list": [],
    "nothing": None,
    "a job that is a list": {"job": [], "outcome": DONE},
    "measurements that are a list": {"job": JOB, "outcome": {**DONE, "measurements": []}},
    "reuse that is a list": {"job": JOB, "outcome": {**DONE, "reused": []}},
    "a trial that was never asked for": {"job": FAR, "outcome": DONE},
    "a test of one": {"job": {**FAR, "kind": "test"}, "outcome": DONE},
    "a trial that is a path": {"job": {**JOB, "trial": "../../evil"}, "outcome": DONE},
    "a test of a path": {"job": {**JOB, "kind": "test", "trial": "../x"}, "outcome": DONE},
    "a kind that is a path": {"job": {**JOB, "kind": "../../evil"}, "outcome": DONE},
    "a trial that is a list": {"job": {**JOB, "trial": [0]}, "outcome": DONE},
    "an infinite measurement": {
        "job": JOB,
        "outcome": {**DONE, "measurements": {"loss": {"mean": 1e999, "sem": 0, "per_user": []}}},
    },
    "no end": "[" * 10**5,
}


@pytest.mark.parametrize("kind", FORGED)
def test_it_is_left_alone(kind: str, tmp_path: Path) -> None:
    layers = SearchSpace("s", 2, configure({"lora_rank": [1, 2]}, 2))
    goal = Objective("loss", "minimize", 1.0)
    spec = load_study_spec(small_study(tmp_path), {"dispatch.local": True})
    content = FORGED[kind]
    with Study.create(
        tmp_path / "study", space=layers, objectives=[goal], proposer="random", initial_trials=1
    ) as study:
        study.start(study.ask().index, 1)
        (study.folder / "results").mkdir()
        text = content if isinstance(content, str) else json.dumps(content)
        (study.folder / "results" / "forged.json").write_text(text)
        before = sorted(path.name for path in tmp_path.rglob("*"))
        source = StudySource(study, spec)
        source.adopt()
        source.close()
        assert [trial.status.value for trial in study.trials] == ["running"]
        assert not study.state.tests
        assert sorted(path.name for path in tmp_path.rglob("*")) == before

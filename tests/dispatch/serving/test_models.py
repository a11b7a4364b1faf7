"""What is served of a trial."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapters.making import llama
from dispatch.small_study import small_study
from milp_search.core.arm import Arm
from milp_search.core.plan import AdapterPlan, TrialPlan
from milp_search.core.trial import Trial
from milp_search.dispatch.serving import models
from milp_search.dispatch.serving.answering import Answering
from milp_search.dispatch.serving.models import FrontModel
from milp_search.dispatch.worker import TrialRunner
from milp_search.personalize.reuse import run_profiles
from milp_search.study.spec_file import load_study_spec

PLAN = TrialPlan("logo_pag", AdapterPlan((0, 0, 1)), retrieved_items=0, profile=True)


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FrontModel:
    """Returns a trial with profiles, over a random base; nothing is kept for others."""
    spec = load_study_spec(small_study(tmp_path), {"dispatch.reuse": False})
    runner = TrialRunner(tmp_path, spec, (llama(), None))
    users = [target.user for target in runner.task.targets]
    monkeypatch.setattr(models, "read_manifest", lambda _: {"users": users})
    monkeypatch.setattr(models, "load_stack", lambda *_: ())
    return FrontModel(tmp_path, Trial(0, Arm({}), PLAN), runner)


def test_a_profile_is_the_one_of_the_training_however_long_an_answer_was_asked_for_before(
    model: FrontModel,
) -> None:
    run = model._run
    user, profile = run.task.targets[1].user, run_profiles(run)[1]
    for tokens in (1, 9):
        job = model.job("What tea?", user)
        assert job.examples[0].prompt == f"Profile: {profile}\n\nQuestion: What tea?\nAnswer:"
        answering = Answering(model.trainer)
        answering.ask(job, tokens).result()
        answering.close()


def test_a_request_is_put_together_without_the_model_which_is_another_threads(
    model: FrontModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def computes(*_: object) -> None:
        raise AssertionError("the model was used")

    for name in ("train", "predict", "embed"):
        monkeypatch.setattr(model.trainer, name, computes)
    model.job("What tea?", model._run.task.targets[0].user)

"""The expected cost of a study, from counts that can be worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from dispatch.small_study import small_study
from milp_search.adapters.base_model import BaseModel, load_base_model
from milp_search.core.plan import AdapterPlan, TrialPlan
from milp_search.core.records import Interaction, PersonalizationTask, UserTask
from milp_search.core.settings import TrainingSettings
from milp_search.dispatch import dry_run
from milp_search.dispatch.drive import prepare
from milp_search.dispatch.dry_run import sample_plans
from milp_search.dispatch.estimate import estimate, forward_tokens, seconds_per_token
from milp_search.space.space_file import load_search_space
from milp_search.study.spec_file import load_study_spec

PLAN = TrialPlan("milp_logo", AdapterPlan((0,) * 7 + (4,)), 2, 3, 0)


@pytest.fixture(scope="module")
def base() -> BaseModel:
    return load_base_model(device="cpu")


def task_of(base: BaseModel) -> tuple[PersonalizationTask, int]:
    """Returns a user with two training items and one query, and the tokens of each item."""
    item = Interaction("u", "what now?", "rest")
    tokens = len(base.tokenizer("what now? rest")["input_ids"])
    return PersonalizationTask("t", "text", (UserTask("u", (item, item), (item,), ()),)), tokens


def test_a_trials_work_is_counted_in_tokens_of_forward_passes(base: BaseModel) -> None:
    task, size = task_of(base)
    settings = TrainingSettings(
        injection_epochs=1, tuning_epochs=2, global_steps=5, batch_size=8, max_new_tokens=10
    )
    training = 2 * size + 2 * 2 * size + 3 * 5 * 8 * size
    answering = 2 * size + 10
    assert forward_tokens(task, PLAN, settings, base) == 3 * training + answering
    untrained = replace(PLAN, adapter=AdapterPlan((0,) * 8))
    assert forward_tokens(task, untrained, settings, base) == answering


def test_side_by_side_trials_take_their_share_of_the_time(base: BaseModel, tmp_path: Path) -> None:
    spec = load_study_spec(small_study(tmp_path, trials=6))
    task, _ = task_of(base)
    expected = estimate(spec, task, base, [PLAN])
    # 6 trials and the tests of at most 6 front trials with one seed
    assert expected.study_s == pytest.approx(12 * expected.trial_s)
    assert seconds_per_token(base) > 0


def test_sampled_plans_are_the_same_each_time() -> None:
    space = load_search_space("quickstart", layers=8)
    plans = sample_plans(space, "milp_logo", 8)
    assert plans == sample_plans(space, "milp_logo", 8)
    assert len({plan.fingerprint() for plan in plans}) > 30


def test_a_dry_run_times_the_base_on_the_device_of_the_workers(
    base: BaseModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def load(*_: object, device: str, **__: object) -> BaseModel:
        asked.append(device)
        return base

    monkeypatch.setattr(dry_run, "load_base_model", load)
    for gpus in (0.0, 1.0):
        changes = {"dispatch.device": "auto", "dispatch.gpus_per_trial": gpus}
        prepared = prepare(load_study_spec(small_study(tmp_path), changes))
        dry_run.print_dry_run(prepared, Console(quiet=True))
    assert asked == ["cpu", "auto"]

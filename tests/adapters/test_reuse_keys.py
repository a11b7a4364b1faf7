"""Which jobs are the same to a `ReusingTrainer`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.counting import JOB, PLAN, SETTINGS, adapter, trained
from adapters.making import EXAMPLES
from milp_search.adapters.jobs import Example, TrainJob
from milp_search.core.plan import AdapterPlan
from milp_search.core.settings import TrainingSettings

CHANGES: Mapping[str, Sequence[object]] = {
    "key": ["global:b", "local:a"],
    "examples": [
        EXAMPLES[:2],
        EXAMPLES[2::-1],
        (Example("ab cd ", "xyz"), *EXAMPLES[1:3]),
        (replace(EXAMPLES[0], response=" xyZ"), *EXAMPLES[1:3]),
    ],
    "plan": [AdapterPlan((1, 0, 1)), replace(PLAN, alpha_over_rank=2.0),
             replace(PLAN, target_maps="up")],
    "seed": [6],
    "epochs": [1],
    "steps": [5, None],
    "shuffle": [False],
    "below": [(), JOB.below[:1], JOB.below[::-1], (JOB.below[0], adapter(2.0000002)),
              (JOB.below[0], adapter(2.0, plan=replace(PLAN, alpha_over_rank=2.0)))],
    "start": [None, adapter(3.0000002), adapter(3.0, 3.0)],
}  # fmt: skip
SETTING_CHANGES: Mapping[str, object] = {
    "learning_rate": 2e-2, "weight_decay": 0.0, "warmup": 0.2, "batch_size": 3, "max_length": 199,
    "schedule": "constant",
}  # fmt: skip
OTHER_SETTINGS: Mapping[str, object] = {
    "injection_epochs": 7, "tuning_epochs": 7, "global_steps": 7, "base_training": "lora",
    "base_epochs": 7, "base_learning_rate": 1.0, "max_new_tokens": 7, "micro_batch": None,
    "embedding": "tfidf", "chat_template": "none",
}  # fmt: skip


def test_equal_jobs_hit_in_a_new_process(tmp_path: Path) -> None:
    equal = replace(JOB, below=(adapter(1.0, key="x"), adapter(2.0)), start=adapter(3.0, key="y"))
    assert (trained(tmp_path, JOB), trained(tmp_path, equal)) == (1, 0)


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in CHANGES.items() for value in values]
)
def test_any_other_content_of_a_job_misses(tmp_path: Path, name: str, value: object) -> None:
    trained(tmp_path, JOB)
    assert trained(tmp_path, replace(JOB, **{name: value})) == 1  # type: ignore[arg-type]


# Per field the job's own value and the others, to be chosen freely.
CHOICES = st.fixed_dictionaries(
    {name: st.integers(0, len(values)) for name, values in CHANGES.items()}
)


def chosen(places: Mapping[str, int]) -> TrainJob:
    changes = {name: CHANGES[name][place - 1] for name, place in places.items() if place}
    return replace(JOB, **changes)  # type: ignore[arg-type]


@given(one=CHOICES, data=st.data())
def test_jobs_hit_if_and_only_if_all_fields_are_equal(
    tmp_path_factory: pytest.TempPathFactory, one: dict[str, int], data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("cache")
    kept = data.draw(st.sets(st.sampled_from(sorted(CHANGES)), min_size=len(CHANGES) - 2))
    other = {**data.draw(CHOICES), **{name: one[name] for name in kept}}
    trained(folder, chosen(one))
    assert trained(folder, chosen(other)) == (one != other)


@pytest.mark.parametrize(("name", "value"), SETTING_CHANGES.items())
def test_any_other_setting_of_training_misses(tmp_path: Path, name: str, value: object) -> None:
    trained(tmp_path, JOB)
    other = replace(SETTINGS, **{name: value})  # type: ignore[arg-type]
    assert trained(tmp_path, JOB, settings=other) == 1


@pytest.mark.parametrize(("name", "value"), OTHER_SETTINGS.items())
def test_settings_of_other_stages_and_the_micro_batch_hit(
    tmp_path: Path, name: str, value: object
) -> None:
    trained(tmp_path, JOB)
    other = replace(SETTINGS, **{name: value})  # type: ignore[arg-type]
    assert trained(tmp_path, JOB, settings=other) == 0


def test_another_base_misses(tmp_path: Path) -> None:
    trained(tmp_path, JOB)
    assert trained(tmp_path, JOB, base="other") == 1


def test_every_field_of_a_job_and_every_setting_is_known_to_matter_or_not() -> None:
    assert {field.name for field in fields(TrainJob)} == {*CHANGES, "reusable"}
    assert {field.name for field in fields(TrainingSettings)} == {
        *SETTING_CHANGES,
        *OTHER_SETTINGS,
    }


TEXTS = st.lists(st.text(alphabet='a"[],\\ \n', max_size=3), max_size=3)


def texts_job(texts: Sequence[str]) -> TrainJob:
    return replace(JOB, examples=tuple(Example(text, "") for text in ("x", *texts)))


@given(one=TEXTS, other=TEXTS)
def test_jobs_hit_if_and_only_if_their_texts_are_equal(
    tmp_path_factory: pytest.TempPathFactory, one: list[str], other: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("cache")
    trained(folder, texts_job(one))
    assert trained(folder, texts_job(other)) == (one != other)

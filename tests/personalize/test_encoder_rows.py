"""Every method that needs no text of the base answers a task of labels with an encoder."""

from __future__ import annotations

import math

import pytest

from adapters.encoders import LABELS, encoder, film_kinds
from milp_search.adapters.encoder_trainer import EncoderTrainer
from milp_search.core.methods import METHODS
from milp_search.core.plan import AdapterPlan
from milp_search.core.records import Interaction, PersonalizationTask, UserTask
from milp_search.core.settings import TrainingSettings
from milp_search.metrics.labels import accuracy
from milp_search.personalize.method import Run
from milp_search.personalize.run import answer, train
from personalize.making import plan

SETTINGS = TrainingSettings(batch_size=4, global_steps=2, tuning_epochs=1, max_length=60)
ROWS = [name for name, traits in METHODS.items() if not traits.needs_decoder]


def user_task(number: int) -> UserTask:
    user = f"u{number}"
    items = tuple(
        Interaction(user, film, kind, 10.0 * place + number)
        for place, (film, kind) in enumerate(film_kinds(number, 9))
    )
    return UserTask(user, items[:5], items[5:7], items[7:])


TASK = PersonalizationTask("films", "classification", tuple(map(user_task, range(3))), (), LABELS)
TRAINER = EncoderTrainer(encoder(layers=2), SETTINGS, TASK.choices)


@pytest.mark.parametrize("method", ROWS)
def test_a_method_answers_with_labels(method: str) -> None:
    run = Run(TASK, plan(method, AdapterPlan((1, 2))), TRAINER, SETTINGS, 0)
    found = answer(run, train(run), "validation", generate=True)
    assert len(found.items) == 6
    assert {item.generated for item in found.items} <= {*LABELS}
    assert all(math.isfinite(item.loss) for item in found.items)
    right = sum(item.generated == item.reference for item in found.items)
    assert accuracy(found).mean == pytest.approx(right / 6)


def test_whole_ratings_are_the_choices_of_a_rating_task() -> None:
    rated = PersonalizationTask("films", "rating", (), rating_range=(0.5, 3.0))
    assert rated.choices == ("1", "2", "3")
    assert PersonalizationTask("films", "text", ()).choices == ()

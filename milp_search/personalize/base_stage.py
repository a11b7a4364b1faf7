"""What the base learns before personalisation: the texts of users who are no targets."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from milp_search.adapters.jobs import Example
from milp_search.core.records import PersonalizationTask
from milp_search.core.settings import TrainingSettings
from milp_search.personalize.retrieval import injection_examples, training_examples


def base_examples(task: PersonalizationTask) -> tuple[Example, ...]:
    """Returns the examples of the base stage: every text once plain, once as query and response.

    The queries of a user come with 0, 1 and 2 retrieved items in turn, so that the base learns to
    answer with and without them.

    Source: LoGo, App. B.2 (who trains the base); the mixture is ours.
    """
    examples: list[Example] = []
    for user in task.others:
        by_count = [training_examples(user.interactions, k) for k in range(3)]
        examples += [by_count[i % 3][i] for i in range(len(user.interactions))]
        examples += injection_examples(user.interactions)
    return tuple(examples)


def base_stage_key(
    base_fingerprint: str,
    task: PersonalizationTask,
    settings: TrainingSettings,
    seed: int,
    reading: Sequence[Any] = (),
) -> str:
    """Returns 16 hex digits over everything that decides the result of the base stage.

    `reading` is what else decides how the base reads a text; none is plain text, to be continued.
    """
    texts = [[(i.query, i.response) for i in user.interactions] for user in task.others]
    relevant = {
        name: value
        for name, value in asdict(settings).items()
        if name.startswith("base_")
        or name in ("batch_size", "weight_decay", "warmup", "max_length")
    }
    if settings.schedule != "linear":
        relevant["schedule"] = settings.schedule
    if reading:
        relevant["reading"] = [*reading]
    content = json.dumps([base_fingerprint, texts, relevant, seed], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]

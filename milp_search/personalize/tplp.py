"""TpLP: the whole history in the prompt, nothing trained."""

from __future__ import annotations

from collections.abc import Sequence

from milp_search.adapters.jobs import Answer, Example, PredictJob
from milp_search.adapters.prompt import answer_text, prompt_text
from milp_search.core.records import Interaction, UserTask
from milp_search.personalize.method import Run, Trained


def tplp(run: Run) -> Trained:
    """Returns no adapter; each query is answered with its user's training history before it.

    The history stands in chronological order; what exceeds `max_length` is cut from its oldest
    end, as the paper's prompts must be where a history is longer than the model's window (it says
    nothing of how).

    Source: MiLP, section 3.2 (the text-prompt baseline).
    """
    users = run.task.targets

    def respond(queries: Sequence[Sequence[Interaction]], generate: bool) -> list[list[Answer]]:
        jobs = [
            PredictJob(tuple(_example(user, one) for one in asked), (), generate)
            for user, asked in zip(users, queries, strict=True)
        ]
        return run.trainer.predict(jobs)

    return Trained({user.user: () for user in users}, respond)


def _example(user: UserTask, item: Interaction) -> Example:
    earlier = [(one.query, one.response) for one in user.history]
    return Example(prompt_text(item.query, earlier), answer_text(item.response))

"""Profiles in words: what a user is like, summed up by the base model from the history (PAG)."""

from __future__ import annotations

from collections.abc import Sequence

from milp_search.adapters.jobs import AdapterTrainer, Example, PredictJob
from milp_search.adapters.prompt import item_text
from milp_search.core.records import UserTask

_REQUEST = "In a few sentences, describe this person's interests and style of writing.\nSummary:"


def profile_texts(users: Sequence[UserTask], trainer: AdapterTrainer) -> list[str]:
    """Returns a summary of each user's training history, written by the base model alone.

    The whole history stands in the prompt, oldest first; what is too long loses its oldest part.
    The papers prompt an instruction-tuned model for it and give no wording; this one is ours.

    Source: Richardson et al. 2023 (PAG), as used in LoGo, section 4 (the +PAG rows).
    """
    jobs = [PredictJob((Example(profile_prompt(user), ""),), (), generate=True) for user in users]
    return [" ".join((answers[0].generated or "").split()) for answers in trainer.predict(jobs)]


def profile_prompt(user: UserTask) -> str:
    """Returns what the base model is asked, the user's training history included."""
    items = "".join(f"{item_text(item.query, item.response)}\n\n" for item in user.history)
    return f"{items}{_REQUEST}"

"""Judges of responses: a chat model, and an offline one for machines without.

Source: MiLP, section 4.1 (win rate): point-wise scores against the user's content.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import final

from milp_search.core.chat import ChatModel, ChatRequest, Message
from milp_search.core.judged import HIGHEST, LOWEST, Case
from milp_search.core.records import Interaction
from milp_search.personalize.chat_prompts import Prompts, fenced
from milp_search.personalize.retrieval import words

# A number alone, as the prompt asks for; nothing is guessed out of sentences.
_SCORE = re.compile(r"\s*(10|[1-9])(?:\s*/\s*10)?\s*\.?\s*")

# ours: room for a number, and for a judge that begins with a space or a mark.
_ANSWER_TOKENS = 8
_CHARACTERS = 12_000


@final
class ChatJudge:
    """A chat model as the judge; it sees one response at a time and not whose it is."""

    def __init__(self, name: str, model: ChatModel, prompts: Prompts):
        self.name, self._model, self._prompts = name, model, prompts

    def scores(self, cases: list[Case], *, swapped: bool = False) -> list[int | None]:
        """Returns the scores, None where the answer is not a number from 1 to 10 alone."""
        prompt = "judge_swapped" if swapped else "judge"
        replies = self._model.ask([
            ChatRequest(
                (Message("user", self._prompts.filled(
                    prompt, content=fenced(case.content), query=fenced(case.query),
                    response=fenced(case.response),
                )),),
                max_tokens=_ANSWER_TOKENS,
            )
            for case in cases
        ])  # fmt: skip
        return [parsed_score(reply.text) for reply in replies]


@final
class OfflineJudge:
    """Counts words that response and content share: the same on every machine, and no opinion.

    The score is 1 plus nine times the F1 of the words' multisets, rounded to the nearest.
    """

    name = "offline word overlap (no model)"

    def scores(self, cases: list[Case], *, swapped: bool = False) -> list[int | None]:
        """Returns the scores; the order of the parts does not matter to it."""
        return [_overlap_score(case) for case in cases]


def parsed_score(text: str) -> int | None:
    """Returns the score that a judge's answer is, None where it is anything else."""
    found = _SCORE.fullmatch(text)
    return int(found[1]) if found else None


def content_of(history: Sequence[Interaction]) -> str:
    """Returns what a user wrote, oldest first; of more than 12,000 characters the latest."""
    return "\n\n".join(f"{item.query}\n{item.response}" for item in history)[-_CHARACTERS:]


def _overlap_score(case: Case) -> int:
    content, response = Counter(words(case.content)), Counter(words(case.response))
    shared = sum((content & response).values())
    total = sum(content.values()) + sum(response.values())
    share = 2 * shared / total if total else 0.0
    return LOWEST + round((HIGHEST - LOWEST) * share)

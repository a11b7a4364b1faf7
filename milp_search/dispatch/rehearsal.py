"""What a study of a model behind an endpoint will ask, without asking."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

from milp_search.core.chat import ChatReply, ChatRequest
from milp_search.core.plan import TrialPlan
from milp_search.core.records import PersonalizationTask
from milp_search.personalize.chat import ChatRun, chat_predictions
from milp_search.personalize.chat_prompts import load_prompts
from milp_search.personalize.run import queries_of
from milp_search.study.spec import StudySpec

_CHARACTERS = 4  # ours: of a token, as common tokenizers cut English
_EXPECTED_FRONT = 8  # ours: as `estimate` has it


@dataclass(frozen=True)
class Questions:
    """What a study is expected to ask.

    Attributes:
        questions: Of a typical trial.
        prompt_tokens: Of a typical trial.
        answer_tokens: Of a typical trial, all answers as long as they may be.
        runs: How many trials and final tests there will be.
    """

    questions: float
    prompt_tokens: float
    answer_tokens: float
    runs: int

    @property
    def tokens(self) -> float:
        """Of a typical trial, prompts and answers."""
        return self.prompt_tokens + self.answer_tokens

    @property
    def study_prompt_tokens(self) -> float:
        """Of the whole study."""
        return self.prompt_tokens * self.runs

    @property
    def study_answer_tokens(self) -> float:
        """Of the whole study."""
        return self.answer_tokens * self.runs

    @property
    def study_tokens(self) -> float:
        """Of the whole study, prompts and answers."""
        return self.tokens * self.runs


def rehearse(spec: StudySpec, task: PersonalizationTask, plans: Sequence[TrialPlan]) -> Questions:
    """Returns what the study is expected to ask.

    Args:
        spec: The study.
        task: Its data.
        plans: Samples of its space.

    Returns:
        The mean over the plans, of whose questions each counts once.
    """
    prompts = load_prompts(None if spec.prompts is None else Path(spec.prompts))
    queries = [queries_of(user, "validation") for user in task.targets]
    questions = prompt = answer = 0
    for plan in plans:
        model = _Rehearsing()
        tokens = spec.training.max_new_tokens
        chat_predictions(ChatRun(task, plan, model, prompts, tokens, spec.seed), queries)
        questions += len(model.asked)
        prompt += sum(_tokens(one) for one in model.asked)
        answer += sum(one.max_tokens for one in model.asked)
    count = len(plans)
    tests = min(_EXPECTED_FRONT, spec.budget.trials) * len(spec.test_seeds)
    runs = spec.budget.trials + tests
    return Questions(questions / count, prompt / count, answer / count, runs)


@final
class _Rehearsing:
    """A model that answers each question otherwise, as long as it may, in words of no meaning."""

    def __init__(self) -> None:
        self.asked: dict[ChatRequest, ChatReply] = {}

    def ask(self, requests: list[ChatRequest]) -> list[ChatReply]:
        for one in requests:
            text = f"{len(self.asked)} " * one.max_tokens
            reply = ChatReply(text[: one.max_tokens * _CHARACTERS], 0, one.max_tokens)
            self.asked.setdefault(one, reply)
        return [self.asked[one] for one in requests]


def _tokens(request: ChatRequest) -> int:
    return sum(len(turn.content) for turn in request.messages) // _CHARACTERS

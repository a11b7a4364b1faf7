"""Chat models whose answers are easy to work out by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from milp_search.core.chat import ChatReply, ChatRequest


@dataclass
class FakeChat:
    """A `ChatModel`; `asked` are the prompts, in calls. Ten tokens a question, one an answer."""

    reply: Callable[[str], str] = lambda prompt: "noted"
    asked: list[list[str]] = field(default_factory=list)
    limits: list[int] = field(default_factory=list)

    def ask(self, requests: list[ChatRequest]) -> list[ChatReply]:
        prompts = [request.messages[-1].content for request in requests]
        self.asked.append(prompts)
        self.limits += [request.max_tokens for request in requests]
        return [ChatReply(self.reply(prompt), 10, 1) for prompt in prompts]

    @property
    def prompts(self) -> list[str]:
        """All prompts, in order."""
        return [prompt for call in self.asked for prompt in call]


def between(prompt: str, mark: str) -> str:
    """Returns what stands between a mark's first opening and its last closing."""
    return prompt.partition(f"<{mark}>")[2].rpartition(f"</{mark}>")[0].strip()

"""What is asked of a chat model and what it answers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Protocol

from milp_search.core.errors import InputError


@dataclass(frozen=True)
class Message:
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True)
class ChatRequest:
    """One question to a chat model; equal requests have one answer.

    Attributes:
        messages: The conversation so far.
        max_tokens: The most tokens that the answer may have.
        temperature: How random the answer is; 0 is greedy, as far as the server can.
        seed: Asked of the server where it is not None; some heed it.
        sample: Tells apart several answers to one question.
    """

    messages: tuple[Message, ...]
    max_tokens: int
    temperature: float = 0.0
    seed: int | None = None
    sample: int = 0


@dataclass(frozen=True)
class ChatReply:
    """An answer and what it took.

    Attributes:
        text: The answer.
        prompt_tokens: Tokens of the conversation, by the server's count.
        completion_tokens: Tokens of the answer, by the server's count.
        paid: Whether whoever asks paid for it, now or before an interruption; False where the
            answer was kept from what others asked.
        counted: Whether the server counted; where it did not, both counts are upper bounds.
    """

    text: str
    prompt_tokens: int
    completion_tokens: int
    paid: bool = True
    counted: bool = True


def counted_tokens(replies: Iterable[ChatReply]) -> int | None:
    """Returns the tokens of questions and answers, None where a server did not count them."""
    counts = [
        reply.prompt_tokens + reply.completion_tokens if reply.counted else None
        for reply in replies
    ]
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None


class ChatModel(Protocol):
    """Answers questions, many at a time."""

    def ask(self, requests: list[ChatRequest]) -> list[ChatReply]:
        """Returns one reply per request, in order.

        Raises EndpointError where one of them cannot be had, QuestionRefused where that is its
        own fault.
        """
        ...


class EndpointError(InputError):
    """A chat model that cannot be asked; the message quotes neither prompts nor keys.

    No trial is at fault: the study stops, and goes on when it is resumed.
    """


class QuestionRefused(EndpointError):
    """A question that the server refuses while it answers others: one that is too long, say."""


class BudgetExhausted(EndpointError):
    """The next question might cost more tokens than the budget still has."""

"""How a query, retrieved items and an answer become text; the one place that decides it."""

from __future__ import annotations

from collections.abc import Sequence

_CUE = "\nAnswer:"


def item_text(query: str, response: str) -> str:
    """Returns one past exchange as it stands in prompts and in memory injection."""
    return f"Question: {query}\nAnswer: {response}"


def prompt_text(query: str, earlier: Sequence[tuple[str, str]] = (), profile: str = "") -> str:
    """Returns the prompt up to where the answer begins.

    The profile text (PAG; empty for none) stands on top, then the retrieved (query, response)
    pairs in the order given, then the query.
    """
    head = f"Profile: {profile}\n\n" if profile else ""
    items = "".join(f"{item_text(*pair)}\n\n" for pair in earlier)
    return f"{head}{items}Question: {query}{_CUE}"


def answer_text(response: str) -> str:
    """Returns the answer as it follows the prompt; its tokens are the supervised ones."""
    return f" {response}"


def user_turn(prompt: str) -> str:
    """Returns a prompt as the user says it in a chat, which needs no cue for the answer."""
    return prompt.removesuffix(_CUE)


def assistant_turn(answer: str) -> str:
    """Returns an answer as the assistant says it in a chat: without the space after a cue."""
    return answer.removeprefix(" ")

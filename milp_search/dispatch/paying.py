"""What a job's answers cost, in tokens and money, by the servers' counts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import final

from milp_search.core.chat import ChatModel, ChatReply, ChatRequest
from milp_search.core.settings import EndpointSettings
from milp_search.core.trial import Measurement
from milp_search.dispatch import folders
from milp_search.endpoint.token_budget import Spent, TokenBudget
from milp_search.study.spec import StudySpec

TOKENS, MONEY = "paid_tokens", "paid_money"
OF_JUDGE = "judge_"

PAID = (TOKENS, MONEY, OF_JUDGE + TOKENS, OF_JUDGE + MONEY)
"""What jobs tell of their costs, in the order in which it is shown."""


@final
class Metered:
    """A `ChatModel` that counts what one job paid for.

    Args:
        model: Answers, and marks what this job paid for.
        settings: The prices.
        prefix: Goes before the names of what was counted.
    """

    def __init__(self, model: ChatModel, settings: EndpointSettings, prefix: str = ""):
        self._model, self._settings, self._prefix = model, settings, prefix
        self._seen: set[ChatRequest] = set()
        self._prompt = self._answer = 0

    def ask(self, requests: list[ChatRequest]) -> list[ChatReply]:
        """Asks the model; a question counts once, however often it is asked."""
        replies = self._model.ask(requests)
        for request, reply in zip(requests, replies, strict=True):
            if reply.paid and request not in self._seen:
                self._seen.add(request)
                self._prompt += reply.prompt_tokens
                self._answer += reply.completion_tokens
        return replies

    def paid(self) -> Mapping[str, Measurement]:
        """Returns the tokens, and the money where prices are known."""
        money = self._settings.money(self._prompt, self._answer)
        found = {TOKENS: float(self._prompt + self._answer)}
        found |= {} if money is None else {MONEY: money}
        return {self._prefix + name: Measurement(value, 0.0) for name, value in found.items()}


def book_lost(folder: Path) -> None:
    """Books what questions of workers that are no more may have cost a study in this folder."""
    for path in (folder / folders.TOKENS, folder / folders.JUDGE_TOKENS):
        if path.exists():
            TokenBudget(path).book_held()


def account_lines(folder: Path, spec: StudySpec) -> list[str]:
    """Returns what the study used so far, a line for each server that it asks; none before."""
    servers = (
        ("tokens", spec.endpoint, folder / folders.TOKENS),
        ("judge's tokens", spec.judge, folder / folders.JUDGE_TOKENS),
    )
    return [
        f"{what}: {_used_text(TokenBudget(path).spent(), server)}"
        for what, server, path in servers
        if server is not None and path.exists()
    ]


def _used_text(spent: Spent, server: EndpointSettings) -> str:
    limit = "" if server.token_budget is None else f" of {server.token_budget:,}"
    parts = [f"{spent.prompt:,} prompt", f"{spent.completion:,} answers"]
    if spent.unknown:
        parts.append(f"at most {spent.unknown:,} of answers that never came")
    return f"{spent.total:,}{limit} ({', '.join(parts)}); {_money_text(spent, server)}"


def _money_text(spent: Spent, server: EndpointSettings) -> str:
    known = server.money(spent.prompt, spent.completion)
    if known is None:
        return "money unknown, no prices given"
    # Nobody knows which part of it was prompt.
    more = max(server.money(spent.unknown, 0) or 0, server.money(0, spent.unknown) or 0)
    upper = f" to {known + more:.4f}" if more else ""
    return f"{known:.4f}{upper} {server.currency}"


def paid_metrics(spec: StudySpec, *, judged: bool) -> list[str]:
    """Returns what the study's jobs tell of their costs.

    Args:
        spec: The study.
        judged: Whether a model judges answers.

    Returns:
        The names.
    """
    servers = [("", spec.endpoint), (OF_JUDGE, spec.judge if judged else None)]
    return [
        prefix + name
        for prefix, server in servers
        if server is not None
        for name in (TOKENS, MONEY)
        if name != MONEY or server.money(0, 0) is not None
    ]

"""A bound on the tokens of a study, kept by all its workers together and over its interruptions.

Before a question is put, the most that it can cost is set aside; afterwards what it did cost is
booked. So the bound holds whatever the answers are. Where a question was put and no answer came, by
a cut connection or a killed worker, the server may count it all the same: what was set aside is
booked.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from milp_search.core.chat import BudgetExhausted, ChatReply
from milp_search.core.whole_file import put_whole


@dataclass(frozen=True)
class Spent:
    """What was used so far.

    Attributes:
        prompt: Prompt tokens, by the server's count.
        completion: Answer tokens, by the server's count.
        unknown: Tokens that the server may have counted for answers that never came, at most.
    """

    prompt: int = 0
    completion: int = 0
    unknown: int = 0

    @property
    def total(self) -> int:
        """All of it."""
        return self.prompt + self.completion + self.unknown


@final
class TokenBudget:
    """The account of a study.

    Args:
        path: The file that holds it.
        limit: The most tokens in all; None only counts.
    """

    def __init__(self, path: Path, limit: int | None = None):
        self.path, self.limit = path, limit

    def spent(self) -> Spent:
        """Returns what was booked so far; changes nothing, so that anyone may look."""
        return Spent(**json.loads(self._read())["spent"])

    def set_aside(self, tokens: int, *, last: bool = False) -> str | None:
        """Sets tokens aside, without waiting.

        Args:
            tokens: The most that the next question can cost.
            last: Whether nobody will ask again.

        Returns:
            The name under which `book` ends it; None while others hold so many that it has to
            wait for them.

        Raises:
            BudgetExhausted: So many are not left, or not `last`.
        """
        with self._account() as account:
            _book_dead(account)
            others = sum(held["tokens"] for held in account["held"].values())
            used = Spent(**account["spent"]).total
            if self.limit is None or used + others + tokens <= self.limit:
                name = secrets.token_hex(8)
                account["held"][name] = {
                    "tokens": tokens, "host": socket.gethostname(), "pid": os.getpid()
                }  # fmt: skip
                return name
        if used + tokens > self.limit or last:
            held = f"{others} are set aside, " if others else ""
            raise BudgetExhausted(
                f"the token budget is used up: {used} of {self.limit} tokens are booked, {held}and "
                f"the next question may take {tokens}",
                remedy="Raise endpoint.token_budget in the study's study.yaml, then resume it.",
            )
        return None

    def book(self, name: str, reply: ChatReply | None, *, counted: bool = True) -> None:
        """Books what a question cost, in place of what was set aside for it.

        Args:
            name: From `set_aside`.
            reply: The answer; None where none came.
            counted: Without an answer: whether the server may have counted the question.
        """
        with self._account() as account:
            held, spent = account["held"].pop(name, None), account["spent"]
            if held is None:
                return  # booked by `book_held`, at most
            if reply is not None:
                spent["prompt"] += reply.prompt_tokens
                spent["completion"] += reply.completion_tokens
            elif counted:
                spent["unknown"] += held["tokens"]

    def book_held(self) -> None:
        """Books all that is set aside; call it while nobody who did so is at work any more.

        Of a process of another machine only its driver knows that it is dead.
        """
        with self._account() as account:
            for held in account["held"].values():
                account["spent"]["unknown"] += held["tokens"]
            account["held"].clear()

    @contextmanager
    def _account(self) -> Iterator[dict[str, Any]]:
        """Yields the account, which nobody else changes meanwhile; changes are written back."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        lock = os.open(self.path.with_suffix(".lock"), flags, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            before = self._read()
            account = json.loads(before)
            yield account
            after = json.dumps(account)
            if after != before:
                put_whole(self.path, after)
        finally:
            os.close(lock)

    def _read(self) -> str:
        try:
            return self.path.read_text(encoding="utf-8")
        except FileNotFoundError:
            none = {"prompt": 0, "completion": 0, "unknown": 0}
            return json.dumps({"spent": none, "held": {}})


def _book_dead(account: dict[str, Any]) -> None:
    """Books what processes of this machine had set aside that are no more."""
    for name, held in [*account["held"].items()]:
        if held["host"] == socket.gethostname() and not _alive(held["pid"]):
            account["spent"]["unknown"] += held["tokens"]
            del account["held"][name]


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True

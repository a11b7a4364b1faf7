"""Asks a chat model behind an OpenAI-compatible server; see `EndpointSettings`."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar, final
from urllib.parse import urlsplit

import openai

from milp_search.core.chat import ChatReply, ChatRequest, EndpointError, QuestionRefused
from milp_search.core.errors import InputError
from milp_search.core.heartbeat import beat
from milp_search.core.settings import EndpointSettings
from milp_search.endpoint.key import api_key
from milp_search.endpoint.patience import wait_s
from milp_search.endpoint.response_cache import ResponseCache, request_key
from milp_search.endpoint.token_budget import TokenBudget

# A token holds at least a byte of text; a turn has a few marks of its own besides.
_TURN_TOKENS = 16
# ours: what a server's template adds, such as a system prompt; known ones take 20 to 100.
_TEMPLATE_TOKENS = 128

# What putting the same question again may mend (RFC 9110: timeout, conflict, too early, too many).
_PASSING = frozenset({408, 409, 425, 429, *range(500, 600)})
# What a server may say of a question that is too long, or against its rules; and of any question
# where it is set up otherwise than we ask.
_OF_QUESTION = frozenset({400, 413, 422})
_SHORT = "Hello."
_ACCOUNT = "the account of tokens"
_POLL_S = 0.1
# ours: how long to wait for others to book what they set aside.
_PATIENCE_S = 600.0

URL_VARIABLE = "OPENAI_BASE_URL"

_logger = logging.getLogger(__name__)

T = TypeVar("T")


class Storing(Protocol):
    """Calls what stores something in a folder, and knows what to do where the disk is full."""

    def __call__(self, write: Callable[[], T], what: str, folder: Path) -> T:
        """Returns what `write` returned."""
        ...


def at_once(write: Callable[[], T], what: str, folder: Path) -> T:
    """Stores without waiting for space."""
    return write()


class NoEndpoint(InputError):
    """A study file that names no server that can be asked."""


@dataclass(frozen=True)
class _Trouble:
    """Why an attempt came to nothing.

    Attributes:
        what: In a few words of ours.
        passing: Whether another attempt may do better.
        counted: Whether the server may have counted its tokens.
        headers: The server's, names in lower case.
        of_question: Whether another question may do better.
    """

    what: str
    passing: bool
    counted: bool
    headers: Mapping[str, str]
    of_question: bool = False


@final
class Endpoint:
    """A `ChatModel` that keeps its answers, and stays within a budget.

    Args:
        settings: The server and how hard it may be asked.
        cache: Where answers are kept.
        budget: What all workers of the study may spend together.
        payer: Who asks; stands beside each answer, so that what a trial paid for before it was
            killed is its own when it is run again.
        storing: Waits, or does not, where the disk is full.
    """

    def __init__(
        self,
        settings: EndpointSettings,
        cache: ResponseCache,
        budget: TokenBudget,
        payer: str | None = None,
        storing: Storing = at_once,
    ):
        self.settings, self.cache, self.budget, self.payer = settings, cache, budget, payer
        self._storing = storing
        self._url = server_url(settings)

    def ask(self, requests: list[ChatRequest]) -> list[ChatReply]:
        """Asks for what is not kept, several questions at once.

        Args:
            requests: The questions; equal ones are one.

        Returns:
            One reply per request, in order.

        Raises:
            EndpointError: The server is out of order or refuses; what was answered is kept.
            QuestionRefused: It refuses a question and answers a short one; the same.
            BudgetExhausted: The next question might exceed the budget; the same.
        """
        keys = [request_key(self.settings.model, request) for request in requests]
        wanted = dict(zip(keys, requests, strict=True))
        found = {key: reply for key in wanted if (reply := self._kept(key)) is not None}
        missing = {key: request for key, request in wanted.items() if key not in found}
        if missing:
            found |= asyncio.run(self._ask_all(missing))
        return [found[key] for key in keys]

    async def _ask_all(self, missing: Mapping[str, ChatRequest]) -> dict[str, ChatReply]:
        """Asks until all is answered or the first failure; what is under way then ends first."""
        limit, failures = asyncio.Semaphore(self.settings.concurrency), list[Exception]()
        found: dict[str, ChatReply] = {}

        async def ask(key: str, request: ChatRequest) -> None:
            async with limit:
                if failures:
                    return
                try:
                    found[key] = await self._once(server, key, request)
                except Exception as error:  # raised below, when the others have ended
                    failures.append(error)

        # The library's own retries could not be accounted for.
        async with openai.AsyncOpenAI(
            api_key=api_key(self.settings),
            base_url=self._url,
            max_retries=0,
            timeout=self.settings.time_limit_s,
        ) as server:
            await asyncio.gather(*(ask(key, request) for key, request in missing.items()))
        if failures:
            raise failures[0]
        return found

    async def _once(self, server: openai.AsyncOpenAI, key: str, request: ChatRequest) -> ChatReply:
        """Returns the answer to a question that another process may be asking just now."""
        while True:
            async with self._asking(key) as free:
                kept = self._kept(key)
                if kept is not None:
                    return kept
                if free:
                    return await self._answered(server, request, key)
            beat()
            await asyncio.sleep(_POLL_S)

    @asynccontextmanager
    async def _asking(self, key: str) -> AsyncIterator[bool]:
        with ExitStack() as stack:
            yield await self._stored(
                lambda: stack.enter_context(self.cache.asking(key)),
                "the lock of a question",
                self.cache.folder,
            )

    async def _stored(self, write: Callable[[], T], what: str, folder: Path) -> T:
        """Stores in another thread: answers under way must not time out while one waits."""
        return await asyncio.to_thread(self._storing, write, what, folder)

    def _kept(self, key: str) -> ChatReply | None:
        return self.cache.get(key, self.payer)

    async def _answered(
        self, server: openai.AsyncOpenAI, request: ChatRequest, key: str
    ) -> ChatReply:
        """Returns the answer to a question that nobody else asks."""
        answer = await self._tried(server, request, key)
        if isinstance(answer, ChatReply):
            return answer
        if answer.of_question and await self._answers_short(server, request):
            raise QuestionRefused(
                f"expected {self.settings.model} to answer every question, got: {answer.what}; "
                "it answers a short one",
                remedy="Let the server take longer prompts, or make those of the study shorter.",
            )
        raise EndpointError(
            f"expected an answer of {self.settings.model} at {self._url}, got: {answer.what}",
            remedy="What was answered is kept. Look after the server, then resume the study.",
        )

    async def _answers_short(self, server: openai.AsyncOpenAI, request: ChatRequest) -> bool:
        """Returns whether a question that differs in its texts only is answered just now."""
        turns = tuple(replace(turn, content=_SHORT) for turn in request.messages)
        short = replace(request, messages=turns)
        return isinstance(await self._tried(server, short), ChatReply)

    async def _tried(
        self, server: openai.AsyncOpenAI, request: ChatRequest, key: str | None = None
    ) -> ChatReply | _Trouble:
        """Returns the answer, kept under the key, or what came of the last attempt."""
        most = most_tokens(request)
        trouble = None
        for attempt in range(self.settings.attempts):
            name = await self._set_aside(most)
            reply, counted = None, True
            try:
                reply = await self._attempt(server, request, most)
            except _TROUBLES as error:
                trouble = _trouble(error)
                counted = trouble.counted
            else:
                if key is not None:
                    put = partial(self.cache.put, key, reply, self.payer)
                    await self._stored(put, "an answer", self.cache.folder)
            finally:
                book = partial(self.budget.book, name, reply, counted=counted)
                await self._stored(book, _ACCOUNT, self.budget.path.parent)
            beat()
            if reply is not None:
                return reply
            assert trouble is not None
            pause_s = wait_s(trouble.headers, attempt, random.random())
            if not trouble.passing or pause_s > self.settings.longest_wait_s:
                break
            _logger.info("attempt %d: %s; again in %.1f s", attempt, trouble.what, pause_s)
            if attempt + 1 < self.settings.attempts:
                await _paused(pause_s)
        assert trouble is not None
        return replace(trouble, what=f"{trouble.what}, after {attempt + 1} attempts")

    async def _set_aside(self, most: int) -> str:
        """Sets tokens aside, waiting for those of others; no thread waits, which others need."""
        end = time.monotonic() + _PATIENCE_S
        while True:
            last = time.monotonic() > end
            aside = partial(self.budget.set_aside, most, last=last)
            name = await self._stored(aside, _ACCOUNT, self.budget.path.parent)
            if name is not None:
                return name
            beat()
            await asyncio.sleep(_POLL_S)

    async def _attempt(
        self, server: openai.AsyncOpenAI, request: ChatRequest, most: int
    ) -> ChatReply:
        more: dict[str, Any] = {} if request.seed is None else {"seed": request.seed}
        more[self.settings.limit_name] = request.max_tokens
        turns: Any = [{"role": turn.role, "content": turn.content} for turn in request.messages]
        # The library's time-out is for each piece; a server may send a piece a minute for ever.
        async with asyncio.timeout(self.settings.time_limit_s):
            answer = await server.chat.completions.create(
                model=self.settings.model,
                messages=turns,
                temperature=request.temperature,
                **more,
            )
        return _reply(answer, most, request.max_tokens)


class _NoAnswer(Exception):
    """A whole response that holds no answer."""


_TROUBLES = (openai.APIError, TimeoutError, _NoAnswer, ValueError, TypeError, AttributeError)


def most_tokens(request: ChatRequest) -> int:
    """Returns the most tokens that a question and its answer can take.

    A server that counts more than it was allowed to write, as hidden reasoning, is not foreseen.
    """
    turns = sum(
        len(turn.content.encode("utf-8", "replace")) + _TURN_TOKENS for turn in request.messages
    )
    return _TEMPLATE_TOKENS + turns + request.max_tokens


def server_url(settings: EndpointSettings) -> str:
    """Finds the server's address.

    Args:
        settings: Names it, or leaves it to the environment.

    Returns:
        The address.

    Raises:
        NoEndpoint: There is none, or it holds a password, which would get into logs.
    """
    url = settings.base_url or os.environ.get(URL_VARIABLE, "")
    parts = urlsplit(url)
    # Also where it is no address: what stands there may be a password.
    if "@" in url or parts.query:
        raise NoEndpoint(
            "expected an address without user, password or query",
            remedy="Put the key into the variable or file that endpoint.key_variable and "
            "endpoint.key_file name.",
        )
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise NoEndpoint(
            f"expected the address of an OpenAI-compatible server, got {url or 'none'!r}",
            remedy=f"Set endpoint.base_url (http://127.0.0.1:8000/v1), or {URL_VARIABLE}.",
        )
    return url


async def _paused(seconds: float) -> None:
    """Waits, and lives meanwhile."""
    left = seconds
    while left > 0:
        beat()
        await asyncio.sleep(min(left, 1.0))
        left -= 1.0


def _reply(answer: Any, most: int, max_tokens: int) -> ChatReply:
    """Returns the answer in a response; servers leave out this and that."""
    choices = getattr(answer, "choices", None)
    choice = choices[0] if isinstance(choices, list) and choices else None
    text = getattr(getattr(choice, "message", None), "content", None)
    if text is None and getattr(choice, "finish_reason", None):
        text = ""  # the model had nothing to say, or was not let
    if not isinstance(text, str):
        raise _NoAnswer("no answer in the response")
    usage = getattr(answer, "usage", None)
    counts = [getattr(usage, name, None) for name in ("prompt_tokens", "completion_tokens")]
    prompt, completion = (one if isinstance(one, int) and one >= 0 else None for one in counts)
    if prompt is None or completion is None:
        return ChatReply(text, most - max_tokens, max_tokens, counted=False)
    return ChatReply(text, prompt, completion)


def _trouble(error: Exception) -> _Trouble:
    """Returns what an exception means; its message may quote the question and is left out."""
    if isinstance(error, openai.APIStatusError):
        code = error.status_code
        what = f"HTTP {code}{_code(error)}"
        headers = {name.lower(): value for name, value in error.response.headers.items()}
        # What a server refuses it does not count; of an error of its own one cannot know.
        return _Trouble(what, code in _PASSING, code >= 500, headers, code in _OF_QUESTION)
    if isinstance(error, openai.APITimeoutError | TimeoutError):
        return _Trouble("no answer in time", True, True, {})
    if isinstance(error, openai.APIConnectionError):
        refused = "Connect" in type(error.__cause__).__name__
        what = "no connection" if refused else "the connection was cut"
        return _Trouble(what, True, not refused, {})
    return _Trouble("a response without an answer", True, True, {})


def _code(error: openai.APIStatusError) -> str:
    code = str(error.code or error.type or "")
    return f" ({code})" if re.fullmatch(r"[a-z][a-z0-9_]{0,40}", code) else ""

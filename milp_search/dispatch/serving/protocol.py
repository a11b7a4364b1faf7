"""The part of the chat protocol that the server speaks, as a Starlette application."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from milp_search.dispatch.serving.answering import Answering
from milp_search.dispatch.serving.models import Served, UnknownUser

# ours: a prompt is a few thousand characters.
_LARGEST = 2**20
_MOST_TOKENS = 4096
_DEFAULT_TOKENS = 64


class Refused(Exception):
    """A request that cannot be served, with the HTTP status that says so."""

    def __init__(self, status: int, message: str, code: str):
        super().__init__(message)
        self.status, self.message, self.code = status, message, code


@dataclass(frozen=True)
class Asked:
    """A request for an answer.

    Attributes:
        model: Whose answer.
        query: The user's turns, joined.
        user: Whose adapters shall answer; None for nobody's.
        tokens: The most tokens of the answer.
        stream: Whether the answer is sent as events.
    """

    model: str
    query: str
    user: str | None
    tokens: int
    stream: bool


def application(served: Served, answering: Answering, key: str | None) -> Starlette:
    """Returns the application that serves one model.

    Args:
        served: The model.
        answering: What computes its answers.
        key: What callers have to send; None lets everyone in.

    Returns:
        The application.
    """

    async def models(request: Request) -> Response:
        _let_in(request, key)
        entry = {"id": served.name, "object": "model", "created": 0, "owned_by": "milp-search"}
        return JSONResponse({"object": "list", "data": [entry]})

    async def completions(request: Request) -> Response:
        _let_in(request, key)
        asked = read_request(await _body(request), served.name)
        try:
            job = await asyncio.to_thread(served.job, asked.query, asked.user)
        except UnknownUser:
            raise Refused(404, "nothing was trained for this user", "unknown_user") from None
        text = await asyncio.wrap_future(answering.ask(job, asked.tokens))
        tokenizer = served.trainer.base.tokenizer
        counts = [len(tokenizer(one)["input_ids"]) for one in (job.examples[0].prompt, text)]
        reply = completion(asked.model, text, counts[0], min(counts[1], asked.tokens))
        if asked.stream:
            return StreamingResponse(_events(reply), media_type="text/event-stream")
        return JSONResponse(reply)

    async def refuse(_: Request, error: Exception) -> Response:
        assert isinstance(error, Refused)
        body = {"message": error.message, "type": "invalid_request_error", "code": error.code}
        return JSONResponse({"error": body}, error.status)

    return Starlette(
        routes=[
            Route("/v1/models", models, methods=["GET"]),
            Route("/v1/chat/completions", completions, methods=["POST"]),
        ],
        exception_handlers={Refused: refuse},
    )


def read_request(body: bytes, name: str) -> Asked:
    """Reads what is asked for.

    Args:
        body: The request's.
        name: The model that is served.

    Returns:
        The request.

    Raises:
        Refused: It is none, or asks for what there is not.
    """
    try:
        values: Any = json.loads(body)
    except (ValueError, RecursionError):
        raise Refused(400, "expected a JSON object", "bad_json") from None
    if not isinstance(values, dict):
        raise Refused(400, "expected a JSON object", "bad_json")
    if values.get("model", name) != name:
        raise Refused(404, f"expected model {name}", "model_not_found")
    if values.get("n") not in (None, 1):
        raise Refused(400, "expected n to be 1", "unsupported_value")
    limits = [values.get(key) for key in ("max_completion_tokens", "max_tokens")]
    tokens = next((limit for limit in limits if limit is not None), _DEFAULT_TOKENS)
    if not isinstance(tokens, int) or isinstance(tokens, bool) or not 1 <= tokens <= _MOST_TOKENS:
        raise Refused(400, f"expected max_tokens from 1 to {_MOST_TOKENS}", "bad_max_tokens")
    user = values.get("user")
    if user is not None and not isinstance(user, str):
        raise Refused(400, "expected user to be a text", "bad_user")
    return Asked(name, _query(values.get("messages")), user, tokens, values.get("stream") is True)


def completion(model: str, text: str, prompt_tokens: int, answer_tokens: int) -> dict[str, Any]:
    """Returns a whole answer as the protocol has it."""
    return {
        "id": f"chatcmpl-{secrets.token_hex(8)}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text},
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": answer_tokens,
            "total_tokens": prompt_tokens + answer_tokens,
        },
    }


def _query(messages: Any) -> str:
    if not isinstance(messages, list) or not messages:
        raise Refused(400, "expected messages", "bad_messages")
    return "\n\n".join(_text(message) for message in messages)


def _text(message: Any) -> str:
    content = message.get("content") if isinstance(message, dict) else None
    if isinstance(content, list):
        parts: Sequence[Any] = [
            part.get("text") if isinstance(part, dict) else None for part in content
        ]
        content = "".join(parts) if all(isinstance(part, str) for part in parts) else None
    # A half of a surrogate pair, which JSON can hold, is no text to a tokenizer.
    if not isinstance(content, str) or not _is_unicode(content):
        raise Refused(400, "expected messages of text", "bad_messages")
    return content


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


async def _body(request: Request) -> bytes:
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > _LARGEST:
            raise Refused(413, f"expected at most {_LARGEST} bytes", "too_large")
    return body


def _let_in(request: Request, key: str | None) -> None:
    sent = request.headers.get("authorization", "").removeprefix("Bearer ")
    if key is not None and not secrets.compare_digest(sent.encode(), key.encode()):
        raise Refused(401, "expected the server's key", "bad_key")


async def _events(reply: dict[str, Any]) -> AsyncIterator[str]:
    """Yields an answer as server-sent events: the text in one, then its end."""
    choice = reply["choices"][0]
    head = {**reply, "object": "chat.completion.chunk"}
    for delta, finish in ((choice["message"], None), ({}, "stop")):
        part = {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}
        yield f"data: {json.dumps(part)}\n\n"
    yield "data: [DONE]\n\n"

"""A server that misbehaves at random, and keeps a ledger of what it was asked."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from endpoint.server import (
    Behaviour,
    Handler,
    changed,
    content,
    cut,
    drip,
    refuse,
    refuse_until_seconds_later,
    slow,
)
from milp_search.core.chat import ChatRequest, Message
from milp_search.endpoint.response_cache import request_key

ANSWER_TOKENS = 4

# Kind to what the server does, and whether it may have counted the tokens of the question.
KINDS: Mapping[str, tuple[Behaviour, bool]] = {
    "429": (refuse(429), False),
    "429, Retry-After": (refuse(429, Retry_After="0.3"), False),
    "429, Retry-After-Ms": (refuse(429, Retry_After_Ms="200"), False),
    "500": (refuse(500), True),
    "503, Retry-After as a date": (refuse_until_seconds_later(1), True),
    "time-out": (slow(4.0), True),
    "cut connection": (cut, True),
    "torn JSON": (refuse(200, b'{"id": "1", "cho'), True),
    "no JSON": (refuse(200, b"<html>"), True),
    "empty choices": (changed(choices=[]), True),
    "null choices": (changed(choices=None), True),
    "slow drip": (drip, True),
}


@dataclass
class Ledger:
    """What the server saw and did.

    Attributes:
        folder: Where the client keeps its answers.
        requests: How often it was asked.
        misbehaved: How often it did not answer.
        kept_already: How often it was asked for what lay on the client's disk already.
        tokens: What it counted, whether an answer came or not.
        lock: Held while it is written.
    """

    folder: Path
    requests: int = 0
    misbehaved: int = 0
    kept_already: int = 0
    tokens: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


def behaving(ledger: Ledger, kinds: Sequence[str], share: float, seed: int) -> Behaviour:
    """Returns what the server does with each request: in so many of all one of the kinds."""
    draw = random.Random(seed)

    def behave(handler: Handler, body: dict[str, Any]) -> None:
        with ledger.lock:
            kind = draw.choice(kinds) if draw.random() < share else None
            does, counts = KINDS[kind] if kind else (_answer, True)
            ledger.requests += 1
            ledger.misbehaved += kind is not None
            ledger.kept_already += _kept(ledger.folder, body)
            ledger.tokens += counts * (_prompt_tokens(body) + ANSWER_TOKENS)
        does(handler, body)

    return behave


def _answer(handler: Handler, body: dict[str, Any]) -> None:
    usage = {"prompt_tokens": _prompt_tokens(body), "completion_tokens": ANSWER_TOKENS}
    handler.send(200, json.dumps({**content(body), "usage": usage}).encode())


def _prompt_tokens(body: dict[str, Any]) -> int:
    """Returns a token for every word, and a template's few."""
    return 20 + len(body["messages"][-1]["content"].split())


def _kept(folder: Path, body: dict[str, Any]) -> bool:
    turn = Message("user", body["messages"][-1]["content"])
    key = request_key(body["model"], ChatRequest((turn,), body["max_tokens"]))
    return (folder / "responses" / key[:2] / f"{key}.json").exists()

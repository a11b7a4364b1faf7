"""A real HTTP server on the loopback address that answers, or misbehaves, as a test says."""

from __future__ import annotations

import email.utils
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Behaviour = Callable[["Handler", dict[str, Any]], None]


@dataclass
class Server:
    """What the server was asked, and what it will do next: the script, then `default`."""

    url: str = ""
    script: list[Behaviour] = field(default_factory=list)
    default: Behaviour = field(default=lambda handler, body: answer(handler, body))
    asked: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


class Handler(BaseHTTPRequestHandler):
    """Serves one request; `server.state` is the `Server`."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        state: Server = self.server.state  # type: ignore[attr-defined]
        length = int(self.headers["Content-Length"])
        sent = self.rfile.read(length)
        if len(sent) < length:  # the client has died
            return
        body = json.loads(sent)
        with state.lock:
            state.asked.append(body)
            state.headers.append({name.lower(): value for name, value in self.headers.items()})
            state.times.append(time.monotonic())
            state.at_once += 1
            state.most_at_once = max(state.most_at_once, state.at_once)
            behave = state.script.pop(0) if state.script else state.default
        try:
            behave(self, body)
        finally:
            with state.lock:
                state.at_once -= 1

    def send(self, code: int, body: bytes, **headers: str) -> None:
        """Sends a whole response."""
        self.send_response(code)
        for name, value in {"Content-Type": "application/json", **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


def content(body: dict[str, Any]) -> dict[str, Any]:
    """Returns the usual answer: the question in capitals, seven and three tokens."""
    text = body["messages"][-1]["content"].upper()
    return {
        "id": "1", "object": "chat.completion", "created": 0, "model": body["model"],
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        ],
        "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
    }  # fmt: skip


def answer(handler: Handler, body: dict[str, Any]) -> None:
    """Answers."""
    handler.send(200, json.dumps(content(body)).encode())


def changed(**changes: Any) -> Behaviour:
    """Answers with some fields changed."""

    def behave(handler: Handler, body: dict[str, Any]) -> None:
        handler.send(200, json.dumps({**content(body), **changes}).encode())

    return behave


def refuse(code: int, body: bytes = b"{}", **headers: str) -> Behaviour:
    """Answers with a code and a body."""

    def behave(handler: Handler, _: dict[str, Any]) -> None:
        handler.send(code, body, **headers)

    return behave


def refuse_longer_than(characters: int, code: int = 400) -> Behaviour:
    """Refuses what is longer in all and answers the rest."""

    def behave(handler: Handler, body: dict[str, Any]) -> None:
        length = sum(len(turn["content"]) for turn in body["messages"])
        error = {"code": "context_length_exceeded", "message": "too long: the question"}
        refusal = refuse(code, json.dumps({"error": error}).encode())
        (answer if length <= characters else refusal)(handler, body)

    return behave


def refuse_until_seconds_later(seconds: int) -> Behaviour:
    """Answers 503 with the date, in whole seconds, from which it may be asked again."""

    def behave(handler: Handler, body: dict[str, Any]) -> None:
        date = email.utils.formatdate(time.time() + seconds, usegmt=True)
        refuse(503, Retry_After=date)(handler, body)

    return behave


def cut(handler: Handler, _: dict[str, Any]) -> None:
    """Cuts the connection in the middle of a response."""
    handler.send_response(200)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"id": ')
    handler.close_connection = True


def drip(handler: Handler, _: dict[str, Any]) -> None:
    """Sends a byte now and then, for a minute."""
    handler.send_response(200)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", "600")
    handler.end_headers()
    handler.close_connection = True
    for _step in range(600):
        try:
            handler.wfile.write(b" ")
            handler.wfile.flush()
        except OSError:
            return
        time.sleep(0.1)


def slow(seconds: float) -> Behaviour:
    """Answers after a while."""

    def behave(handler: Handler, body: dict[str, Any]) -> None:
        time.sleep(seconds)
        answer(handler, body)

    return behave


class _Quiet(ThreadingHTTPServer):
    """Says nothing of clients that have gone."""

    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


@contextmanager
def serving(*script: Behaviour) -> Iterator[Server]:
    """Yields a server that first does what the script says, request by request."""
    http = _Quiet(("127.0.0.1", 0), Handler)
    state = Server(f"http://127.0.0.1:{http.server_port}/v1", [*script])
    http.state = state  # type: ignore[attr-defined]
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield state
    finally:
        http.shutdown()
        thread.join()
        http.server_close()

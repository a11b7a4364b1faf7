"""The client against a real server that misbehaves."""

from __future__ import annotations

import errno
import json
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from endpoint.server import (
    Behaviour,
    Handler,
    answer,
    changed,
    cut,
    drip,
    refuse,
    refuse_longer_than,
    refuse_until_seconds_later,
    serving,
    slow,
)
from milp_search.core.chat import (
    BudgetExhausted,
    ChatRequest,
    EndpointError,
    Message,
    QuestionRefused,
)
from milp_search.core.settings import EndpointSettings
from milp_search.core.whole_file import put_whole
from milp_search.endpoint.client import Endpoint, NoEndpoint, most_tokens, server_url
from milp_search.endpoint.key import KeyMissing, api_key
from milp_search.endpoint.response_cache import ResponseCache
from milp_search.endpoint.token_budget import Spent, TokenBudget
from milp_search.study.disk_space import until_there_is_space

SETTINGS = EndpointSettings("tiny", time_limit_s=5.0)


def question(text: str, sample: int = 0) -> ChatRequest:
    return ChatRequest((Message("user", text),), max_tokens=4, sample=sample)


def endpoint(folder: Path, url: str, limit: int | None = None, **changes: object) -> Endpoint:
    settings = replace(SETTINGS, base_url=url, **changes)  # type: ignore[arg-type]
    budget = TokenBudget(folder / "tokens.json", limit)
    return Endpoint(settings, ResponseCache(folder / "responses"), budget)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("milp_search.endpoint.patience._FIRST_S", 0.01)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)


def test_replies_come_in_order_and_equal_questions_are_asked_once(tmp_path: Path) -> None:
    with serving() as server:
        replies = endpoint(tmp_path, server.url, concurrency=1).ask(
            [question("b"), question("a"), question("b"), question("a", sample=1)]
        )
    assert [reply.text for reply in replies] == ["B", "A", "B", "A"]
    assert len(server.asked) == 3
    assert (replies[0].prompt_tokens, replies[0].completion_tokens) == (7, 3)
    assert server.asked[0] == {
        "model": "tiny",
        "messages": [{"role": "user", "content": "b"}],
        "max_tokens": 4,
        "temperature": 0.0,
    }


def test_what_was_answered_once_is_never_asked_again(tmp_path: Path) -> None:
    with serving() as server:
        first = endpoint(tmp_path, server.url).ask([question("a")])
        again = endpoint(tmp_path, server.url).ask([question("a")])
    assert len(server.asked) == 1
    assert again == [replace(first[0], paid=False)]
    spent = TokenBudget(tmp_path / "tokens.json").spent()
    assert (spent.prompt, spent.completion, spent.unknown) == (7, 3, 0)


def test_who_paid_before_has_paid_and_nobody_else(tmp_path: Path) -> None:
    with serving() as server:
        asking = endpoint(tmp_path, server.url)
        for payer in ("trial-1", "trial-1", "trial-2", None):
            one = Endpoint(asking.settings, asking.cache, asking.budget, payer)
            assert one.ask([question("a")])[0].paid is (payer == "trial-1")
    assert len(server.asked) == 1


def test_answers_are_cleared_and_nothing_else_that_lies_there(tmp_path: Path) -> None:
    with serving() as server:
        asking = endpoint(tmp_path, server.url)
        asking.ask([question("a")])
        (answer,) = (tmp_path / "responses").glob("*/*.json")
        answer.with_name(f".{answer.name}.ab12_xyz").touch()
        others = [tmp_path / "responses" / "notes.json", answer.with_name("mine.json")]
        for other in others:
            other.touch()
        assert asking.cache.clear() == 3  # the answer, its lock, and what was left unfinished
        assert asking.cache.clear() == 0
        assert all(other.exists() for other in others)
        asking.ask([question("a")])
    assert len(server.asked) == 2


def test_no_more_questions_than_allowed_are_under_way(tmp_path: Path) -> None:
    with serving(*[slow(0.2)] * 9) as server:
        asking = endpoint(tmp_path, server.url, concurrency=3)
        asking.ask([question(str(n)) for n in range(9)])
    assert server.most_at_once == 3


NO_CHOICES = changed(choices=[])


@pytest.mark.parametrize(
    ("misbehaves", "unknown"),
    [
        (refuse(429), 0),
        (refuse(429, retry_after="0.1"), 0),
        (refuse(500), 1),
        (refuse(503), 1),
        (cut, 1),
        (drip, 1),
        (slow(3.0), 1),
        (refuse(200, b'{"id": "1", "cho'), 1),
        (refuse(200, b"<html>"), 1),
        (NO_CHOICES, 1),
        (changed(choices=None), 1),
        (changed(choices=[{"index": 0}]), 1),
    ],
    ids=["429", "429-retry-after", "500", "503", "cut", "drip", "slow", "torn", "html",
         "no-choices", "null-choices", "no-message"],
)  # fmt: skip
def test_trouble_that_passes_loses_nothing_and_is_paid_once(
    tmp_path: Path, misbehaves: Behaviour, unknown: int
) -> None:
    with serving(misbehaves) as server:
        asking = endpoint(tmp_path, server.url, time_limit_s=1.0)
        (reply,) = asking.ask([question("a")])
        asking.ask([question("a")])
    assert reply.text == "A"
    assert len(server.asked) == 2
    spent = asking.budget.spent()
    assert (spent.prompt, spent.completion) == (7, 3)
    assert spent.unknown == unknown * most_tokens(question("a"))


def test_a_server_that_says_when_is_not_asked_before(tmp_path: Path) -> None:
    script = [refuse(429, retry_after="0.4"), refuse(429, retry_after_ms="300", retry_after="9"),
              refuse_until_seconds_later(2)]  # fmt: skip
    with serving(*script) as server:
        endpoint(tmp_path, server.url).ask([question("a")])
    waits = [after - before for before, after in zip(server.times, server.times[1:], strict=False)]
    assert waits[0] >= 0.4
    assert 0.3 <= waits[1] < 5
    assert waits[2] >= 0.9  # of two: dates have whole seconds


def test_a_server_that_wants_too_long_a_pause_is_out_of_order(tmp_path: Path) -> None:
    refusal = pytest.raises(EndpointError, match="HTTP 429")
    with serving(refuse(429, retry_after="3600")) as server, refusal:
        endpoint(tmp_path, server.url).ask([question("a")])
    assert len(server.asked) == 1


def test_a_server_out_of_order_is_told_of_after_the_last_attempt(tmp_path: Path) -> None:
    told = pytest.raises(EndpointError, match=r"tiny at http://127.* got: HTTP 500, after 3 att")
    with serving(*[refuse(500)] * 9) as server, told:
        endpoint(tmp_path, server.url, attempts=3).ask([question("a")])
    assert len(server.asked) == 3


def test_no_server_is_told_of_and_costs_nothing(tmp_path: Path) -> None:
    with serving() as server:
        pass
    asking = endpoint(tmp_path, server.url, attempts=2)
    with pytest.raises(EndpointError, match="no connection"):
        asking.ask([question("a")])
    assert asking.budget.spent().total == 0


@pytest.mark.parametrize(
    ("code", "asked"), [(400, 2), (401, 1), (403, 1), (404, 1), (413, 2), (422, 2)]
)
def test_a_server_that_refuses_everything_is_told_of_and_quotes_neither_text_nor_key(
    tmp_path: Path, code: int, asked: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary")
    body = json.dumps({"error": {"message": "no: secret text sk-canary", "code": "bad_request"}})
    refusal = pytest.raises(EndpointError, match=f"HTTP {code} \\(bad_request\\)")
    with serving(*[refuse(code, body.encode())] * 9) as server, refusal as caught:
        endpoint(tmp_path, server.url).ask([question("secret text")])
    assert not isinstance(caught.value, QuestionRefused)
    # Where the question may be at fault, a short one tells.
    assert len(server.asked) == asked
    assert "secret" not in str(caught.value)
    assert "canary" not in str(caught.value)
    assert server.headers[0]["authorization"] == "Bearer sk-canary"


@pytest.mark.parametrize("code", [400, 413, 422])
def test_a_question_that_is_too_long_is_refused_alone(tmp_path: Path, code: int) -> None:
    with serving(*[refuse_longer_than(9, code)] * 9) as server:
        asking = endpoint(tmp_path, server.url)
        told = (
            f"got: HTTP {code} \\(context_length_exceeded\\), after 1 attempts; it answers a short"
        )
        with pytest.raises(QuestionRefused, match=told) as caught:
            asking.ask([question("ten and more")])
        assert asking.ask([question("short")])[0].text == "SHORT"
    assert "ten" not in str(caught.value)
    roles = [[turn["role"] for turn in body["messages"]] for body in server.asked]
    assert roles == [["user"]] * 3
    # Ten tokens each for the two that were answered, none for what was refused.
    assert asking.budget.spent().total == 20


def test_a_question_is_not_at_fault_where_the_server_is_out_of_order_next(tmp_path: Path) -> None:
    refusal = pytest.raises(EndpointError, match="HTTP 400")
    with serving(refuse(400), *[refuse(500)] * 9) as server, refusal as caught:
        endpoint(tmp_path, server.url, attempts=2).ask([question("a")])
    assert not isinstance(caught.value, QuestionRefused)


def test_a_failure_leaves_what_was_answered_and_asks_nothing_more(tmp_path: Path) -> None:
    def refuse_the_second(handler: Handler, body: dict[str, Any]) -> None:
        second = body["messages"][-1]["content"] == "1"
        (refuse(401) if second else slow(0.5))(handler, body)

    with serving(*[refuse_the_second] * 10) as server:
        asking = endpoint(tmp_path, server.url, concurrency=2)
        with pytest.raises(EndpointError, match="401"):
            asking.ask([question(str(n)) for n in range(10)])
        assert len(server.asked) == 2
        asking.ask([question("0")])
    assert len(server.asked) == 2
    assert asking.budget.spent().unknown == 0


class FullDisk:
    """A disk that is full for a while, for what the client writes; counts what was refused."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self._put, self._open, self._until, self.refused = put_whole, os.open, 0.0, 0
        monkeypatch.setattr("milp_search.study.disk_space._POLL_S", 0.05)
        monkeypatch.setattr("milp_search.endpoint.response_cache.put_whole", self.put)
        monkeypatch.setattr("milp_search.endpoint.token_budget.put_whole", self.put)
        monkeypatch.setattr(os, "open", self.open)

    def fill(self, seconds: float) -> None:
        """Fills the disk for so long from now on."""
        self._until = time.monotonic() + seconds

    def put(self, path: Path, text: str) -> None:
        self._refuse()
        self._put(path, text)

    def open(self, path: Any, flags: int, mode: int = 0o777, **more: Any) -> int:
        if str(path).endswith(".lock"):
            self._refuse()
        return self._open(path, flags, mode, **more)

    def _refuse(self) -> None:
        if time.monotonic() < self._until:
            self.refused += 1
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def patient(asking: Endpoint) -> Endpoint:
    return Endpoint(asking.settings, asking.cache, asking.budget, storing=until_there_is_space)


def test_a_question_waits_for_a_full_disk_before_it_is_put(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = FullDisk(monkeypatch)
    with serving() as server:
        disk.fill(0.3)
        patient(endpoint(tmp_path, server.url)).ask([question("a")])
    assert disk.refused > 1
    assert len(server.asked) == 1


def test_answers_that_find_the_disk_full_are_neither_lost_nor_paid_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first answer waits longer than the second, which comes meanwhile, may take."""
    disk = FullDisk(monkeypatch)

    def fill_or_be_slow(handler: Handler, body: dict[str, Any]) -> None:
        if body["messages"][-1]["content"] == "a":
            disk.fill(2.5)
        else:
            time.sleep(0.5)
        answer(handler, body)

    with serving(*[fill_or_be_slow] * 4) as server:
        asking = endpoint(tmp_path, server.url, time_limit_s=2.0)
        replies = patient(asking).ask([question("b"), question("a")])
    assert [reply.text for reply in replies] == ["B", "A"]
    assert disk.refused > 1
    assert len(server.asked) == 2
    assert asking.budget.spent() == Spent(14, 6, 0)


def test_an_empty_answer_is_an_answer(tmp_path: Path) -> None:
    choice = {"index": 0, "message": {"role": "assistant", "content": None},
              "finish_reason": "content_filter"}  # fmt: skip
    with serving(changed(choices=[choice])) as server:
        assert endpoint(tmp_path, server.url).ask([question("a")])[0].text == ""


def test_a_server_that_does_not_count_is_booked_at_most(tmp_path: Path) -> None:
    with serving(changed(usage=None)) as server:
        asking = endpoint(tmp_path, server.url)
        (reply,) = asking.ask([question("a")])
    assert not reply.counted
    assert asking.budget.spent().total == most_tokens(question("a")) == 128 + 1 + 16 + 4


def test_the_budget_is_never_exceeded_and_stops_before(tmp_path: Path) -> None:
    # Each question takes 10 tokens, and may take 149 or 150.
    with serving() as server:
        asking = endpoint(tmp_path, server.url, limit=500, concurrency=4)
        with pytest.raises(BudgetExhausted, match=r"of 500 tokens .* may take 1[45]\d\n.*token_b"):
            asking.ask([question(str(n)) for n in range(60)])
    spent = asking.budget.spent().total
    assert 350 < spent <= 500
    assert len(server.asked) * 10 == spent


def test_a_tight_budget_makes_questions_wait_and_wastes_nothing(tmp_path: Path) -> None:
    # Two of sixteen questions at a time, each of which may take 149 or 150 tokens, and takes 10.
    with serving(*[slow(0.1)] * 16) as server:
        asking = endpoint(tmp_path, server.url, limit=450, concurrency=16)
        asking.ask([question(str(n)) for n in range(16)])
    assert len(server.asked) == 16
    assert server.most_at_once <= 3
    assert asking.budget.spent().unknown == 0


def test_the_key_may_stand_in_a_file_that_only_its_owner_reads(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("sk-file\n")
    file.chmod(0o644)
    with serving() as server:
        asking = endpoint(tmp_path, server.url, key_file=str(file))
        with pytest.raises(KeyMissing, match="mode 644"):
            asking.ask([question("a")])
        file.chmod(0o600)
        asking.ask([question("a")])
    assert server.headers[0]["authorization"] == "Bearer sk-file"


@pytest.mark.parametrize("text", [None, "", "two words", "\u00e9"])
def test_a_key_file_without_one_key_is_refused(tmp_path: Path, text: str | None) -> None:
    file = tmp_path / "key"
    if text is not None:
        file.write_text(text)
        file.chmod(0o600)
    with pytest.raises(KeyMissing, match="key") as caught:
        api_key(replace(SETTINGS, key_file=str(file)))
    assert "two" not in str(caught.value)


@pytest.mark.parametrize("key", ["sk-canary\u00e9", "sk-canary\nx", "sk-canary x"])
def test_a_variable_that_no_header_can_hold_is_refused_and_not_quoted(
    monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(KeyMissing, match="in the variable OPENAI_API_KEY, got other") as caught:
        api_key(SETTINGS)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:8000",
        "ftp://host/v1",
        "http://user:pass@host/v1",
        "http://h/v1?key=1",
        "ftp://user:pass@host/v1",
        "user:pass@host",
    ],
)
def test_an_address_that_is_none_or_holds_a_secret_is_refused(url: str) -> None:
    with pytest.raises(NoEndpoint) as caught:
        server_url(replace(SETTINGS, base_url=url))
    assert "pass@" not in str(caught.value)


def test_the_address_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://h:1/v1")
    assert server_url(SETTINGS) == "http://h:1/v1"


def test_a_kept_answer_that_is_damaged_is_asked_for_again(tmp_path: Path) -> None:
    with serving() as server:
        asking = endpoint(tmp_path, server.url)
        asking.ask([question("a")])
        (file,) = (tmp_path / "responses").glob("*/*.json")
        file.write_text(file.read_text().replace('"A"', '"B"'))
        assert asking.ask([question("a")])[0].text == "A"
    assert len(server.asked) == 2

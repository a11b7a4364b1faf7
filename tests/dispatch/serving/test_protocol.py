"""What the server takes and refuses; the model is a fake, the application is the real one."""

from __future__ import annotations

import json
import threading
from concurrent.futures import Future
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.testclient import TestClient

from dispatch.counting_trainer import CountingTrainer, predict_job
from milp_search.adapters.jobs import Answer, PredictJob
from milp_search.dispatch.serving.answering import Answering
from milp_search.dispatch.serving.models import UnknownUser
from milp_search.dispatch.serving.protocol import Refused, application, read_request


class Repeating(CountingTrainer):
    """Answers with the prompt, and notes how many words it was allowed."""

    def predict(self, jobs: Any) -> list[list[Answer]]:
        super().predict(jobs)
        self.calls[-1][1].append(f"at most {self.settings.max_new_tokens}")
        return [[Answer(0.0, 1, f" {one.prompt} ") for one in job.examples] for job in jobs]


@dataclass
class Fake:
    """A model whose tokens are words; it knows one user, and answers them in their name."""

    name: str = "tiny"
    trainer: Repeating = field(default_factory=Repeating)

    def __post_init__(self) -> None:
        tokenizer = lambda text: {"input_ids": text.split()}  # noqa: E731
        self.trainer.base = SimpleNamespace(tokenizer=tokenizer)

    def job(self, query: str, user: str | None) -> PredictJob:
        if user not in (None, "anna"):
            raise UnknownUser
        return predict_job(query if user is None else f"{user}: {query}")


@pytest.fixture
def served() -> Fake:
    return Fake()


def client(served: Fake, key: str | None = None) -> Any:
    answering = Answering(served.trainer)
    return TestClient(application(served, answering, key))


def asked(text: str, **more: Any) -> dict[str, Any]:
    return {"model": "tiny", "messages": [{"role": "user", "content": text}], **more}


def test_an_answer_has_the_protocols_form_and_counts(served: Fake) -> None:
    reply = client(served).post("/v1/chat/completions", json=asked("two words", max_tokens=9))
    body = reply.json()
    assert reply.status_code == 200
    assert body["object"] == "chat.completion"
    assert body["choices"][0]["message"] == {"role": "assistant", "content": "two words"}
    assert body["usage"] == {"prompt_tokens": 2, "completion_tokens": 2, "total_tokens": 4}
    assert served.trainer.calls == [("predict", ["two words", "at most 9"])]


def test_the_user_decides_who_answers(served: Fake) -> None:
    http = client(served)
    reply = http.post("/v1/chat/completions", json=asked("hi", user="anna")).json()
    assert reply["choices"][0]["message"]["content"] == "anna: hi"
    unknown = http.post("/v1/chat/completions", json=asked("hi", user="bert"))
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "unknown_user")


def test_the_models_are_listed(served: Fake) -> None:
    assert [one["id"] for one in client(served).get("/v1/models").json()["data"]] == ["tiny"]


def test_a_stream_holds_the_answer_and_ends(served: Fake) -> None:
    reply = client(served).post("/v1/chat/completions", json=asked("a b", stream=True))
    *events, last = [line[6:] for line in reply.text.split("\n\n") if line]
    assert last == "[DONE]"
    texts = [json.loads(event)["choices"][0]["delta"].get("content", "") for event in events]
    assert "".join(texts) == "a b"


def test_callers_without_the_key_are_sent_away(served: Fake) -> None:
    http = client(served, key="secret")
    for headers in ({}, {"Authorization": "Bearer other"}):
        for reply in (
            http.get("/v1/models", headers=headers),
            http.post("/v1/chat/completions", json=asked("a"), headers=headers),
        ):
            assert (reply.status_code, reply.json()["error"]["code"]) == (401, "bad_key")
    assert http.get("/v1/models", headers={"Authorization": "Bearer secret"}).status_code == 200
    assert served.trainer.calls == []


def test_several_turns_and_parts_are_one_query() -> None:
    messages = [
        {"role": "system", "content": "one"},
        {"role": "user", "content": [{"type": "text", "text": "two"}, {"text": " three"}]},
    ]
    body = json.dumps({"messages": messages}).encode()
    assert read_request(body, "tiny").query == "one\n\ntwo three"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{", "bad_json"),
        (b"[" * 100_000, "bad_json"),
        (b"[]", "bad_json"),
        (b"{}", "bad_messages"),
        (b'{"messages": []}', "bad_messages"),
        (b'{"messages": [1]}', "bad_messages"),
        (b'{"messages": [{"content": [{"image": 1}]}]}', "bad_messages"),
        (b'{"messages": [{"content": "half a pair: \\ud800"}]}', "bad_messages"),
        (json.dumps(asked("a", model="other")).encode(), "model_not_found"),
        (json.dumps(asked("a", n=2)).encode(), "unsupported_value"),
        (json.dumps(asked("a", max_tokens=0)).encode(), "bad_max_tokens"),
        (json.dumps(asked("a", max_tokens=True)).encode(), "bad_max_tokens"),
        (json.dumps(asked("a", max_tokens=10**9)).encode(), "bad_max_tokens"),
        (json.dumps(asked("a", user=3)).encode(), "bad_user"),
    ],
)
def test_what_is_no_request_is_refused_with_a_code(body: bytes, code: str) -> None:
    with pytest.raises(Refused) as caught:
        read_request(body, "tiny")
    assert caught.value.code == code
    assert 400 <= caught.value.status < 500


def test_a_body_that_is_too_large_is_refused(served: Fake) -> None:
    reply = client(served).post("/v1/chat/completions", content=b" " * (2**20 + 1))
    assert reply.status_code == 413


def test_what_waits_goes_together_by_the_length_of_its_answer(served: Fake) -> None:
    trainer = served.trainer
    answering = Answering(trainer)
    waits = [answering.ask(predict_job(f"q{n}"), 5 + n % 2) for n in range(8)]
    assert [wait.result(10) for wait in waits] == [f"q{n}" for n in range(8)]
    answering.close()
    sizes = [len(names) - 1 for _, names in trainer.calls]
    assert sum(sizes) == 8
    for _, names in trainer.calls:
        tokens = names[-1].split()[-1]
        assert {5 + int(name[1:]) % 2 for name in names[:-1]} == {int(tokens)}


def test_a_model_that_fails_fails_its_callers_and_goes_on(served: Fake) -> None:
    answering = Answering(served.trainer)
    served.trainer.raises = ValueError("no")
    with pytest.raises(ValueError, match="no"):
        answering.ask(predict_job("a"), 3).result(10)
    served.trainer.raises = None
    assert answering.ask(predict_job("a"), 3).result(10) == "a"
    answering.close()


class Picky(Repeating):
    """Fails on every call with a question that is called bad."""

    def predict(self, jobs: Any) -> list[list[Answer]]:
        if any(one.prompt == "bad" for job in jobs for one in job.examples):
            raise ValueError("bad")
        return super().predict(jobs)


def held() -> tuple[Answering, Future[str], threading.Event]:
    """Returns an answering thread that is at its first question until the event is set."""
    at_work, go_on = threading.Event(), threading.Event()

    class Held(Picky):
        def predict(self, jobs: Any) -> list[list[Answer]]:
            at_work.set()
            assert go_on.wait(10)
            return super().predict(jobs)

    answering = Answering(Held())
    first = answering.ask(predict_job("first"), 3)
    assert at_work.wait(10)
    return answering, first, go_on


def test_a_question_that_fails_takes_none_of_those_that_waited_with_it_along() -> None:
    answering, _, go_on = held()
    waits = [answering.ask(predict_job(text), 3) for text in ("a", "bad", "b")]
    go_on.set()
    assert [waits[0].result(10), waits[2].result(10)] == ["a", "b"]
    with pytest.raises(ValueError, match="bad"):
        waits[1].result(10)
    answering.close()


def test_a_caller_who_is_gone_takes_nobody_along() -> None:
    answering, first, go_on = held()
    gone, other = (answering.ask(predict_job(text), 3) for text in ("gone", "other"))
    assert gone.cancel()
    assert not first.cancel()
    go_on.set()
    assert (first.result(10), other.result(10)) == ("first", "other")
    answering.close()

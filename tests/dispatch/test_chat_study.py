"""Studies of a model that can only be asked, over real HTTP."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from endpoint.server import (
    Handler,
    Server,
    answer,
    changed,
    content,
    refuse,
    refuse_longer_than,
    serving,
)
from milp_search.core.arm import Arm
from milp_search.core.chat import ChatRequest, EndpointError, Message
from milp_search.core.errors import StudyError
from milp_search.core.trial import Failure, Objective, TrialStatus
from milp_search.core.whole_file import put_whole
from milp_search.data.load import load_task
from milp_search.dispatch import drive
from milp_search.dispatch.chat_runner import ChatRunner
from milp_search.dispatch.jobs import Job
from milp_search.dispatch.paying import PAID, account_lines
from milp_search.dispatch.show import copy_adapters
from milp_search.endpoint.response_cache import request_key
from milp_search.endpoint.token_budget import Spent, TokenBudget
from milp_search.space.space_file import load_search_space
from milp_search.study.examples import read_examples
from milp_search.study.report import render_report
from milp_search.study.spec import StudySpec
from milp_search.study.spec_file import load_study_spec, write_resolved
from milp_search.study.study import Study

STUDY = """\
name: asked
space: space.yaml
data:
  targets: 3
  population: {{users: 4, communities: 2, topics: 3, longest: 8, shortest: 8}}
  validation: 0.25
  test: 0.25
method: chat_logo
endpoint: {{model: tiny, base_url: {url}, attempts: 2{more}}}
objectives:
  - {{metric: rouge_l, direction: maximize, reference: -0.1}}
  - {{metric: token_cost, direction: minimize, reference: 100000}}
metrics: [diversity]
proposer: random
initial_trials: 2
budget: {{trials: {trials}}}
batch: 1
training: {{max_new_tokens: 8}}
dispatch: {{parallel: 2}}
test_seeds: [7]
"""
SPACE = """\
name: asked
layers: auto
dimensions:
  time_splits: [1, 2]
  retrieved_items: [0, 1, 2]
  communities: [1, 2]
  profile: [off, on]
  summary_lines: [2, 4]
"""
PRICES = ", prompt_price: 2, answer_price: 8, currency: EUR"
QUIET = Console(quiet=True)
KEY = "sk-canary-key"
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "OPENAI_API_KEY": KEY}
COMMAND = [sys.executable, "-m", "milp_search"]


def study_file(folder: Path, server: Server, trials: int = 3, more: str = "") -> Path:
    (folder / "space.yaml").write_text(SPACE)
    file = folder / "study.yaml"
    file.write_text(STUDY.format(url=server.url, trials=trials, more=more))
    return file


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        env=ENVIRONMENT, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip


def paid_by_jobs(out: Path, name: str) -> float:
    """Returns the sum over all trials and final tests that ended."""
    with Study.open(out, read_only=True) as study:
        jobs = [trial.measurements for trial in study.trials]
        jobs += [told for tests in study.state.tests.values() for told in tests.values()]
        return sum(told[name].mean for told in jobs)


def question_key(body: dict[str, Any]) -> str:
    """Returns the name under which the answer to a request is kept."""
    (turn,) = body["messages"]
    asked = ChatRequest((Message("user", turn["content"]),), body["max_tokens"])
    return request_key(body["model"], asked)


def read_or_nothing(file: Path) -> bytes:
    """Returns a file's content, nothing where it has gone meanwhile."""
    try:
        return file.read_bytes()
    except OSError:
        return b""


def short(handler: Handler, body: dict[str, Any]) -> None:
    """Answers with a word, and a token for every four characters of the prompt."""
    values = content(body)
    values["choices"][0]["message"]["content"] = "Tea"
    asked = len(body["messages"][-1]["content"]) // 4
    values["usage"] = {"prompt_tokens": asked, "completion_tokens": 1}
    handler.send(200, json.dumps(values).encode())


@pytest.mark.slow
@pytest.mark.parametrize("mode", [("--local",), ()], ids=["local", "ray"])
def test_a_study_ends_in_a_front_of_quality_and_token_cost(
    tmp_path: Path, mode: tuple[str, ...]
) -> None:
    out = tmp_path / "out"
    with serving(*[short] * 2000) as server:
        done = run("run", study_file(tmp_path, server, more=PRICES), "--out", out, *mode)
    assert done.returncode == 0, done.stderr
    with Study.open(out, read_only=True) as study:
        assert [trial.status for trial in study.trials] == [TrialStatus.COMPLETED] * 3
        assert study.front()
        for trial in study.trials:
            assert set(trial.measurements) == {"rouge_l", "token_cost", "diversity", *PAID[:2]}
        page = render_report(study)
        lines = account_lines(out, load_study_spec(out / "study.yaml"))
    spent = json.loads((out / "tokens.json").read_text())["spent"]
    assert spent["prompt"] + spent["completion"] == paid_by_jobs(out, "paid_tokens")
    # Two a million of the prompt, eight of the answer.
    money = (2 * spent["prompt"] + 8 * spent["completion"]) / 1e6
    assert paid_by_jobs(out, "paid_money") == pytest.approx(money)
    assert [line.rpartition("; ")[2] for line in lines] == [f"{money:.4f} EUR"]
    assert "2 and 8 EUR per million prompt and answer tokens" in page
    assert "paid_money" in done.stdout
    for nonsense in ("rank per layer", "Where the adapters sit", "0 layers", "parameters</th>"):
        assert nonsense not in page
    # Every question was put once.
    asked = [json.dumps(body, sort_keys=True) for body in server.asked]
    assert len(asked) == len(set(asked))


@pytest.mark.slow
def test_a_user_is_forgotten_with_examples_and_kept_answers(tmp_path: Path) -> None:
    out = tmp_path / "out"

    def noting(handler: Handler, body: dict[str, Any]) -> None:
        """Repeats in notes what the person wrote."""
        prompt = body["messages"][-1]["content"]
        (answer if prompt.startswith("You keep notes on one person") else short)(handler, body)

    with serving(*[noting] * 2000) as server:
        file = study_file(tmp_path, server, trials=2, more=", responses: kept")
        done = run("run", file, "--out", out, "--local", "--include-examples", 3)
        asked = len(server.asked)
        again = run("run", file, "--out", tmp_path / "again", "--local")
        # A study that is repeated in another folder pays nothing.
        assert again.returncode == 0, again.stderr
        assert len(server.asked) == asked
    assert paid_by_jobs(tmp_path / "again", "paid_tokens") == 0
    assert done.returncode == 0, done.stderr
    assert {one.user for one in read_examples(out)} == {1, 2, 3}
    targets = load_task(load_study_spec(file).data).targets
    (texts,) = [one.history for one in targets if one.user == "user000"]
    written = json.dumps(texts[-1].response)[1:-1].upper()
    assert any(written in file.read_text() for file in (tmp_path / "kept").rglob("*.json"))
    done = run("forget", out, "--user", "user000")
    assert done.returncode == 0, done.stdout + done.stderr
    assert {one.user for one in read_examples(out)} == {2, 3}
    assert not list((tmp_path / "kept").rglob("*.json"))
    for file in (file for file in out.rglob("*") if file.is_file()):
        assert b"user000" not in file.read_bytes()
        assert written.encode() not in file.read_bytes().upper()


@pytest.mark.slow
def test_a_study_killed_in_mid_trial_asks_nothing_again_and_loses_no_account(
    tmp_path: Path,
) -> None:
    out = tmp_path / "out"

    def slower(handler: Handler, body: dict[str, Any]) -> None:
        time.sleep(0.05)
        answer(handler, body)

    with serving(*[slower] * 2000) as server:
        command = [*COMMAND, "run", study_file(tmp_path, server), "--out", out, "--local"]
        driver = subprocess.Popen([*map(str, command)], env=ENVIRONMENT, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 100
        while len(server.asked) < 12 and time.monotonic() < deadline:
            time.sleep(0.02)
        driver.send_signal(signal.SIGKILL)
        driver.wait()
        time.sleep(0.3)
        before = len(server.asked)
        kept = {file.stem for file in (out / "responses").rglob("*.json")}
        done = run("resume", out)
        assert done.returncode == 0, done.stderr
        assert kept
        assert not kept & {question_key(body) for body in server.asked[before:]}
        asked = [json.dumps(body, sort_keys=True) for body in server.asked]
        # What was under way when the driver died came back to nobody, and is asked once more.
        assert before >= 12
        assert len(asked) - len(set(asked)) <= 8
        # A trial that is run again has paid for what it asked before, too.
        spent = json.loads((out / "tokens.json").read_text())["spent"]
        known = spent["prompt"] + spent["completion"]
        assert known <= paid_by_jobs(out, "paid_tokens") <= known + spent["unknown"]
        again = run("resume", out)
        assert again.returncode == 0
        assert len(server.asked) == len(asked)


@pytest.mark.slow
@pytest.mark.parametrize("mode", [("--local",), ()], ids=["local", "ray"])
def test_a_server_out_of_order_stops_the_study_and_fails_no_trial(
    tmp_path: Path, mode: tuple[str, ...]
) -> None:
    out = tmp_path / "out"
    with serving(*[answer] * 10, *[refuse(500, retry_after="0")] * 2000) as server:
        done = run("run", study_file(tmp_path, server), "--out", out, *mode)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "HTTP 500, after 2 attempts" in done.stderr
    with Study.open(out, read_only=True) as study:
        assert not any(trial.status is TrialStatus.FAILED for trial in study.trials)
    with serving() as other:
        text = (out / "study.yaml").read_text().replace(server.url, other.url)
        (out / "study.yaml").write_text(text)
        done = run("resume", out)
    assert done.returncode == 0, done.stderr
    assert "3/3 trials" in done.stdout


@pytest.mark.slow
def test_a_budget_that_is_used_up_stops_the_study_before_it_is_exceeded(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with serving(*[short] * 2000) as server:
        file = study_file(tmp_path, server, more=", token_budget: 3000")
        done = run("run", file, "--out", out, "--local")
    assert done.returncode == 2
    assert "endpoint.token_budget" in done.stderr
    spent = json.loads((out / "tokens.json").read_text())["spent"]
    assert 0 < sum(spent.values()) <= 3000


@pytest.mark.slow
def test_the_key_is_in_the_requests_and_nowhere_else(tmp_path: Path) -> None:
    out, shown = tmp_path / "out", set[bool]()

    def look(handler: Handler, body: dict[str, Any]) -> None:
        """Looks whether the key stands in any command line of this machine, then answers."""
        lines = [read_or_nothing(file) for file in Path("/proc").glob("[0-9]*/cmdline")]
        shown.add(any(KEY.encode() in line for line in lines))
        answer(handler, body)

    wrong = refuse(401, b'{"error": {"message": "sk-canary-key is wrong"}}')
    with serving(wrong, *[look] * 2000) as server:
        refused = run("run", study_file(tmp_path, server), "--out", out)
        done = run("resume", out)
    assert shown == {False}
    assert refused.returncode == 2
    assert done.returncode == 0
    assert {headers["authorization"] for headers in server.headers} == {f"Bearer {KEY}"}
    said = refused.stdout + refused.stderr + done.stdout + done.stderr
    files = [path.read_bytes() for path in out.rglob("*") if path.is_file()]
    assert KEY not in said
    assert not any(KEY.encode() in content for content in files)
    assert len(files) > 10


def chat_job(spec: StudySpec, **arm: Any) -> Job:
    space = load_search_space(spec.space, layers=0)
    values = {"time_splits": 1, "communities": 1, "profile": "off", "summary_lines": 2, **arm}
    return Job("search", 0, 0, space.plan(Arm(values), "chat_logo"), seed=0)


def test_a_plan_whose_prompts_are_too_long_for_the_server_fails(tmp_path: Path) -> None:
    with serving() as server:
        spec = load_study_spec(study_file(tmp_path, server))
        server.default = refuse_longer_than(1000)
        (outcome,) = ChatRunner(tmp_path, spec).run((chat_job(spec, retrieved_items=2),))
        assert outcome.failure == Failure(
            "refused", "expected tiny to answer every question, got: HTTP 400 "
            "(context_length_exceeded), after 1 attempts; it answers a short one",
        )  # fmt: skip
        server.default = answer
        (outcome,) = ChatRunner(tmp_path, spec).run((chat_job(spec, retrieved_items=2),))
        assert outcome.failure is None


def test_a_judge_that_refuses_what_it_is_to_judge_fails_no_trial(tmp_path: Path) -> None:
    with serving(*[short] * 99) as server, serving(*[refuse_longer_than(9)] * 99) as judge:
        file = study_file(tmp_path, server)
        judged = f"metrics: [win_rate]\njudge: {{model: referee, base_url: {judge.url}}}"
        file.write_text(file.read_text().replace("metrics: [diversity]", judged))
        spec = load_study_spec(file)
        with pytest.raises(EndpointError, match="expected referee to answer every question"):
            ChatRunner(tmp_path, spec).run((chat_job(spec, retrieved_items=0),))


REFUSED = {
    "chat without endpoint": ("endpoint:", "#", "asks a model behind an endpoint"),
    "endpoint without chat": ("chat_logo", "milp", "needs the model's weights"),
    "loss": ("rouge_l, direction: maximize", "loss, direction: minimize", "needs likelihoods"),
    "concurrency": ("attempts: 2", "concurrency: 0", "concurrency: expected 1 to 1024, got 0"),
    "budget": ("attempts: 2", "token_budget: 0", "token_budget: expected 1 or more"),
    "no address": ("base_url: ", "base_url: ftp", "address of an OpenAI-compatible server"),
    "prompts": ("test_seeds", "prompts: none\ntest_seeds", "folder of prompts, found none"),
    "key file": ("attempts: 2", "key_file: /none/there", "expected a key in /none/there"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_study_files_that_fit_no_endpoint_are_refused_at_their_place(
    tmp_path: Path, kind: str
) -> None:
    old, new, told = REFUSED[kind]
    file = study_file(tmp_path, Server("http://127.0.0.1:9/v1"))
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))
    done = run("run", file, "--out", tmp_path / "out")
    assert done.returncode == 2
    assert told in done.stderr
    assert "study.yaml:" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_adapters_mean_nothing_for_a_model_that_can_only_be_asked(tmp_path: Path) -> None:
    file = study_file(tmp_path, Server("http://127.0.0.1:9/v1"))
    (tmp_path / "space.yaml").write_text(SPACE + "  lora_rank: [1, 2]\n")
    done = run("run", file, "--out", tmp_path / "out")
    assert done.returncode == 2
    assert "'lora_rank' means nothing for a model behind an endpoint" in done.stderr


def test_a_dry_run_says_what_will_be_asked_and_asks_nothing(tmp_path: Path) -> None:
    with serving() as server:
        file = study_file(tmp_path, server, more=f", token_budget: 3000{PRICES}")
        done = run("run", file, "--out", tmp_path / "out", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert f"asks: tiny at {server.url}, 8 questions at once" in done.stdout
    assert "token budget: 3,000 tokens, hard" in done.stdout
    assert "expected money: about 0." in done.stdout
    assert "EUR" in done.stdout
    assert "adapters" not in done.stdout
    assert not server.asked
    assert not (tmp_path / "out").exists()


def test_a_disk_that_is_full_now_and_then_fails_no_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = cycle([True, False])

    def put(path: Path, text: str) -> None:
        if next(turns):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        put_whole(path, text)

    monkeypatch.setattr("milp_search.study.disk_space._POLL_S", 0.001)
    monkeypatch.setattr("milp_search.endpoint.response_cache.put_whole", put)
    monkeypatch.setattr("milp_search.endpoint.token_budget.put_whole", put)
    seven = changed(choices=[{"index": 0, "message": {"role": "assistant", "content": "7"}}])
    with serving() as server, serving() as judge:
        server.default, judge.default = short, seven
        file = study_file(tmp_path, server)
        judged = f"metrics: [win_rate]\njudge: {{model: referee, base_url: {judge.url}}}"
        file.write_text(file.read_text().replace("metrics: [diversity]", judged))
        spec = load_study_spec(file)
        (outcome,) = ChatRunner(tmp_path, spec).run((chat_job(spec, retrieved_items=0),))
    assert outcome.failure is None
    asked = [json.dumps(body, sort_keys=True) for body in server.asked + judge.asked]
    assert len(asked) == len(set(asked)) > 20


def test_a_driver_books_what_workers_before_it_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drive, "execute", lambda *_: None)
    file = study_file(tmp_path, Server("http://127.0.0.1:9/v1"))
    for name, tokens in (("tokens.json", 300), ("judge-tokens.json", 20)):
        # This process, whose number a worker had, lives.
        TokenBudget(tmp_path / "out" / name).set_aside(tokens)
    assert drive.run_study(drive.prepare(load_study_spec(file)), tmp_path / "out", QUIET) == 3
    assert TokenBudget(tmp_path / "out" / "tokens.json").spent() == Spent(0, 0, 300)
    assert TokenBudget(tmp_path / "out" / "judge-tokens.json").spent() == Spent(0, 0, 20)


def test_a_study_does_not_go_on_with_other_prompts_than_it_began_with(tmp_path: Path) -> None:
    out = tmp_path / "out"
    spec = load_study_spec(study_file(tmp_path, Server("http://127.0.0.1:9/v1")))
    with Study.create(
        out, space=load_search_space(spec.space, layers=0), objectives=spec.objectives,
        proposer="random", initial_trials=2, method="chat_logo",
        settings={"prompts_fingerprint": "0" * 16},
    ):  # fmt: skip
        write_resolved(spec, out, versions={}, data_fingerprint="")
    with pytest.raises(StudyError, match="the prompts have changed"):
        drive.resume_study(out, QUIET)


def test_a_black_box_study_has_no_adapters_to_export(tmp_path: Path) -> None:
    with Study.create(
        tmp_path / "out", space=load_search_space("logo_blackbox", layers=0),
        objectives=[Objective("rouge_l", "maximize", 0.0)], proposer="random", initial_trials=2,
        method="chat_logo", settings={"servers": {"endpoint": {"model": "tiny"}}},
    ) as study:  # fmt: skip
        study.tell(study.ask().index, {"rouge_l": 0.5})
    with pytest.raises(StudyError, match="its model is behind an endpoint"):
        copy_adapters(tmp_path / "out", tmp_path / "to")

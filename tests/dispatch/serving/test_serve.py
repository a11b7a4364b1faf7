"""The command that serves: a real process, and the study that asks it."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from dispatch.small_study import small_study
from milp_search.core.errors import StudyError
from milp_search.dispatch.serving.models import front_model
from milp_search.dispatch.serving.serve import ServeError, require_key, serve
from milp_search.study.study import Study

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
COMMAND = [sys.executable, "-m", "milp_search"]


@contextmanager
def serving(*arguments: object) -> Iterator[str]:
    """Yields the address of a server process."""
    command = [*COMMAND, "serve-tiny", "--port", "0", *map(str, arguments)]
    with subprocess.Popen(
        command, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as process:
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            found = re.search(r"http://\S+", line)
            assert found, line
            yield found[0]
        finally:
            process.terminate()
            process.wait(60)


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *map(str, arguments)], env=ENVIRONMENT, capture_output=True, text=True,
        timeout=300, check=False,
    )  # fmt: skip


@pytest.mark.slow
def test_a_black_box_study_runs_against_the_tiny_server(tmp_path: Path) -> None:
    shipped = Path(__file__).parents[3] / "experiments" / "blackbox.yaml"
    out = tmp_path / "out"
    with serving() as url:
        file = tmp_path / "blackbox.yaml"
        text = shipped.read_text().replace("http://127.0.0.1:8077/v1", url)
        text = text.replace("targets: 8", "targets: 2").replace("users: 12", "users: 4")
        text = text.replace("initial_trials: 6", "initial_trials: 2")
        file.write_text(text.replace("max_new_tokens: 24", "max_new_tokens: 4"))
        done = run("run", file, "--out", out, "--trials", 3, "--local")
    assert done.returncode == 0, done.stderr
    with Study.open(out, read_only=True) as study:
        assert len(study.front()) >= 1
        assert all(trial.measurements["token_cost"].mean > 0 for trial in study.front())


@pytest.mark.slow
def test_a_front_trial_answers_each_user_with_their_own_adapters(tmp_path: Path) -> None:
    out = tmp_path / "study"
    assert run("run", small_study(tmp_path), "--out", out, "--local").returncode == 0
    with Study.open(out, read_only=True) as study:
        kept = [trial.index for trial in study.front()]
        size = {n: study.trial(n).measurements["trainable_params"].mean for n in kept}
    trial = max(kept, key=lambda n: size[n])
    model = front_model(out, trial)
    settings = replace(model.trainer.settings, max_new_tokens=8)
    model.trainer.settings = settings
    users = [None, *(user.user for user in model._run.task.targets)]
    jobs = [model.job("What tea?", user) for user in users]
    assert [bool(job.adapters) for job in jobs] == [False, True, True, True]
    expected = [(answers[0].generated or "").strip() for answers in model.trainer.predict(jobs)]
    with serving(out, "--trial", trial) as url:
        found = [ask(url, f"trial-{trial}", user) for user in users]
    assert found == expected


def ask(url: str, model: str, user: str | None) -> str:
    body = {"model": model, "max_tokens": 8, "user": user,
            "messages": [{"role": "user", "content": "What tea?"}]}  # fmt: skip
    request = urllib.request.Request(f"{url}/chat/completions", json.dumps(body).encode())
    with urllib.request.urlopen(request, timeout=60) as reply:
        text: str = json.load(reply)["choices"][0]["message"]["content"]
    return text


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "example.org"])
def test_strangers_are_served_with_a_key_only(host: str) -> None:
    with pytest.raises(ServeError, match="expected a key"):
        require_key(host, None)
    require_key(host, "secret")


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.8.0.1"])
def test_this_machine_needs_no_key(host: str) -> None:
    require_key(host, None)


def test_a_port_that_is_taken_is_told_of(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = run("serve-tiny", "--port", taken.getsockname()[1])
    assert done.returncode == 2
    assert "Address already in use" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"trial": 3}, "--trial with a study's folder, got none"),
        ({"folder": Path("out"), "base_model": "embedded"}, "--base-model without"),
        ({"folder": Path("out"), "device": "cpu"}, "--device without a study's folder, got out"),
    ],
)
def test_an_option_of_no_use_is_refused(options: dict[str, Any], named: str) -> None:
    none = dict.fromkeys(("folder", "trial", "base_model", "device"))
    with pytest.raises(ServeError, match=f"expected {named}"):
        serve(**{**none, **options}, host="127.0.0.1", port=0, console=Console())


def test_a_folder_without_study_is_told_of(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"no study\.sqlite3"):
        front_model(tmp_path, None)

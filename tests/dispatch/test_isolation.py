"""No user's text stands in anything that a study writes, prints or logs, even when it fails."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from io import StringIO
from itertools import cycle
from pathlib import Path

import pytest
import torch
from rich.console import Console

from dispatch.small_study import small_study
from milp_search.core.errors import MeasurementError
from milp_search.dispatch import worker
from milp_search.dispatch.drive import prepare, run_study
from milp_search.dispatch.show import print_front, print_status
from milp_search.dispatch.worker import quotes_nobody
from milp_search.study.spec_file import load_study_spec

pytestmark = pytest.mark.slow

CANARY = "kanarienvogel"
METRICS = "[rouge_l, persona_f1, diversity, retention, loss@cvar, rouge_l@cold_start]"


def data_file(folder: Path) -> Path:
    """Writes three targets and one other, whose texts all hold canaries, and returns the file."""
    records = [
        {
            "user_id": f"user{user}",
            "query": f"what of {CANARY} {user} {number}?",
            "response": f"the {CANARY} sings, {user} {number}",
            "timestamp": 86_400 * number,
        }
        for user in range(4)
        for number in range(8 - user)
    ]
    file = folder / "data.jsonl"
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    return file


def run(folder: Path, trials: int) -> tuple[Path, int, str]:
    """Runs a study on these users; returns its folder, exit code and what it printed."""
    file = small_study(folder, trials=trials, metrics=METRICS)
    text = file.read_text()
    population = next(line for line in text.splitlines() if "population:" in line)
    text = text.replace(population, f"  path: {data_file(folder)}")
    text = text.replace("training:", "training:\n  base_training: lora")
    file.write_text(text)
    spec = load_study_spec(file, {"dispatch.local": True, "initial_trials": 1})
    printed, out = StringIO(), folder / "out"
    console = Console(file=printed, width=200)
    code = run_study(prepare(spec, file), out, console)
    print_status(out, console)
    print_front(out, console)
    return out, code, printed.getvalue()


def written(folder: Path) -> Iterator[tuple[Path, bytes]]:
    """Yields every file of a study's folder with its name and content.

    None is left out: nor adapters, whose files have texts beside the numbers, nor the cache, in
    which there would be what the base says of users, were there profiles in the prompts.
    """
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield path, path.name.encode() + path.read_bytes()


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    with caplog.at_level(logging.DEBUG):
        yield caplog


def test_a_study_writes_prints_and_logs_nobodys_text(
    tmp_path: Path, logged: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    folder, code, printed = run(tmp_path, trials=2)
    assert code == 0
    names = {path.name for path, _ in written(folder)}
    assert names >= {
        "study.sqlite3", "study.yaml", "report.html", "trials.csv", "front.json", "manifest.json",
        "adapter_config.json", "adapter_model.safetensors",
    }  # fmt: skip
    places = {path.relative_to(folder).parts[0] for path, _ in written(folder)}
    assert places >= {"adapters", "cache", "results"}
    assert [path for path, content in written(folder) if CANARY.encode() in content.lower()] == []
    assert CANARY not in printed + logged.text + "".join(capfd.readouterr())
    assert "persona_f1" in (folder / "trials.csv").read_text()


def test_a_study_whose_trials_fail_quoting_a_user_writes_no_text_either(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    logged: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    kinds = cycle([ValueError, RuntimeError, KeyError, OSError])

    def quotes(given: object) -> None:
        task = given.task  # type: ignore[attr-defined]
        raise next(kinds)(f"cannot learn {task.targets[0].history[0].response!r}")

    monkeypatch.setattr(worker, "train", quotes)
    folder, code, printed = run(tmp_path, trials=2)
    assert code == 3
    log = (folder / "log.txt").read_text()
    for kind in ("ValueError", "RuntimeError", "KeyError", "OSError"):
        assert f"\n{kind}\n" in log
    assert [path for path, content in written(folder) if CANARY.encode() in content.lower()] == []
    assert CANARY not in printed + logged.text + "".join(capfd.readouterr())


def raised(error: Exception) -> Exception:
    """Returns the exception as one that was raised here, outside of torch and of our code."""
    with pytest.raises(type(error)) as caught:
        raise error
    return caught.value


def test_messages_of_torch_of_the_system_and_ours_stand_in_the_log(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="shapes") as shapes:
        torch.nn.functional.linear(torch.zeros(2, 3), torch.zeros(4, 5))
    assert not quotes_nobody(shapes.value)  # torch's, but raised by an operation in a test
    with pytest.raises(RuntimeError, match="shapes") as inside:
        torch.nn.Linear(5, 4)(torch.zeros(2, 3))
    assert quotes_nobody(inside.value)
    with pytest.raises(OSError, match="none") as missing:
        (tmp_path / "none").open()
    assert quotes_nobody(missing.value)
    assert quotes_nobody(raised(MeasurementError("expected tokens, got none")))


def test_messages_of_others_do_not_stand_in_the_log() -> None:
    for error in (ValueError("text"), RuntimeError("text"), OSError("text"), KeyError("text")):
        assert not quotes_nobody(raised(error))
    assert not quotes_nobody(RuntimeError("never raised"))

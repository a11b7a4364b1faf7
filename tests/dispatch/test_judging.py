"""Judged studies, and a judge beside people."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from dispatch.small_study import small_study
from endpoint.server import Handler, content, refuse, serving
from milp_search.core.errors import DataError, SpecError
from milp_search.core.judged import Case
from milp_search.data.load import load_task
from milp_search.dispatch.judging import print_agreement, read_labels
from milp_search.personalize.judge import content_of
from milp_search.study.report import render_report
from milp_search.study.spec_file import load_study_spec
from milp_search.study.study import Study
from personalize.chat_models import between

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "milp_search", *map(str, arguments)],
        env=ENVIRONMENT, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


def by_length(handler: Handler, body: dict[str, Any]) -> None:
    """Judges by the length of the response, and says nonsense of the longest."""
    prompt = body["messages"][-1]["content"]
    found = re.search(r"<response>\n(.*?)\n</response>", prompt, re.DOTALL)
    length = len(found[1]) if found else 0
    values = content(body)
    values["choices"][0]["message"]["content"] = str(min(1 + length // 4, 10))
    handler.send(200, json.dumps(values).encode())


def judged_study(folder: Path, url: str, metrics: str) -> Path:
    file = small_study(folder, metrics=metrics)
    judge = f"judge: {{model: referee, base_url: {url}, attempts: 1}}\n"
    file.write_text(file.read_text() + judge)
    return file


@pytest.mark.slow
def test_a_study_is_judged_beside_tplp_and_the_judge_beside_itself(tmp_path: Path) -> None:
    metrics = "[win_rate, win_rate_offline]"
    with serving(*[by_length] * 3000) as server:
        file = judged_study(tmp_path, server.url, metrics)
        done = run("run", file, "--out", tmp_path / "out", "--local")
    assert done.returncode == 0, done.stderr
    with Study.open(tmp_path / "out", read_only=True) as study:
        for trial in study.trials:
            means = {name: value.mean for name, value in trial.measurements.items()}
            assert 0 <= means["win_rate"] <= 1
            assert 0 <= means["win_rate_offline"] <= 1
            # It looks at the response alone, and always answers with a number.
            assert means["judge_unparsable"] == 0
            assert means["judge_flipped"] == 0
            assert means["judge_shift"] == 0
            assert {"judge_ties", "judge_length"} <= set(means)
        jobs = [trial.measurements for trial in study.trials]
        jobs += [tests[7] for trial in study.front() if (tests := study.tests(trial.index))]
        paid = sum(told["judge_paid_tokens"].mean for told in jobs)
        page = render_report(study)
    # Seven and three tokens a question.
    assert paid == 10 * len(server.asked)
    assert "referee, a model; win_rate_offline: no judge, an offline count of shared words" in page
    assert "judge_unparsable" in page
    prompts = {body["messages"][-1]["content"] for body in server.asked}
    assert len(prompts) == len(server.asked)
    assert all("<content>" in prompt and "<response>" in prompt for prompt in prompts)
    task = load_task(load_study_spec(file).data)
    contents = {content_of(target.history).strip(): target.user for target in task.targets}
    asked = {target.user: {one.query for one in (*target.validation, *target.test)}
             for target in task.targets}  # fmt: skip
    for prompt in prompts:
        # Nothing but the user's own content stands beside the user's own query.
        user = contents[between(prompt, "content")]
        assert between(prompt, "query") in asked[user]


@pytest.mark.slow
def test_a_judge_out_of_order_stops_the_study_and_fails_no_trial(tmp_path: Path) -> None:
    with serving(*[refuse(500)] * 3000) as server:
        file = judged_study(tmp_path, server.url, "[win_rate]")
        done = run("run", file, "--out", tmp_path / "out", "--local")
    assert done.returncode == 2
    assert "referee at http" in done.stderr
    with Study.open(tmp_path / "out", read_only=True) as study:
        assert not any(trial.status.terminal for trial in study.trials)


def test_a_metric_that_needs_a_judge_is_refused_without_one(tmp_path: Path) -> None:
    done = run("run", small_study(tmp_path, metrics="[win_rate]"), "--out", tmp_path / "out")
    assert done.returncode == 2
    assert "'win_rate' needs a judge, and there is none" in done.stderr
    assert "win_rate_offline" in done.stderr


def labels(folder: Path, *rows: object) -> Path:
    file = folder / "labels.jsonl"
    file.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
    return file


def label(response: str, score: object) -> dict[str, object]:
    return {"content": "tea milk", "query": "drink?", "response": response, "score": score}


def test_the_offline_judge_is_told_apart_and_compared_with_people(tmp_path: Path) -> None:
    # Its scores are 10, 1 and, for one of two words, 1 + 9 * 2/3 = 7.
    file = labels(tmp_path, label("milk tea", 10), label("beer", 2), "", label("tea", 7))
    done = run("judge", file)
    assert done.returncode == 0, done.stderr
    assert "judge: offline word overlap (no model)" in done.stdout
    assert "scores compared: 3; answers that were no score: 0" in done.stdout
    assert "accuracy: 0.667 (within one point: 1.000)" in done.stdout


def test_a_models_judgements_are_kept_beside_the_labels(tmp_path: Path) -> None:
    with serving(*[by_length] * 99) as server:
        study = judged_study(tmp_path, server.url, "[win_rate]")
        file = labels(tmp_path, label("x", 1), label("a long response", 4))
        first, second = (run("judge", file, "--study", study) for _ in range(2))
    assert "judge: referee" in first.stdout
    assert "accuracy: 1.000" in first.stdout
    assert second.stdout == first.stdout
    assert len(server.asked) == 2


@pytest.mark.parametrize(
    "row",
    ["{", "[]", "1", label("x", 0), label("x", 11), label("x", "5"), label("x", True),
     {"content": "a", "query": "b", "score": 3}, {**label("x", 3), "response": 4}],
)  # fmt: skip
def test_what_is_no_label_is_refused_at_its_line(tmp_path: Path, row: object) -> None:
    with pytest.raises(DataError, match=r"labels\.jsonl:2: expected content, query, response"):
        read_labels(labels(tmp_path, label("x", 1), row))


def test_labels_are_read_and_must_be_there(tmp_path: Path) -> None:
    cases, scores = read_labels(labels(tmp_path, label("x", 2.5)))
    assert cases == [Case("tea milk", "drink?", "x")]
    assert scores == [2.5]
    with pytest.raises(DataError, match="at least one label"):
        read_labels(labels(tmp_path, ""))
    with pytest.raises(DataError, match="FileNotFoundError"):
        read_labels(tmp_path / "none")


def test_line_separators_within_a_text_end_no_line(tmp_path: Path) -> None:
    text = "milk\u2028tea\u2029with\x85rain"
    row = json.dumps(label(text, 3), ensure_ascii=False)
    cases, _ = read_labels(labels(tmp_path, row, row))
    assert [case.response for case in cases] == [text, text]


def test_a_folder_for_answers_without_a_judge_who_gives_any_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="expected --out with --study"):
        print_agreement(labels(tmp_path, label("x", 1)), None, tmp_path / "kept", Console())
    assert not (tmp_path / "kept").exists()

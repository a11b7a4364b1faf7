"""Another attempt of a run takes every stage from its checkpoints, whatever the method."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from milp_search.adapters import conditioned, pieces
from milp_search.adapters.checkpoints import Checkpoints
from milp_search.adapters.peft_trainer import PeftTrainer
from milp_search.core.records import Prediction
from milp_search.personalize import choices
from milp_search.personalize.method import Run
from milp_search.personalize.run import METHODS, answer, train
from personalize.cached import BASE
from personalize.making import SETTINGS, USERS, Recorder, plan, run_of
from personalize.test_reuse import numbers


def attempt(folder: Path, method: str, seed: int = 0, **changes: Any) -> tuple[Run, Recorder]:
    """Returns a run as a new process would make it, without a cache, and what sees its jobs."""
    recorder = Recorder(PeftTrainer(BASE, SETTINGS))
    checkpoints = Checkpoints.open(folder, BASE.fingerprint, None)
    run = run_of(plan(method, **changes), checkpoints.behind(recorder), seed)
    return replace(run, checkpoints=checkpoints), recorder


def outcome(run: Run) -> tuple[dict[str, list[bytes]], tuple[Prediction, ...]]:
    trained = train(run)
    return numbers(trained.stacks), answer(run, trained, "validation", generate=True).items


@pytest.mark.parametrize("method", METHODS)
def test_another_attempt_trains_nothing_and_ends_bit_for_bit_alike(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("trained again")

    plain = outcome(run_of(plan(method), PeftTrainer(BASE, SETTINGS)))
    assert outcome(attempt(tmp_path, method)[0]) == plain
    monkeypatch.setattr(conditioned, "_fit", refuse)
    monkeypatch.setattr(pieces, "_gates", refuse)
    monkeypatch.setattr(choices, "train_scorer", refuse)
    run, recorder = attempt(tmp_path, method)
    assert outcome(run) == plain
    assert recorder.jobs == []
    kept = {path.parent.name for path in tmp_path.rglob("*.safetensors")}
    learned = {"p2p": "networks", "uelp": "networks", "per_pcs": "gates", "hydra": "reranker"}
    assert learned.get(method) in {None, *kept}


@pytest.mark.parametrize("method", ["p2p", "uelp"])
@pytest.mark.parametrize("change", [{"seed": 1}, {"retrieved_items": 2}], ids=["seed", "data"])
def test_a_network_of_another_seed_or_other_prompts_is_not_taken(
    method: str, change: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    monkeypatch.setattr(conditioned, "_fit", lambda *_: calls.append(1))
    for expected in (1, 1):
        train(attempt(tmp_path, method)[0])
        assert len(calls) == expected
    train(attempt(tmp_path, method, **change)[0])
    assert len(calls) == 2


def test_scorers_of_another_seed_are_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(attempt(tmp_path, "hydra")[0])
    before = {path.name for path in tmp_path.rglob("*.safetensors")}
    train(attempt(tmp_path, "hydra", seed=1)[0])
    after = {
        path.name
        for kind in ("reranker", "chooser")
        for path in (tmp_path / kind).glob("*.safetensors")
    }
    assert len(after) == 4
    assert len(after - before) == 2


@pytest.mark.parametrize("method", ["milp_logo", "per_pcs", "hydra", "p2p"])
def test_nothing_in_the_folder_names_a_user_or_quotes_a_text(method: str, tmp_path: Path) -> None:
    outcome(attempt(tmp_path, method)[0])
    found = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert found
    for file in found:
        content = str(file.relative_to(tmp_path)).encode() + file.read_bytes()
        assert not [word for word in (*USERS, "zeno", "tea") if word.encode() in content]

"""A run with a cache gives what one without gives, and trains less."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from milp_search.adapters.peft_trainer import PeftTrainer
from milp_search.adapters.reusing_trainer import ReusingTrainer
from milp_search.personalize.method import Run, Stacks
from milp_search.personalize.run import METHODS, answer, train
from personalize.cached import BASE, cached, lookups
from personalize.making import SETTINGS, Recorder, plan, run_of


def left_to_train(run: Run) -> Counter[str]:
    """Returns how many jobs of each stage the run still has to train."""
    train(run)
    assert isinstance(run.trainer, ReusingTrainer)
    assert isinstance(run.trainer.inner, Recorder)
    names = Counter[str]()
    for job in run.trainer.inner.jobs:
        stage = job.key.partition(":")[0]
        names[stage if stage == "global" else "tuning" if job.examples[0].prompt else "memory"] += 1
    return names


def numbers(stacks: Stacks) -> dict[str, list[bytes]]:
    return {
        user: [m.numpy().tobytes() for one in stack for pair in one.tensors.values() for m in pair]
        for user, stack in stacks.items()
    }


@pytest.mark.parametrize("method", METHODS)
def test_a_run_with_a_cache_gives_what_one_without_gives_bit_for_bit(
    method: str, tmp_path: Path
) -> None:
    plain = run_of(plan(method), PeftTrainer(BASE, SETTINGS))
    trained = train(plain)
    answers = answer(plain, trained, "validation", generate=True)
    train(cached(tmp_path, method, time_splits=1))
    for _ in ("cold", "warm", "warm still"):
        run = cached(tmp_path, method)
        found = train(run)
        assert numbers(found.stacks) == numbers(trained.stacks)
        assert answer(run, found, "validation", generate=True) == answers


def test_the_same_plan_again_trains_the_tuning_stage_alone(tmp_path: Path) -> None:
    assert left_to_train(cached(tmp_path)) == {"global": 4, "memory": 4, "tuning": 4}
    assert left_to_train(cached(tmp_path)) == {"tuning": 4}


@pytest.mark.parametrize(
    ("change", "left"),
    [
        ({"retrieved_items": 3}, {"tuning": 4}),
        ({"mediator": "shuffled"}, {"tuning": 4}),
        ({"mediator": "none"}, {"memory": 4, "tuning": 4}),
        ({"method": "logo"}, {"tuning": 4}),
        ({"method": "milp"}, {"memory": 4, "tuning": 4}),
        ({"time_splits": 1}, {"global": 2, "memory": 4, "tuning": 4}),
        ({"communities": 1}, {"global": 2, "memory": 4, "tuning": 4}),
        ({"seed": 1}, {"global": 4, "memory": 4, "tuning": 4}),
    ],
)
def test_a_plan_that_differs_trains_what_the_difference_touches(
    tmp_path: Path, change: dict[str, Any], left: dict[str, int]
) -> None:
    train(cached(tmp_path))
    assert left_to_train(cached(tmp_path, **change)) == left


def test_a_chain_cut_short_goes_on_from_the_periods_that_were_trained(tmp_path: Path) -> None:
    class Interrupted(Recorder):
        def train(self, jobs: Any) -> Any:
            if len(self.jobs) == 4:  # two communities, two periods
                raise KeyboardInterrupt
            return super().train(jobs)

    run = cached(tmp_path, "logo", time_splits=4)
    assert run.cache is not None
    cut = ReusingTrainer(Interrupted(PeftTrainer(BASE, SETTINGS)), run.cache, BASE.fingerprint)
    with pytest.raises(KeyboardInterrupt):
        train(replace(run, trainer=cut))
    assert left_to_train(cached(tmp_path, "logo", time_splits=4)) == {"global": 4, "tuning": 4}


def test_lookups_are_counted_by_kind(tmp_path: Path) -> None:
    for hit in (False, True):
        run = cached(tmp_path)
        answer(run, train(run), "validation", generate=False)
        kinds = {"profile_vectors": 1, "communities": 1, "retrieval": 2}
        kinds |= {"global_adapters": 4, "local_adapters": 4} | ({} if hit else {"embeddings": 2})
        assert lookups(run) == {
            kind: (count, 0) if hit else (0, count) for kind, count in kinds.items()
        }


def test_nothing_in_the_folder_names_a_user_or_quotes_a_text(tmp_path: Path) -> None:
    run = cached(tmp_path)
    answer(run, train(run), "test", generate=True)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) == 4 + 4 + 2 + 1 + 1 + 2
    for file in files:
        content = str(file.relative_to(tmp_path)).encode() + file.read_bytes()
        for word in (b"anna", b"bert", b"cleo", b"dora", b"zeno", b"tea"):
            assert word not in content

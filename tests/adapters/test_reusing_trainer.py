from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from adapters.counting import JOB, PLAN, SETTINGS, Counting, reusing, trained
from adapters.making import EXAMPLES, llama
from milp_search.adapters.jobs import Adapter, Answer, Example, PredictJob, TrainJob
from milp_search.adapters.peft_trainer import PeftTrainer
from milp_search.adapters.reusing_trainer import ReusingTrainer
from milp_search.adapters.stage_cache import StageCache
from milp_search.core.plan import AdapterPlan


def numbers(adapters: Sequence[Adapter]) -> list[float]:
    return [float(one.tensors["layer.one"][0][0, 0]) for one in adapters]


def test_only_the_misses_are_trained_in_one_call_and_order_is_kept(tmp_path: Path) -> None:
    jobs = [replace(JOB, key=f"global:{n}") for n in range(5)]
    reusing(tmp_path, Counting()).train([jobs[1], jobs[3]])  # they hold 0 and 1
    inner = Counting()
    adapters = reusing(tmp_path, inner).train(jobs)
    assert [[job.key for job in call] for call in inner.calls] == [
        ["global:0", "global:2", "global:4"]
    ]
    assert numbers(adapters) == [0, 0, 1, 1, 2]
    assert [one.key for one in adapters] == [job.key for job in jobs]
    assert all(one.plan == PLAN for one in adapters)


def test_equal_jobs_of_one_call_are_trained_once(tmp_path: Path) -> None:
    inner = Counting()
    trainer = reusing(tmp_path, inner)
    adapters = trainer.train([JOB, replace(JOB, seed=9), JOB])
    assert len(inner.calls[0]) == 2
    assert numbers(adapters) == [0, 1, 0]
    assert trainer.cache.counts == {"global_adapters": (1, 2)}


def test_a_call_whose_jobs_all_hit_asks_the_inner_trainer_for_nothing(tmp_path: Path) -> None:
    trained(tmp_path, JOB)
    inner = Counting()
    reusing(tmp_path, inner).train([JOB])
    assert inner.calls == []


@pytest.mark.parametrize(
    "change",
    [{"reusable": False}, {"examples": ()}, {"plan": AdapterPlan((0, 0, 0))}],
    ids=["not reusable", "no examples", "no rank"],
)
def test_jobs_that_are_not_worth_it_are_trained_each_time(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    job = replace(JOB, **change)
    assert (trained(tmp_path, job, job), trained(tmp_path, job)) == (2, 1)
    assert [*tmp_path.rglob("*")] == []


@pytest.mark.parametrize(("stage", "kept"), [("local", False), ("global", True)])
def test_a_users_adapter_is_kept_if_it_is_small_and_a_communitys_always(
    tmp_path: Path, stage: str, kept: bool
) -> None:
    job = replace(JOB, key=f"{stage}:a")
    for _ in range(2):
        inner = Counting(size=1000)  # A and B of 4,000 bytes each
        reusing(tmp_path, inner, local_mib=0.007).train([job])
    assert (inner.calls == []) == kept


def test_a_damaged_entry_is_trained_anew_and_then_hits(tmp_path: Path) -> None:
    trained(tmp_path, JOB)
    (file,) = tmp_path.glob("*/*")
    file.write_bytes(file.read_bytes()[:-1])
    assert (trained(tmp_path, JOB), trained(tmp_path, JOB)) == (1, 0)


def test_a_failed_training_keeps_nothing(tmp_path: Path) -> None:
    class Failing(Counting):
        def train(self, jobs: Sequence[TrainJob]) -> list[Adapter]:
            raise MemoryError

    with pytest.raises(MemoryError):
        reusing(tmp_path, Failing()).train([JOB])
    assert trained(tmp_path, JOB) == 1


def chain(trainer: ReusingTrainer, *periods: Sequence[Example]) -> None:
    last: Adapter | None = None
    for number, examples in enumerate(periods):
        job = replace(JOB, examples=tuple(examples), seed=number, below=(), start=last)
        (last,) = trainer.train([job])


def test_chains_that_begin_alike_share_their_first_periods_and_no_later_ones(
    tmp_path: Path,
) -> None:
    a, b, c, d = ([example] for example in EXAMPLES[:4])
    chain(reusing(tmp_path, Counting()), a, b, c)
    others = (((a, b, d), 2), ((a, c, b), 1), ((b, a, c), 0), ((a, b, c), 3))
    for number, (periods, hits) in enumerate(others, 1):
        trainer = reusing(tmp_path, Counting(first=10 * number))
        chain(trainer, *periods)
        assert trainer.cache.counts == {"global_adapters": (hits, 3 - hits)}


# --- the real trainer -----------------------------------------------------------------------


def content(one: Adapter) -> list[tuple[str, bytes, bytes]]:
    return [
        (path, a.numpy().tobytes(), b.numpy().tobytes()) for path, (a, b) in one.tensors.items()
    ]


@pytest.mark.parametrize("first", [[0], [1, 2], [0, 1, 2]])
def test_adapters_are_those_of_the_inner_trainer_bit_for_bit(
    tmp_path: Path, first: list[int]
) -> None:
    base = llama()
    jobs = [
        TrainJob(f"local:{n}", EXAMPLES[n:], PLAN, n, epochs=1, reusable=True) for n in range(3)
    ]
    plain = PeftTrainer(base, SETTINGS).train(jobs)

    def new() -> ReusingTrainer:
        inner = PeftTrainer(base, SETTINGS)
        return ReusingTrainer(inner, StageCache(tmp_path), base.fingerprint)

    new().train([jobs[n] for n in first])
    trainer = new()
    assert [*map(content, trainer.train(jobs))] == [*map(content, plain)]
    assert trainer.cache.counts == {"local_adapters": (len(first), 3 - len(first))}


def test_names_and_metadata_hold_no_users_id_or_text(tmp_path: Path) -> None:
    base = llama()
    trainer = ReusingTrainer(PeftTrainer(base, SETTINGS), StageCache(tmp_path), base.fingerprint)
    secret = Example("annaasks", "annahears")
    trainer.train([TrainJob("local:annaid", (secret,), PLAN, 0, epochs=1, reusable=True)])
    trainer.embed(["annaasks", "annahears"])
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) == 2
    for file in files:
        assert "anna" not in str(file.relative_to(tmp_path))
        assert b"anna" not in file.read_bytes()


# --- the rest of the interface --------------------------------------------------------------


def test_embeddings_of_one_call_come_back_in_order_and_hit_in_a_new_process(
    tmp_path: Path,
) -> None:
    texts = ["aa", "b", "aa", ""]
    for lookups, embedded in (((0, 1), [["aa", "b", ""]]), ((1, 0), [])):
        inner = Counting()
        trainer = reusing(tmp_path, inner)
        assert trainer.embed(texts).tolist() == [[2], [1], [2], [0]]
        assert trainer.cache.counts == {"embeddings": lookups}
        assert inner.embedded == embedded


@pytest.mark.parametrize(
    ("base", "max_length", "texts"),
    [("other", 200, ["a", "b"]), ("base", 100, ["a", "b"]), ("base", 200, ["a"]),
     ("base", 200, ["ab"])],
)  # fmt: skip
def test_another_base_length_or_text_is_embedded_anew(
    tmp_path: Path, base: str, max_length: int, texts: list[str]
) -> None:
    reusing(tmp_path, Counting()).embed(["a", "b"])
    inner = Counting(replace(SETTINGS, max_length=max_length))
    reusing(tmp_path, inner, base).embed(texts)
    assert inner.embedded == [texts]


def test_predictions_settings_and_halvings_are_the_inner_trainers(tmp_path: Path) -> None:
    inner = Counting()
    trainer = reusing(tmp_path, inner)
    assert trainer.predict([PredictJob(EXAMPLES[:2])]) == [[Answer(1.0, 2, None)] * 2]
    trainer.settings, trainer.halvings = replace(SETTINGS, batch_size=9), 2
    assert (inner.settings.batch_size, inner.halvings) == (9, 2)
    assert (trainer.settings.batch_size, trainer.halvings) == (9, 2)

"""Which trainer a study file makes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import pytest
import torch
from pydantic import ValidationError

from adapters.chatting import chat_llama
from adapters.encoders import encoder
from adapters.making import llama
from milp_search.adapters.base_model import text_fingerprint
from milp_search.adapters.chat_template import chat_frame
from milp_search.adapters.encoder_trainer import EncoderTrainer
from milp_search.adapters.peft_trainer import PeftTrainer
from milp_search.adapters.reusing_trainer import ReusingTrainer
from milp_search.core.settings import TrainingSettings
from milp_search.core.trial import Objective
from milp_search.dispatch import make_trainer as making
from milp_search.dispatch.make_trainer import make_cache, make_trainer, reading
from milp_search.study.spec import DispatchSettings, StudySpec


def spec(chat_template: Literal["auto", "none"] = "auto", **settings: Any) -> StudySpec:
    return StudySpec(
        space="milp",
        objectives=(Objective("loss", "minimize"),),
        training=TrainingSettings(max_length=60, chat_template=chat_template),
        dispatch=DispatchSettings(**settings),
    )


def test_a_plain_trainer_without_reuse_is_pefts_alone(tmp_path: Path) -> None:
    plain = spec(trainer="plain", reuse=False)
    assert make_cache(plain, tmp_path) is None
    trainer = make_trainer(llama(), plain)
    assert type(trainer) is PeftTrainer
    assert trainer.settings.max_length == 60


def test_with_reuse_the_cache_in_the_studys_folder_is_asked_first(tmp_path: Path) -> None:
    plain, base = spec(trainer="plain"), llama()
    cache = make_cache(plain, tmp_path)
    assert cache is not None
    assert cache.folder == tmp_path / "cache"
    trainer = make_trainer(base, plain, cache)
    assert isinstance(trainer, ReusingTrainer)
    assert type(trainer.inner) is PeftTrainer
    assert (trainer.cache, trainer.base_fingerprint) == (cache, text_fingerprint(base))


def test_the_cache_is_as_large_as_the_study_says(tmp_path: Path) -> None:
    default, small = make_cache(spec(), tmp_path), make_cache(spec(cache_gib=0.25), tmp_path)
    assert default is not None
    assert small is not None
    assert (default.limit, small.limit) == (2**30, 2**28)
    with pytest.raises(ValidationError, match="greater than 0"):
        spec(cache_gib=0)


def test_a_chat_template_is_named_only_where_there_is_one_and_it_is_used() -> None:
    chat, bare = chat_llama(), llama()
    frame = chat_frame(chat.tokenizer, "auto")
    assert frame is not None
    assert reading(chat, spec("auto"), ()) == [asdict(frame)]
    assert reading(chat, spec("none"), ()) == reading(bare, spec("auto"), ("a",)) == []
    # Without one the name of the base is what it was.
    assert text_fingerprint(bare, []) == text_fingerprint(bare) != text_fingerprint(bare, ["a"])


def test_an_encoder_has_a_trainer_of_its_own_whatever_the_study_says(tmp_path: Path) -> None:
    base, packed = encoder(), spec(trainer="packed")
    trainer = make_trainer(base, packed, make_cache(packed, tmp_path), ("comedy", "drama"))
    assert isinstance(trainer, ReusingTrainer)
    assert isinstance(trainer.inner, EncoderTrainer)
    assert trainer.inner.choices == ("comedy", "drama")
    assert trainer.base_fingerprint == text_fingerprint(base, ["comedy", "drama"])


@pytest.fixture
def given_mib(monkeypatch: pytest.MonkeyPatch) -> Callable[..., float | None]:
    """Returns what tells the memory that a packed trainer is given; the GPU has 8 GiB free."""

    def told(_: Any, __: Any, *, memory_mib: float | None, spill: Any) -> SimpleNamespace:
        return SimpleNamespace(memory_mib=memory_mib)

    def of(place: str = "cuda", **settings: Any) -> float | None:
        base = replace(llama(), device=torch.device(place))
        found: Any = make_trainer(base, spec(**settings))
        given: float | None = found.memory_mib
        return given

    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (2**33, 2**33))
    monkeypatch.setattr(making, "PackedTrainer", told)
    return of


def test_workers_that_are_all_on_one_gpu_share_what_is_free_there(
    given_mib: Callable[..., float | None],
) -> None:
    assert given_mib(device="cuda", parallel=4) == 2048
    assert given_mib(gpus_per_trial=0.25, parallel=4) == 2048
    # None is all that is free when it is looked at.
    assert given_mib(gpus_per_trial=1.0, parallel=4) is None
    assert given_mib(device="cuda", local=True, parallel=4) is None


def test_the_adapters_of_a_pack_have_their_half_of_main_memory_and_nothing_of_a_gpus(
    given_mib: Callable[..., float | None],
) -> None:
    assert given_mib("cpu", memory_gib=3.0) == 1536
    assert given_mib("cuda", memory_gib=3.0, gpus_per_trial=1.0) == 3072

"""Which trainer a study file makes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from adapters.chatting import chat_llama
from adapters.making import llama
from milp_search.adapters.base_model import text_fingerprint
from milp_search.adapters.peft_trainer import PeftTrainer
from milp_search.adapters.reusing_trainer import ReusingTrainer
from milp_search.core.settings import TrainingSettings
from milp_search.core.trial import Objective
from milp_search.dispatch.make_trainer import base_key, make_cache, make_trainer
from milp_search.study.spec import DispatchSettings, StudySpec


def spec(chat_template: Literal["auto", "none"] = "auto", **settings: Any) -> StudySpec:
    return StudySpec(
        space="milp",
        objectives=(Objective("loss", "minimize"),),
        training=TrainingSettings(max_length=64, chat_template=chat_template),
        dispatch=DispatchSettings(**settings),
    )


def test_a_plain_trainer_without_reuse_is_pefts_alone(tmp_path: Path) -> None:
    plain = spec(trainer="plain", reuse=False)
    assert make_cache(plain, tmp_path) is None
    trainer = make_trainer(llama(), plain)
    assert type(trainer) is PeftTrainer
    assert trainer.settings.max_length == 64


def test_with_reuse_the_cache_in_the_studys_folder_is_asked_first(tmp_path: Path) -> None:
    plain, base = spec(trainer="plain"), llama()
    cache = make_cache(plain, tmp_path)
    assert cache is not None
    assert cache.folder == tmp_path / "cache"
    trainer = make_trainer(base, plain, cache)
    assert isinstance(trainer, ReusingTrainer)
    assert type(trainer.inner) is PeftTrainer
    assert (trainer.cache, trainer.base_fingerprint) == (cache, text_fingerprint(base))


def test_the_bases_key_changes_with_a_chat_template_that_is_used() -> None:
    chat, bare = chat_llama(), llama()
    assert base_key(chat, spec("auto")) != base_key(chat, spec("none")) == text_fingerprint(chat)
    assert base_key(bare, spec("auto")) == base_key(bare, spec("none")) == text_fingerprint(bare)

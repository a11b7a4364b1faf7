"""The trainers that must all do the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import pytest

from adapters.making import llama
from milp_search.adapters.jobs import AdapterTrainer
from milp_search.adapters.packed.trainer import PackedTrainer
from milp_search.adapters.peft_trainer import PeftTrainer
from milp_search.adapters.reusing_trainer import ReusingTrainer
from milp_search.adapters.stage_cache import StageCache
from milp_search.core.settings import TrainingSettings

SETTINGS = TrainingSettings(learning_rate=1e-2, batch_size=2, max_length=100, max_new_tokens=6)
BASE = llama()


class Make(Protocol):
    """Makes a trainer of the kind under test."""

    def __call__(self, **changes: Any) -> AdapterTrainer:
        """Returns a new trainer whose settings are changed so."""
        ...


@pytest.fixture(params=["plain", "packed", "reusing plain", "reusing packed"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    """Returns what makes trainers of a kind; those of one test share a cache."""

    def made(**changes: Any) -> AdapterTrainer:
        how = replace(SETTINGS, **changes)
        inner: AdapterTrainer
        inner = PackedTrainer(BASE, how) if "packed" in request.param else PeftTrainer(BASE, how)
        if "reusing" not in request.param:
            return inner
        return ReusingTrainer(inner, StageCache(tmp_path), BASE.fingerprint)

    return made

"""Runs with a cache behind them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from adapters.making import llama
from milp_search.adapters.peft_trainer import PeftTrainer
from milp_search.adapters.reusing_trainer import ReusingTrainer
from milp_search.adapters.stage_cache import StageCache
from milp_search.personalize.method import Run
from personalize.making import SETTINGS, Recorder, plan, run_of

BASE = llama()


def cached(folder: Path, method: str = "milp_logo", seed: int = 0, **changes: Any) -> Run:
    """Returns a run as a new process would make it; its recorder sees what is left to train."""
    recorder, cache = Recorder(PeftTrainer(BASE, SETTINGS)), StageCache(folder)
    trainer = ReusingTrainer(recorder, cache, BASE.fingerprint)
    run = run_of(plan(method, **changes), trainer, seed)
    return replace(run, cache=cache, base_fingerprint=BASE.fingerprint)


def lookups(run: Run) -> Mapping[str, tuple[int, int]]:
    """Returns the hits and misses of a run's cache by kind."""
    assert run.cache is not None
    return run.cache.counts

"""The one place where a study's trainer and its cache are made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from milp_search.adapters.base_model import BaseModel, text_fingerprint
from milp_search.adapters.chat_template import chat_frame
from milp_search.adapters.encoder_trainer import EncoderTrainer
from milp_search.adapters.jobs import AdapterTrainer
from milp_search.adapters.packed.trainer import PackedTrainer
from milp_search.adapters.peft_trainer import PeftTrainer
from milp_search.adapters.reusing_trainer import ReusingTrainer
from milp_search.adapters.stage_cache import StageCache
from milp_search.dispatch.folders import CACHE
from milp_search.dispatch.memory import SHARE_OF_ADAPTERS, worker_memory_mib
from milp_search.study.spec import DispatchSettings, StudySpec


def make_cache(spec: StudySpec, folder: Path) -> StageCache | None:
    """Returns the cache in a study's folder that its trials share, None where none is wanted."""
    settings = spec.dispatch
    return StageCache(folder / CACHE, settings.cache_gib * 1024) if settings.reuse else None


def make_trainer(
    base: BaseModel,
    spec: StudySpec,
    cache: StageCache | None = None,
    choices: Sequence[str] = (),
) -> AdapterTrainer:
    """Returns the trainer that a study file asks for.

    Args:
        base: The frozen base model.
        spec: The study.
        cache: Where it looks for stages first; None trains all anew.
        choices: What an answer may be, for a base that cannot write text.

    Returns:
        The trainer; whichever it is, its results are the same.
    """
    trainer: AdapterTrainer
    if base.masked:
        trainer = EncoderTrainer(base, spec.training, choices)
    elif spec.dispatch.trainer == "packed":
        memory_mib = _memory_mib(base, spec.dispatch)
        trainer = PackedTrainer(base, spec.training, memory_mib=memory_mib, spill=cache)
    else:
        trainer = PeftTrainer(base, spec.training)
    return (
        trainer
        if cache is None
        else ReusingTrainer(trainer, cache, text_fingerprint(base, reading(base, spec, choices)))
    )


def reading(base: BaseModel, spec: StudySpec, choices: Sequence[str]) -> list[Any]:
    """Returns what decides how the base reads a text, for cache keys: its template or choices.

    Nothing where texts are plain and to be continued.
    """
    if base.masked:
        return [*choices]
    frame = chat_frame(base.tokenizer, spec.training.chat_template)
    return [] if frame is None else [asdict(frame)]


def _memory_mib(base: BaseModel, settings: DispatchSettings) -> float | None:
    """Returns what may go through the model at once; None for all that is free on a GPU.

    The adapters of a pack of plans are kept in main memory, where they have their share.
    """
    if base.device.type != "cuda":
        return worker_memory_mib(settings) * (1 - SHARE_OF_ADAPTERS)
    if settings.memory_gib is not None:
        return worker_memory_mib(settings)
    # Workers for whom no GPU was set aside are all on the first.
    share = settings.gpus or (1.0 if settings.local else 1 / settings.parallel)
    # Workers that share a GPU start together, and each sees all of it free.
    free = torch.cuda.mem_get_info(base.device)[0] if 0 < share < 1 else None
    return None if free is None else free * share / 2**20

"""Whole trials by mask: training, teacher-forced loss and greedy generation, packed and plain."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any
from unittest import mock

import torch
from setting import Setting, masks
from timing import by_turns, timed

from milp_search.adapters import job_by_job
from milp_search.adapters.base_model import BaseModel
from milp_search.adapters.jobs import Adapter, AdapterTrainer
from milp_search.adapters.lora import fresh_adapter
from milp_search.adapters.packed.trainer import PackedTrainer
from milp_search.adapters.peft_trainer import PeftTrainer
from milp_search.core.records import Predictions
from milp_search.core.settings import TrainingSettings
from milp_search.metrics.table import measure

TRAINERS: dict[str, Callable[[BaseModel, TrainingSettings], AdapterTrainer]] = {
    "plain": PeftTrainer,
    "packed": PackedTrainer,
}


def whole_trials(setting: Setting, repeats: int) -> list[dict[str, Any]]:
    """Returns a row per mask and state of the trainer.

    Cold is the first trial of a new trainer, whose making counts; warm is its second, with another
    seed: hidden states and embeddings are there, adapters are not. Both trainers do both, by
    turns.
    """
    layers = setting.base.shape.layers
    for name in TRAINERS:  # imports, thread pools and text indices are nobody's to pay
        setting.trial(masks(layers, 0)["last layer"], 0, _trainer(name, setting))
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for repeat in range(repeats):
        for mask, ranks in masks(layers, repeat).items():
            kept: dict[str, AdapterTrainer] = {}
            for state, seed in (("cold", 2 * repeat), ("warm", 2 * repeat + 1)):
                row = rows.setdefault((mask, state), _row(setting, mask, state))
                row["ranks"].append(ranks)
                found = {}
                for name in by_turns([*TRAINERS], repeat):
                    seconds, found[name] = timed(partial(_trial, setting, name, ranks, seed, kept))
                    row[f"{name}_s"].append(seconds)
                _compare(row, found["plain"], found["packed"])
                if state == "cold":
                    off = _rounding(setting, ranks, seed, found["plain"])
                    row["rounding"] = max(off, row.get("rounding", 0.0))
    return list(rows.values())


def _trainer(name: str, setting: Setting) -> AdapterTrainer:
    return TRAINERS[name](setting.base, setting.spec.training)


def _trial(
    setting: Setting, name: str, ranks: tuple[int, ...], seed: int, kept: dict[str, AdapterTrainer]
) -> Predictions:
    if name not in kept:
        kept[name] = _trainer(name, setting)
    return setting.trial(ranks, seed, kept[name])


def _row(setting: Setting, mask: str, state: str) -> dict[str, Any]:
    return {
        "setting": setting.name,
        "mask": mask,
        "state": state,
        "ranks": [],
        "plain_s": [],
        "packed_s": [],
        "loss_difference": 0.0,
        "generations": 0,
        "different_generations": 0,
    }


def _compare(row: dict[str, Any], plain: Predictions, packed: Predictions) -> None:
    """Adds the largest difference of a user's loss, and the generations that differ."""
    row["loss_difference"] = max(row["loss_difference"], _loss_difference(plain, packed))
    for one, other in zip(plain.items, packed.items, strict=True):
        row["generations"] += 1
        row["different_generations"] += one.generated != other.generated


def _loss_difference(one: Predictions, other: Predictions) -> float:
    """Returns the largest difference of a user's mean loss."""
    losses: list[Sequence[float]] = [
        measure(each, ["loss"])["loss"].per_user for each in (one, other)
    ]
    return max((abs(mine - theirs) for mine, theirs in zip(*losses, strict=True)), default=0.0)


def _rounding(setting: Setting, ranks: tuple[int, ...], seed: int, plain: Predictions) -> float:
    """Returns how far plain PEFT is from itself, begun one unit in the last place higher.

    Rounding is all that differs at first; the rest is what training makes of it.
    """
    with mock.patch.object(job_by_job, "fresh_adapter", _nudged):
        return _loss_difference(plain, setting.trial(ranks, seed, _trainer("plain", setting)))


def _nudged(*given: Any) -> Adapter:
    fresh = fresh_adapter(*given)
    higher = {
        path: (torch.nextafter(a, torch.full_like(a, math.inf)), b)
        for path, (a, b) in fresh.tensors.items()
    }
    return Adapter(fresh.key, fresh.plan, higher)

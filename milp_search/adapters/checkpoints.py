"""The stages of one training run on disk: another attempt goes on from the last whole one."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, final

import torch

from milp_search.adapters.content_key import content_key
from milp_search.adapters.jobs import AdapterTrainer
from milp_search.adapters.reusing_trainer import ReusingTrainer
from milp_search.adapters.stage_cache import StageCache


@final
@dataclass(frozen=True)
class Checkpoints:
    """Keeps every stage of a run until the run has ended, whatever its size.

    A stage is named by all that decides it, so that one of another plan, seed, base or population
    is never taken. Where the disk is full, a stage is not kept, with a warning, and the run goes
    on.

    Nothing is forced to the disk by fsync. What a process has written outlives the process; what
    a power cut tears or loses fails its digest and is trained anew, which is cheaper than to have
    every stage of every trial wait for the disk.

    Attributes:
        stages: Where the stages lie.
        base_fingerprint: The base model in the stages' names.
    """

    stages: StageCache
    base_fingerprint: str

    @classmethod
    def open(cls, folder: Path, base_fingerprint: str, shared: StageCache | None) -> Self:
        """Returns the checkpoints in a folder, which is made when the first stage ends.

        Args:
            folder: The run's own.
            base_fingerprint: What the trainer's base model is, and how it reads texts.
            shared: The cache that other runs share, on the same disk; what is there is not
                written twice.

        Returns:
            The checkpoints.
        """
        # The run itself holds its stages in memory; and of what it needs nothing may be dropped.
        stages = StageCache(folder, limit_mib=math.inf, memory_mib=0, beside=shared)
        return cls(stages, base_fingerprint)

    def behind(self, trainer: AdapterTrainer) -> AdapterTrainer:
        """Returns a trainer that takes from here what it can, and leaves the rest to another."""
        return ReusingTrainer(
            trainer, self.stages, self.base_fingerprint, local_mib=math.inf, every=True
        )

    def learned(
        self,
        kind: str,
        content: Sequence[Any],
        learn: Callable[[], Mapping[str, torch.Tensor]],
    ) -> Mapping[str, torch.Tensor]:
        """Returns the tensors that this content decides, from here or learned and kept here."""
        key = content_key(kind, self.base_fingerprint, *content)
        entry = self.stages.get(kind, key)
        if entry is not None:
            return entry[0]
        tensors = learn()
        self.stages.put(kind, key, tensors, {})
        return tensors

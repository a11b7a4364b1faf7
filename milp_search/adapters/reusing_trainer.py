"""A trainer that trains nothing twice: adapters and embeddings come from the stage cache."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any
from weakref import WeakKeyDictionary

import torch

from milp_search.adapters.base_model import BaseModel
from milp_search.adapters.content_key import content_key, tensors_digest
from milp_search.adapters.jobs import Adapter, AdapterTrainer, Answer, PredictJob, TrainJob
from milp_search.adapters.stage_cache import StageCache
from milp_search.core.settings import TrainingSettings

_MIB = 2**20
# Settings that do not touch the training of a job. How long it lasts stands in the job, what the
# base learnt before and the chat template in the base's fingerprint; a setting not named here is
# taken to matter.
_NOT_TRAINING = frozenset({
    "injection_epochs", "tuning_epochs", "global_steps", "base_training", "base_epochs",
    "base_learning_rate", "max_new_tokens", "micro_batch", "embedding", "chat_template",
})  # fmt: skip


class ReusingTrainer:
    """An `AdapterTrainer` that asks the cache first and another trainer for the rest.

    Adapters are kept as they are, float32, so that one from the cache is the one first trained,
    bit for bit. Jobs are looked up by their content: those said to be reusable, or all.

    Args:
        inner: Trains, predicts and embeds what is not in the cache.
        cache: Where adapters and embeddings are kept.
        base_fingerprint: The fingerprint of the inner trainer's base model.
        local_mib: A user's adapter is kept up to this size: there are many, and few are asked for
            again. A community's is always kept.
        every: Whether jobs that no other trial asks for are looked up and kept as well.
    """

    def __init__(
        self,
        inner: AdapterTrainer,
        cache: StageCache,
        base_fingerprint: str,
        local_mib: float = 8.0,
        *,
        every: bool = False,
    ):
        self.inner, self.cache, self.base_fingerprint = inner, cache, base_fingerprint
        self._local_bytes, self._every = local_mib * _MIB, every
        self._digests: WeakKeyDictionary[Adapter, str] = WeakKeyDictionary()

    @property
    def base(self) -> BaseModel:
        """The frozen base model; the inner trainer's."""
        return self.inner.base

    @property
    def settings(self) -> TrainingSettings:
        """How adapters are trained; the inner trainer's."""
        return self.inner.settings

    @settings.setter
    def settings(self, settings: TrainingSettings) -> None:
        self.inner.settings = settings

    @property
    def halvings(self) -> int:
        """How often what goes through the model in one pass is halved; the inner trainer's."""
        return self.inner.halvings

    @halvings.setter
    def halvings(self, halvings: int) -> None:
        self.inner.halvings = halvings

    def train(self, jobs: Sequence[TrainJob]) -> list[Adapter]:
        """Returns one adapter per job, in order; equal reusable jobs are one training."""
        # Jobs that are not to be reused have a name of their own, their place.
        names = [self._key(job) if self._reusable(job) else str(n) for n, job in enumerate(jobs)]
        done: dict[str, Adapter] = {}
        missing: dict[str, TrainJob] = {}
        for name, job in zip(names, jobs, strict=True):
            if name in done or name in missing:
                self.cache.count(_kind(job), hit=True)
                continue
            kept = self._kept(name, job) if self._reusable(job) else None
            if kept is None:
                missing[name] = job
            else:
                done[name] = kept
        trained = self.inner.train([*missing.values()]) if missing else []
        for (name, job), adapter in zip(missing.items(), trained, strict=True):
            done[name] = adapter
            if self._reusable(job):
                self._keep(name, job, adapter)
        return [done[name] for name in names]

    def predict(self, jobs: Sequence[PredictJob]) -> list[list[Answer]]:
        """Returns per job one answer per example, in order; see `AdapterTrainer`."""
        return self.inner.predict(jobs)

    def embed(self, texts: Sequence[str]) -> torch.Tensor:
        """Returns the base's mean last hidden state of each text (texts x width, float32).

        The vectors of one call are one entry: every trial asks for the same texts.
        """
        distinct = [*dict.fromkeys(texts)]
        key = content_key("embed", self.base_fingerprint, self.settings.max_length, distinct)
        entry = self.cache.get("embeddings", key)
        if entry is None:
            vectors = self.inner.embed(distinct)
            self.cache.put("embeddings", key, {"vectors": vectors}, {})
        else:
            vectors = entry[0]["vectors"]
        places = {text: place for place, text in enumerate(distinct)}
        return vectors[[places[text] for text in texts]]

    def _reusable(self, job: TrainJob) -> bool:
        # Without rank or examples there is nothing to train.
        return (self._every or job.reusable) and job.plan.total_rank > 0 and bool(job.examples)

    def _kept(self, key: str, job: TrainJob) -> Adapter | None:
        entry = self.cache.get(_kind(job), key)
        if entry is None:
            return None
        tensors, facts = entry
        pairs = {path: (tensors[f"{path}.A"], tensors[f"{path}.B"]) for path in facts["paths"]}
        return Adapter(job.key, job.plan, pairs)

    def _keep(self, key: str, job: TrainJob, adapter: Adapter) -> None:
        tensors = _named(adapter)
        size = sum(tensor.nbytes for tensor in tensors.values())
        if _kind(job) == "global_adapters" or size <= self._local_bytes:
            self.cache.put(_kind(job), key, tensors, {"paths": [*adapter.tensors]})

    def _key(self, job: TrainJob) -> str:
        """Returns the job's content key: equal for jobs that must give the same adapter."""
        return content_key(
            "train",
            self.base_fingerprint,
            *training_content(job, self.settings),
            [self._digest(adapter) for adapter in job.below],
            None if job.start is None else self._digest(job.start),
        )

    def _digest(self, adapter: Adapter) -> str:
        if adapter not in self._digests:
            self._digests[adapter] = adapter_digest(adapter)
        return self._digests[adapter]


def adapter_digest(adapter: Adapter) -> str:
    """Returns what decides the adapter's effect, its key aside."""
    return content_key(asdict(adapter.plan), tensors_digest(_named(adapter)))


def training_content(job: TrainJob, settings: TrainingSettings) -> list[Any]:
    """Returns what decides a job's training beside the base and the adapters it begins with."""
    values = asdict(settings).items()
    return [
        {name: value for name, value in values if name not in _NOT_TRAINING},
        job.key,
        [(example.prompt, example.response) for example in job.examples],
        asdict(job.plan),
        [job.seed, job.epochs, job.steps, job.shuffle],
    ]


def _kind(job: TrainJob) -> str:
    return f"{job.key.partition(':')[0]}_adapters"


def _named(adapter: Adapter) -> Mapping[str, torch.Tensor]:
    return {
        f"{path}.{letter}": tensor
        for path, pair in adapter.tensors.items()
        for letter, tensor in zip("AB", pair, strict=True)
    }

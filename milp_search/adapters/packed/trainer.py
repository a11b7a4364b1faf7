"""The packed trainer: many jobs side by side in one pass over the frozen base."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch

from milp_search.adapters.base_model import BaseModel
from milp_search.adapters.encoding import Encoded
from milp_search.adapters.job_by_job import active, active_plans
from milp_search.adapters.jobs import Adapter, Answer, PredictJob, TrainJob
from milp_search.adapters.lora import fresh_adapter, module_path
from milp_search.adapters.packed.agreement import disagreement
from milp_search.adapters.packed.answering import prompt_row, row_generations, row_losses
from milp_search.adapters.packed.factors import Paths, frozen, lane_weights
from milp_search.adapters.packed.memory import PassSize, is_out_of_memory, memory_plan
from milp_search.adapters.packed.passes import Entry
from milp_search.adapters.packed.prefix import PrefixCache
from milp_search.adapters.packed.rows import Row
from milp_search.adapters.packed.stack import FrozenStack, frozen_stack
from milp_search.adapters.packed.sublayers import Lanes
from milp_search.adapters.packed.training import LaneJob, train_lanes
from milp_search.adapters.peft_trainer import PeftTrainer, step_plan
from milp_search.adapters.stage_cache import StageCache
from milp_search.core.plan import AdapterPlan
from milp_search.core.settings import TrainingSettings

T = TypeVar("T")
R = TypeVar("R")

_MOST_HALVINGS = 3

_logger = logging.getLogger(__name__)


class PackedTrainer:
    """An `AdapterTrainer` with the plain trainer's results, many jobs to a pass.

    Bases whose blocks it does not know are left to the plain trainer, and `reason` says why (None
    where jobs are packed). `step_losses` holds, per adapter of the last `train`, the loss of each
    optimiser step.
    """

    def __init__(
        self, base: BaseModel, settings: TrainingSettings, *, memory_mib: float | None = None,
        spill: StageCache | None = None,
    ):  # fmt: skip
        self.base, self.settings, self.halvings = base, settings, 0
        self.plain = PeftTrainer(base, settings)
        self.step_losses: list[list[float]] = []
        found = frozen_stack(base, settings.max_length)
        self.reason = found if isinstance(found, str) else disagreement(base, found)
        if isinstance(found, str) or self.reason is not None:
            _logger.warning("trials are not packed (%s); plain PEFT trains them", self.reason)
            return
        self._stack: FrozenStack = found
        self._memory = memory_plan(found.device, memory_mib)
        self.prefixes = PrefixCache(
            found, base.fingerprint, memory_mib=self._memory.prefix_mib, spill=spill
        )
        self._paths: Paths = {
            module_path(base.shape, layer, linear): (layer, found.paths[linear.path])
            for layer in range(base.shape.layers)
            for linear in base.shape.maps
            if linear.path in found.paths
        }

    def train(self, jobs: Sequence[TrainJob]) -> list[Adapter]:
        """Returns one adapter per job, in order; see `AdapterTrainer`."""
        if self.reason is not None:
            adapters = self._plain.train(jobs)
            self.step_losses = self.plain.step_losses
            return adapters
        starts = [
            job.start or fresh_adapter(job.key, job.plan, self.base.shape, job.seed) for job in jobs
        ]
        adapters = [
            Adapter(job.key, job.plan, start.tensors)
            for job, start in zip(jobs, starts, strict=True)
        ]
        self.step_losses = [[] for _ in jobs]
        busy = [i for i, job in enumerate(jobs) if job.plan.total_rank > 0 and job.examples]
        for places in self._groups(busy, lambda i: (jobs[i].plan, *active_plans(jobs[i].below))):
            lanes = [self._lane_job(jobs[i], adapters[i]) for i in places]
            for i, (adapter, losses) in zip(places, self._trained(lanes), strict=True):
                adapters[i], self.step_losses[i] = adapter, losses
        return adapters

    def predict(self, jobs: Sequence[PredictJob]) -> list[list[Answer]]:
        """Returns per job one answer per example, in order; see `AdapterTrainer`."""
        if self.reason is not None:
            return self._plain.predict(jobs)
        answers: list[list[Answer]] = [[] for _ in jobs]
        everyone = range(len(jobs))
        for places in self._groups(everyone, lambda i: active_plans(jobs[i].adapters)):
            group = [jobs[i] for i in places]
            weights = lane_weights([job.adapters for job in group], self._paths)
            found = [
                mine
                for part in self._side_by_side_parts(group, 0, weights)
                for mine in self._halving(part, self._answered)
            ]
            for i, mine in zip(places, found, strict=True):
                answers[i] = mine
        return answers

    def embed(self, texts: Sequence[str]) -> torch.Tensor:
        """Returns the base's mean last hidden state of each text (texts x width, float32)."""
        return self._plain.embed(texts)

    @property
    def _plain(self) -> PeftTrainer:
        self.plain.settings, self.plain.halvings = self.settings, self.halvings
        return self.plain

    def _lane_job(self, job: TrainJob, start: Adapter) -> LaneJob:
        rows = [self.plain.texts.encode(example) for example in job.examples]
        steps = step_plan(job, self.settings)
        return LaneJob(start, job.below, tuple(tuple(rows[i] for i in step) for step in steps))

    def _groups(
        self, places: Sequence[int], plans: Callable[[int], tuple[AdapterPlan, ...]]
    ) -> Iterator[list[int]]:
        """Yields jobs that go side by side.

        On a CPU a product costs what it computes, so that plans stay apart and nothing is padded;
        on a GPU it costs its launch, so that all whose bare base ends at the same layer join.
        """
        groups: dict[object, list[int]] = {}
        for place in places:
            own = plans(place)
            first = min((plan.active_layers[0] for plan in own), default=-1)
            groups.setdefault(first if self._stack.device.type == "cuda" else own, []).append(place)
        yield from groups.values()

    def _trained(self, lanes: Sequence[LaneJob]) -> list[tuple[Adapter, list[float]]]:
        """Trains as many lanes side by side as fit."""
        weights = lane_weights([(lane.start,) for lane in lanes], self._paths)
        below = lane_weights([lane.below for lane in lanes], self._paths)
        parts = self._side_by_side_parts(lanes, weights, below)
        return [pair for part in parts for pair in self._halving(part, self._side_by_side)]

    def _side_by_side_parts(
        self, lanes: Sequence[T], weights: int, below: int
    ) -> list[Sequence[T]]:
        """Returns the lanes, of so many trainable and frozen weights each, in parts that fit."""
        most = max(self._memory.lanes(weights, below) >> self.halvings, 1)
        return [lanes[first : first + most] for first in range(0, len(lanes), most)]

    def _side_by_side(
        self, lanes: Sequence[LaneJob], halvings: int
    ) -> list[tuple[Adapter, list[float]]]:
        texts = [text for lane in lanes for step in lane.steps for text in step]
        stacks = [(lane.start, *lane.below) for lane in lanes]
        adapters, losses = train_lanes(
            self._stack, self._paths, self.prefixes, lanes, self.settings,
            self._pass_size(stacks, texts, halvings),
        )  # fmt: skip
        return list(zip(adapters, losses, strict=True))

    def _answered(self, jobs: Sequence[PredictJob], halvings: int) -> list[list[Answer]]:
        lanes = Lanes(None, frozen([job.adapters for job in jobs], self._paths, self._stack.device))
        every = [(lane, example) for lane, job in enumerate(jobs) for example in job.examples]
        rows = [Row(lane, self.plain.texts.encode(example)) for lane, example in every]
        stacks, encoded = [job.adapters for job in jobs], [row.text for row in rows]
        tokens = self._pass_size(stacks, encoded, halvings).tokens
        losses = row_losses(self._stack, self.prefixes, rows, lanes, tokens)
        texts: dict[int, str] = {}
        asked = [place for place, (lane, _) in enumerate(every) if jobs[lane].generate]
        if asked:
            prompts = [
                prompt_row(lane, self.plain.texts.encode_prompt(example))
                for lane, example in (every[place] for place in asked)
            ]
            texts = dict(zip(asked, self._generated(prompts, lanes, halvings), strict=True))
        answers: list[list[Answer]] = [[] for _ in jobs]
        for place, (row, loss) in enumerate(zip(rows, losses, strict=True)):
            answers[row.lane].append(Answer(loss, row.text.supervised, texts.get(place)))
        return answers

    def _generated(self, prompts: Sequence[Row], lanes: Lanes, halvings: int) -> list[str]:
        tokenizer, new = self.base.tokenizer, self.settings.max_new_tokens
        longest = max(len(row.text) for row in prompts)
        tokens = self._memory.generating(self._stack, longest, new, self.halvings + halvings)
        found = row_generations(self._stack, prompts, lanes, new, self.plain.texts.ends, tokens)
        texts: list[str] = tokenizer.batch_decode(found, skip_special_tokens=True)
        return [text.strip() for text in texts]

    def _pass_size(
        self, stacks: Sequence[Sequence[Adapter]], texts: Sequence[Encoded], halvings: int
    ) -> PassSize:
        stacked = [adapter for stack in stacks for adapter in active(stack)]
        top = len(self._stack.blocks) - 1
        first = min((adapter.plan.active_layers[0] for adapter in stacked), default=top)
        below_ffn = any(a.plan.target_maps == "q_v" and a.plan.ranks[first] > 0 for a in stacked)
        return self._memory.training(
            self._stack,
            Entry(first, not below_ffn),
            max(map(len, texts), default=1),
            max((_ranks(stack) for stack in stacks), default=0),
            max((text.supervised / len(text) for text in texts), default=1.0),
            self.halvings + halvings,
        )

    def _halving(
        self, items: Sequence[T], run: Callable[[Sequence[T], int], list[R]], halvings: int = 0
    ) -> list[R]:
        """Runs all items at once, or where memory runs out each half of them by itself.

        A single item is tried with smaller passes, three times halved.
        """
        try:
            return run(items, halvings)
        except Exception as error:
            if not is_out_of_memory(error) or (len(items) == 1 and halvings == _MOST_HALVINGS):
                raise
        if self._stack.device.type == "cuda":
            torch.cuda.empty_cache()
        _logger.info("out of memory with %d lanes side by side; halving", len(items))
        if len(items) == 1:
            return self._halving(items, run, halvings + 1)
        middle = len(items) // 2
        halves = (items[:middle], items[middle:])
        return [result for half in halves for result in self._halving(half, run, halvings)]


def _ranks(adapters: Sequence[Adapter]) -> int:
    return sum(a.shape[0] for adapter in adapters for a, _ in adapter.tensors.values())

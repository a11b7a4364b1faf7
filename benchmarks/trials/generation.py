"""Greedy generation of all validation answers, packed and plain, of one plan and of a pack."""

from __future__ import annotations

from functools import partial
from typing import Any

from setting import Setting, masks
from timing import by_turns, timed
from whole_trial import TRAINERS

from milp_search.adapters.jobs import Answer, PredictJob
from milp_search.adapters.packed.trainer import PackedTrainer
from milp_search.personalize.reuse import run_held_out_examples
from milp_search.personalize.run import queries_of, train

_MASKS = ("all layers", "last layer")
_PLANS = (1, 4)


def generations(setting: Setting, repeats: int) -> list[dict[str, Any]]:
    """Returns a row per mask and number of plans whose answers are generated together.

    The seconds are those of answering with generation less those of the losses alone.
    """
    rows = []
    for mask in _MASKS:
        jobs = _jobs(setting, mask, max(_PLANS))
        rows += [_row(setting, mask, plans, jobs[:plans], repeats) for plans in _PLANS]
    return rows


def _jobs(setting: Setting, mask: str, plans: int) -> list[list[PredictJob]]:
    """Returns per plan (equal but for the seed) the jobs that answer the validation queries."""
    trainer = PackedTrainer(setting.base, setting.spec.training)
    users = setting.task.targets
    queries = tuple(queries_of(user, "validation") for user in users)
    jobs = []
    for seed in range(plans):
        run = setting.run(masks(setting.base.shape.layers, 0)[mask], seed, trainer)
        stacks, examples = train(run).stacks, run_held_out_examples(run, queries)
        jobs.append([PredictJob(e, stacks[u.user]) for u, e in zip(users, examples, strict=True)])
    return jobs


def _row(
    setting: Setting, mask: str, plans: int, jobs: list[list[PredictJob]], repeats: int
) -> dict[str, Any]:
    trainers = {name: make(setting.base, setting.spec.training) for name, make in TRAINERS.items()}
    asked = {
        generate: [PredictJob(j.examples, j.adapters, generate) for one in jobs for j in one]
        for generate in (False, True)
    }
    for trainer in trainers.values():
        trainer.predict(asked[True])  # hidden states are there from now on
    row: dict[str, Any] = {"setting": setting.name, "mask": mask, "plans": plans}
    row |= {f"{name}_s": [] for name in trainers}
    row |= {f"{name}_losses_s": [] for name in trainers}
    found: dict[str, list[list[Answer]]] = {}
    for repeat in range(repeats):
        for name in by_turns([*trainers], repeat):
            losses_s, _ = timed(partial(trainers[name].predict, asked[False]))
            both_s, found[name] = timed(partial(trainers[name].predict, asked[True]))
            row[f"{name}_losses_s"].append(losses_s)
            row[f"{name}_s"].append(both_s - losses_s)
    texts = {name: [a.generated for one in answers for a in one] for name, answers in found.items()}
    row["generations"] = len(texts["plain"])
    row["different_generations"] = sum(
        one != other for one, other in zip(texts["plain"], texts["packed"], strict=True)
    )
    return row

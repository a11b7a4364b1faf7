"""Says what a study would do, without training."""

from __future__ import annotations

import random

from rich.console import Console
from rich.table import Table

from milp_search.adapters.base_model import load_base_model
from milp_search.core.arm import Arm
from milp_search.core.plan import TrialPlan
from milp_search.dispatch.drive import Prepared
from milp_search.dispatch.estimate import estimate
from milp_search.dispatch.progress import clock
from milp_search.dispatch.source import largest_pack
from milp_search.space.row_space import Space

_SAMPLES = 64


def print_dry_run(prepared: Prepared, console: Console) -> None:
    """Prints trials, parameters, and the expected time and disk space."""
    spec, space, task = prepared.spec, prepared.space, prepared.task
    device, precision = spec.dispatch.device, spec.base_precision
    trust = spec.trust_remote_code
    base = load_base_model(
        spec.base_model, device=device, precision=precision, trust_remote_code=trust
    )
    expected = estimate(spec, task, base, sample_plans(space, spec.method, len(task.targets)))
    table = Table("parameter", "values", title=f"{spec.name}: {space.size:,} arms")
    for parameter in space.parameters:
        table.add_row(parameter.name, ", ".join(map(str, parameter.values)))
    console.print(table)
    workers = 1 if spec.dispatch.local else spec.dispatch.parallel
    rest = spec.budget.trials - spec.initial_trials
    queries = sum(len(user.validation) for user in task.targets)
    for line in (
        f"trials: {spec.budget.trials} ({spec.initial_trials} Sobol, {rest} {spec.proposer}), "
        f"{workers} workers, packs of up to {largest_pack(spec.dispatch, spec.batch)}",
        f"data: {task.name}, {len(task.targets)} target users, {queries} validation queries, "
        f"{len(task.others)} users for the base stage ({spec.training.base_training})",
        f"expected time: about {clock(expected.trial_s)} per trial, "
        f"{clock(expected.study_s)} for the study (proposals and base stage not counted)",
        f"expected disk: about {expected.disk_mib:.1f} MiB of adapters",
    ):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def sample_plans(space: Space, method: str, users: int) -> list[TrialPlan]:
    """Returns plans of random arms, the same ones each time."""
    draw = random.Random(0)
    arms = [
        Arm({parameter.name: draw.choice(parameter.values) for parameter in space.parameters})
        for _ in range(_SAMPLES)
    ]
    return [space.plan(arm, method, users) for arm in arms]

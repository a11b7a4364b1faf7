"""Says what a study would do, without training."""

from __future__ import annotations

import random

from rich.console import Console
from rich.table import Table

from milp_search.adapters.base_model import load_base_model
from milp_search.core.arm import Arm
from milp_search.core.plan import TrialPlan
from milp_search.dispatch.check_base import workers_device
from milp_search.dispatch.drive import Prepared
from milp_search.dispatch.estimate import estimate
from milp_search.dispatch.progress import clock
from milp_search.dispatch.rehearsal import rehearse
from milp_search.dispatch.source import largest_pack
from milp_search.endpoint.client import server_url
from milp_search.space.row_space import Space

_SAMPLES = 64
_REHEARSED = 8


def print_dry_run(prepared: Prepared, console: Console) -> None:
    """Prints trials, parameters, and the expected time and disk space, or the questions.

    A model behind an endpoint is not asked.
    """
    spec, space, task = prepared.spec, prepared.space, prepared.task
    table = Table("parameter", "values", title=f"{spec.name}: {space.size:,} arms")
    for parameter in space.parameters:
        table.add_row(parameter.name, ", ".join(map(str, parameter.values)))
    console.print(table)
    workers = 1 if spec.dispatch.local else spec.dispatch.parallel
    gpus = f" of {spec.dispatch.gpus:g} GPUs each" if spec.dispatch.gpus else ""
    assert spec.initial_trials is not None  # a prepared study's is known
    rest = spec.budget.trials - spec.initial_trials
    queries = sum(len(user.validation) for user in task.targets)
    for line in (
        f"trials: {spec.budget.trials} ({spec.initial_trials} Sobol, {rest} {spec.proposer}), "
        f"{workers} workers{gpus}, packs of up to {largest_pack(spec.dispatch, spec.batch)}",
        f"data: {task.name}, {len(task.targets)} target users, {queries} validation queries"
        + ("" if spec.endpoint else _base_stage_text(prepared)),
        *(_questions_lines(prepared) if spec.endpoint else _training_lines(prepared)),
    ):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _base_stage_text(prepared: Prepared) -> str:
    mode = prepared.spec.training.base_training
    return f", {len(prepared.task.others)} users for the base stage ({mode})"


def _training_lines(prepared: Prepared) -> list[str]:
    spec, task = prepared.spec, prepared.task
    device, precision = workers_device(spec), spec.base_precision
    base = load_base_model(
        spec.base_model,
        device=device,
        precision=precision,
        trust_remote_code=spec.trust_remote_code,
    )
    plans = sample_plans(prepared.space, spec.method, len(task.targets))
    expected = estimate(spec, task, base, plans)
    return [
        f"expected time: about {clock(expected.trial_s)} per trial, "
        f"{clock(expected.study_s)} for the study (proposals and base stage not counted)",
        f"expected disk: about {expected.disk_mib:.1f} MiB of adapters",
    ]


def _questions_lines(prepared: Prepared) -> list[str]:
    spec, server = prepared.spec, prepared.spec.endpoint
    assert server is not None
    plans = sample_plans(prepared.space, spec.method, len(prepared.task.targets))
    found = rehearse(spec, prepared.task, plans[:_REHEARSED])
    budget = "no limit" if server.token_budget is None else f"{server.token_budget:,} tokens"
    lines = [
        f"asks: {server.model} at {server_url(server)}, {server.concurrency} questions at once "
        "in each worker; now nothing is asked",
        f"expected questions: about {found.questions:.0f} per trial, of about "
        f"{found.tokens:,.0f} tokens with their answers; {found.study_tokens:,.0f} tokens for the "
        "study, fewer where trials ask the same",
        f"token budget: {budget}, hard",
    ]
    money = server.money(found.study_prompt_tokens, found.study_answer_tokens)
    if money is not None:
        lines.append(f"expected money: about {money:.2f} {server.currency}")
    if spec.judge is not None:
        lines.append(f"judge: {spec.judge.model} at {server_url(spec.judge)}, not counted here")
    return lines


def sample_plans(space: Space, method: str, users: int) -> list[TrialPlan]:
    """Returns plans of random arms, the same ones each time."""
    draw = random.Random(0)
    arms = [
        Arm({parameter.name: draw.choice(parameter.values) for parameter in space.parameters})
        for _ in range(_SAMPLES)
    ]
    return [space.plan(arm, method, users) for arm in arms]

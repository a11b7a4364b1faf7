"""MiLP and LoGo joined: MiLP's adapters and two stages inside LoGo's pipeline."""

from __future__ import annotations

from milp_search.personalize.global_chain import global_adapters
from milp_search.personalize.local import inject_memory, stacked, tune_on_instructions
from milp_search.personalize.method import Run, Stacks


def milp_logo(run: Run) -> Stacks:
    """Returns per user the community's global adapter and, on top, a local one with memory.

    The local adapter goes through MiLP's two stages, memory injection and instruction tuning,
    both on top of the frozen global adapter; the mediator orders the second as in LoGo.

    Source: the join of MiLP, section 2, and LoGo, section 3; ours.
    """
    if run.plan.adapter.total_rank == 0:
        return {user.user: () for user in run.task.targets}
    below = global_adapters(run)
    learnt_on = {} if run.plan.mediator == "none" else below
    memory = inject_memory(run, learnt_on)
    local = tune_on_instructions(run, learnt_on, memory, shuffle=run.plan.mediator != "temporal")
    return stacked(run, below, local)

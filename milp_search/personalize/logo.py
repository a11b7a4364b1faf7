"""LoGo: global knowledge per community, and a local adapter trained on top of it."""

from __future__ import annotations

from milp_search.personalize.global_chain import global_adapters
from milp_search.personalize.local import stacked, tune_on_instructions
from milp_search.personalize.method import Run, Stacks


def logo(run: Run) -> Stacks:
    """Returns per user the community's frozen global adapter and the user's own on top.

    Mediator `temporal` trains the local adapter in chronological order on top of the global one,
    `shuffled` in random order; `none` trains it on the bare base, and both are applied.

    Source: LoGo, Eq. 4 to 7 and Figure 4.
    """
    if run.plan.adapter.total_rank == 0:
        return {user.user: () for user in run.task.targets}
    below = global_adapters(run)
    learnt_on = {} if run.plan.mediator == "none" else below
    local = tune_on_instructions(run, learnt_on, shuffle=run.plan.mediator != "temporal")
    return stacked(run, below, local)


def logo_global(run: Run) -> Stacks:
    """Returns per user the community's global adapter alone.

    Source: LoGo, section 5 (global knowledge without the local one).
    """
    if run.plan.adapter.total_rank == 0:
        return {user.user: () for user in run.task.targets}
    return global_adapters(run)

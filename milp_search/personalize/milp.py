"""MiLP: parameterised memory per user, then alignment with instructions."""

from __future__ import annotations

from milp_search.personalize.local import inject_memory, stacked, tune_on_instructions
from milp_search.personalize.method import Run, Stacks


def milp(run: Run) -> Stacks:
    """Returns one adapter per user: memory injection, then instruction tuning.

    The paper says nothing of the order of examples; ours: shuffled, as is usual.

    Source: MiLP, sections 2.1 to 2.3.
    """
    memory = inject_memory(run, {})
    return stacked(run, {}, tune_on_instructions(run, {}, memory, shuffle=True))


def milp_tuning_only(run: Run) -> Stacks:
    """Returns one adapter per user without memory injection.

    Source: MiLP, Table 5 (instruction tuning only).
    """
    return stacked(run, {}, tune_on_instructions(run, {}, shuffle=True))


def milp_injection_only(run: Run) -> Stacks:
    """Returns one adapter per user after memory injection alone.

    Source: MiLP, Table 5 (memory injection only).
    """
    return stacked(run, {}, inject_memory(run, {}))

"""OPPU: one LoRA per user on query and value, from that user's history alone."""

from __future__ import annotations

from milp_search.personalize.local import stacked, tune_on_instructions
from milp_search.personalize.method import Run, Stacks


def oppu(run: Run) -> Stacks:
    """Returns one adapter per user, tuned from query to response in shuffled order.

    OPPU's task LoRA, merged into the base before, is the study's base stage
    (`base_training: lora`). The published code never resets its training data between users;
    here each user's job holds that user's examples and no others.

    Source: Tan et al. 2024 (OPPU), as described in LoGo, App. B.
    """
    return stacked(run, {}, tune_on_instructions(run, {}, shuffle=True))

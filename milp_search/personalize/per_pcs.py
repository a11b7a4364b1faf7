"""PER-PCS: users share pieces of their adapters; who is new composes one without training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from milp_search.adapters.jobs import Adapter, Example, TrainJob
from milp_search.adapters.pieces import Pieces, composed, train_gates
from milp_search.core.methods import METHODS, MOST_SHARERS
from milp_search.core.records import UserTask
from milp_search.personalize.communities import communities
from milp_search.personalize.local import tune_on_instructions
from milp_search.personalize.method import Run, Stacks, as_targets
from milp_search.personalize.reuse import run_profile_vectors, run_training_examples

_TOP = METHODS["per_pcs"].pieces  # PER-PCS: pieces that one layer is composed of
_CANDIDATES = 4 * MOST_SHARERS  # ours: bounds the texts that are embedded to choose sharers
_FEWEST = 8  # ours: among fewer sharers, the three best pieces of a layer are hardly a choice


def per_pcs(run: Run) -> Stacks:
    """Returns per target an adapter composed of the pieces that others share.

    Sharers train a LoRA each as in OPPU, then, with all else frozen, a gate for each linear map
    that carries LoRA (the paper's maps are q and v). A target trains nothing: from the bottom up,
    each map takes the three pieces whose gates are most like its mean input over the target's
    history. Gates learn from the examples of their LoRA in as many passes and at the same rate
    (ours; we know no setting of the paper's).

    Nobody is served by pieces of their own: that would be OPPU. A target without history, or
    without anybody who shares, is answered by the base model.

    Source: Tan et al. 2024a (PER-PCS), as described in LoGo, section 4.1.
    """
    nobody: Stacks = {user.user: () for user in run.task.targets}
    if run.plan.adapter.total_rank == 0:
        return nobody
    pool = _pool(run, sharers(run))
    histories = zip(run.task.targets, run_training_examples(run), strict=True)
    return {user.user: _stack(run, user.user, examples, pool) for user, examples in histories}


def sharers(run: Run) -> tuple[UserTask, ...]:
    """Returns the users who share, at most 32, each with a history.

    They are the users who are no targets, as in the paper; where fewer than eight of those have a
    history, they are the targets themselves. Of more than 32, the longest histories are grouped
    by their profile vectors, and the most active user of each group shares.
    """
    candidates = [user for user in as_targets(run.task.others) if user.history]
    if len(candidates) < _FEWEST:
        candidates = [user for user in run.task.targets if user.history]
    if len(candidates) <= MOST_SHARERS:
        return tuple(candidates)
    active = sorted(candidates, key=lambda user: -len(user.history))[:_CANDIDATES]
    vectors = run_profile_vectors(run.among(active))
    groups = communities(vectors, MOST_SHARERS, run.seed)
    return tuple(active[group[0]] for group in groups)


def _pool(run: Run, sharing: Sequence[UserTask]) -> Mapping[str, Pieces]:
    """Returns the pieces by the sharer whose they are."""
    if not sharing:
        return {}
    their = run.among(sharing)
    shown = run_training_examples(their)
    adapters = tune_on_instructions(their, {}, shuffle=True, examples=shown)
    return {
        user.user: train_gates(
            run.trainer, adapters[user.user], _gate_job(run, user, examples), run.checkpoints
        )
        for user, examples in zip(sharing, shown, strict=True)
    }


def _gate_job(run: Run, user: UserTask, examples: tuple[Example, ...]) -> TrainJob:
    epochs = run.settings.tuning_epochs
    key = f"gates:{user.user}"
    return TrainJob(key, examples, run.plan.adapter, run.seed, epochs=epochs, shuffle=True)


def _stack(
    run: Run, user: str, examples: Sequence[Example], pool: Mapping[str, Pieces]
) -> tuple[Adapter, ...]:
    others = [pieces for owner, pieces in pool.items() if owner != user]
    if not others or not examples:
        return ()
    return (composed(run.trainer, others, _TOP, examples, f"local:{user}"),)

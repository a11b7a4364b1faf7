"""P2P: a hypernetwork maps a user's profile to the weights of a LoRA, without training for them."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from milp_search.adapters.hypernetwork import fit_hypernetwork
from milp_search.adapters.jobs import TrainJob
from milp_search.adapters.text_embedding import text_embedding
from milp_search.core.records import PersonalizationTask, UserTask
from milp_search.personalize.item_vectors import item_vectors, means_before, standardised
from milp_search.personalize.method import Run, Stacks, as_targets
from milp_search.personalize.reuse import run_training_examples

_PER_TARGET = 4  # ours: learners per target, which bounds a trial's cost to so many times OPPU's


def p2p(run: Run) -> Stacks:
    """Returns one adapter per user, made of the user's profile by one hypernetwork.

    The hypernetwork is trained end to end through the frozen base, `tuning_epochs` passes over the
    learners' histories in random order; no adapter is trained for anybody. The paper embeds a
    summary with retrieved items by an embedding model; here a profile is the mean of the embedded
    items (LoGo, Eq. 5), while learning of those before the item alone, so that no profile holds
    the answer to be learnt. A profile text and retrieved items stand in the prompt where the plan
    says so, as in every method. LoGo does not say which maps carry the LoRA; q and v by default,
    as in OPPU, with which the authors compare (ours).

    Source: Tan et al. 2025b (P2P), as described in LoGo, section 2.
    """
    targets = run.task.targets
    if run.plan.adapter.total_rank == 0:
        return {user.user: () for user in targets}
    learners = learning_users(run.task)
    profiles = _profiles(run, learners)
    examples = run_training_examples(run.among(learners))
    job = TrainJob(
        key="p2p",
        examples=tuple(example for own in examples for example in own),
        plan=run.plan.adapter,
        seed=run.seed,
        epochs=run.settings.tuning_epochs,
        shuffle=True,
    )
    before = [profile for user in learners for profile in profiles[user.user][:-1]]
    network = fit_hypernetwork(run.trainer, job, before, run.checkpoints)
    return {
        user.user: (network.adapter(f"local:{user.user}", profiles[user.user][-1]),)
        for user in targets
    }


def learning_users(task: PersonalizationTask) -> tuple[UserTask, ...]:
    """Returns who trains the hypernetwork: the most active of those who are no targets.

    Where these are fewer than the targets, too few to learn from how users differ, it is the
    targets themselves, by their training histories (ours).

    Source: LoGo, section 2 (P2P learns of high-resource users, for others).
    """
    if len(task.others) < len(task.targets):
        return task.targets
    active = sorted(task.others, key=lambda user: -len(user.interactions))
    most = active[: _PER_TARGET * len(task.targets)]
    return tuple(as_targets(most))


def _profiles(run: Run, learners: Sequence[UserTask]) -> dict[str, torch.Tensor]:
    """Returns each user's profile before each item of the history, and after the last."""
    users = {user.user: user for user in (*learners, *run.task.targets)}
    vectors = standardised(item_vectors([*users.values()], text_embedding(run.trainer)))
    means = [torch.from_numpy(means_before(one)) for one in vectors]
    return dict(zip(users, means, strict=True))

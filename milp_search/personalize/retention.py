"""What a user's adapters cost on held-out texts of other users."""

from __future__ import annotations

from collections.abc import Sequence

from milp_search.adapters.jobs import Example, PredictJob
from milp_search.core.errors import SpecError
from milp_search.core.records import Interaction, PersonalizationTask
from milp_search.metrics.loss import nats_per_token
from milp_search.personalize.method import Run, Stacks
from milp_search.personalize.retrieval import held_out_examples, random_places

_TEXTS = 32  # ours: of each user's others; the cost is a mean over their tokens
_SEED = 0  # ours: fixed, so that all trials and all test seeds measure on the same texts

Held = Sequence[Sequence[Interaction]]
"""Each target's held-out interactions of one split, in the task's order."""


def retention_costs(run: Run, stacks: Stacks, held_out: Held) -> dict[str, float]:
    """Returns per user the nats per token that the user's stack adds on other users' texts.

    The texts are other targets' held-out exchanges of the split that is measured: no method and
    no base stage has learnt from them, whereas the users who are no targets may have trained the
    base, and some methods learn from them too. So the validation split never sees test texts,
    and the costs of all methods compare. Members of the user's own community are among the
    others; where what the community shares helps them, the cost is lowered, and may be negative.

    Queries stand alone in their prompts, without retrieved items or a profile. A method that
    answers in a way of its own (`Trained.respond`) is measured on its stacks all the same. Texts
    are scored, never generated from or kept; without an adapter the cost is 0.
    """
    users = [user.user for user in run.task.targets]
    asked = {
        user: others_examples(held_out, place, user)
        for place, user in enumerate(users)
        if stacks[user]
    }
    costs = _costs(run, stacks, asked) if asked else {}
    return {user: costs.get(user, 0.0) for user in users}


def others_examples(held_out: Held, place: int, user: str) -> tuple[Example, ...]:
    """Returns up to 32 held-out exchanges of the targets at other places, drawn for this user."""
    others = [one for other, items in enumerate(held_out) if other != place for one in items]
    chosen = random_places([len(others)], _TEXTS, _SEED, user)[0]
    texts = [others[number] for number in sorted(chosen.tolist()) if number >= 0]
    return held_out_examples((), texts, 0)


def check_other_targets(task: PersonalizationTask) -> None:
    """Raises SpecError if there is but one target: there are no other users' texts."""
    if len(task.targets) < 2:
        raise SpecError(
            f"expected at least 2 target users to measure `retention`, got {len(task.targets)}",
            remedy="Take `retention` out, or raise `data.targets`.",
        )


def _costs(run: Run, stacks: Stacks, asked: dict[str, tuple[Example, ...]]) -> dict[str, float]:
    distinct = tuple(dict.fromkeys(one for examples in asked.values() for one in examples))
    jobs = [PredictJob(distinct, (), generate=False)]
    jobs += [PredictJob(examples, stacks[user], generate=False) for user, examples in asked.items()]
    plain, *adapted = run.trainer.predict(jobs)
    alone = dict(zip(distinct, plain, strict=True))
    return {
        user: nats_per_token(answers) - nats_per_token([alone[one] for one in examples])
        for (user, examples), answers in zip(asked.items(), adapted, strict=True)
    }
